import { type ArmCurve, curvesFigure } from './curves.js';
import { brief, count, escapeHtml, percent } from './html.js';
import type { ReportData, TargetTable } from './report.js';

export const head = (cells: readonly string[]): string =>
  `<thead><tr>${cells.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join('')}</tr></thead>`;

export const row = (name: string, cells: readonly string[], isOurs = false): string =>
  `<tr${isOurs ? ' class="ours"' : ''}><th scope="row">${escapeHtml(name)}</th>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;

export const scrolling = (label: string, table: string): string =>
  `<div class="scroll" role="region" aria-label="${escapeHtml(label)}" tabindex="0"><table>${table}</table></div>`;

/** What each arm throttles against what it withholds. */
export function curvesSection({ curves }: ReportData): string {
  if (!curves || curves.arms.length === 0) return '';
  const at = Object.keys(curves.arms[0]!.throttledAtWithheld).sort((a, b) => Number(a) - Number(b));
  const cell = (curve: ArmCurve, withheld: string): string => {
    const fraction = curve.throttledAtWithheld[withheld];
    return fraction === null || fraction === undefined ? '–' : percent(fraction);
  };
  const rows = curves.arms.map((curve) =>
    row(
      curve.arm,
      at.map((withheld) => cell(curve, withheld)),
      curve.arm === 'foretoken',
    ),
  );
  const points = curves.arms.flatMap(({ arm, points }) =>
    points.map((point) =>
      row(`${arm} ${point.variant}`, [point.withheld.toFixed(3), percent(point.throttledFraction)]),
    ),
  );
  return `<section aria-labelledby="pareto">
<h2 id="pareto">Throttled against withheld</h2>
<div class="scroll" role="region" aria-label="Curves" tabindex="0">${curvesFigure(curves.arms, curves.title)}</div>
<p class="quiet">Each mark is a setting of an arm's head-room: a factor on what it counts with, or the quantile of
Foretoken's forecast. Withheld is what targets were given and neither used nor lent, in multiples of the mean demand of
${brief(curves.meanRatePerSec)} tokens/s. Further left and lower is better. Settings that another one of the same arm beats
at both are left out, and those that throttle far more than the reactive arm lie beyond the picture; the law was ${curves.lawViolations === 0 ? 'kept at every setting' : `broken ${count(curves.lawViolations)} times`}.</p>
${scrolling('Throttled at equal cost', `${head(['Throttled at so much withheld', ...at])}<tbody>${rows.join('\n')}</tbody>`)}
<details><summary>The settings of the curves</summary>${scrolling('The settings of the curves', `${head(['Setting', 'Withheld', 'Throttled'])}<tbody>${points.join('\n')}</tbody>`)}</details>
</section>`;
}

/** Every target beside the others: what each arm denied it. */
export function targetsSection({ perTarget }: ReportData): string {
  if (!perTarget || perTarget.rows.length === 0) return '';
  const left = perTarget.left === 0 ? '' : ` ${count(perTarget.left)} more that were throttled less are left out.`;
  return `<section aria-labelledby="targets">
<h2 id="targets">Every target</h2>
${scrolling('Every target', targetTable(perTarget))}
<p class="quiet">Tokens offered in the scored part, and the part of them that each arm denied.${left}</p>
</section>`;
}

function targetTable({ arms, rows }: TargetTable): string {
  const lines = rows.map(({ name, offered, throttledFraction }) =>
    row(name, [brief(offered), ...throttledFraction.map(percent)]),
  );
  return `${head(['Target', 'Offered', ...arms])}<tbody>${lines.join('\n')}</tbody>`;
}

/** Every option as used. */
export function settingsSection({ settings }: ReportData): string {
  if (!settings) return '';
  const lines = settings.map(([name, value]) => row(name, [value]));
  return `<section aria-labelledby="settings">
<h2 id="settings">The settings</h2>
${scrolling('The settings', `<tbody>${lines.join('\n')}</tbody>`)}
</section>`;
}
