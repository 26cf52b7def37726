import { brief, count, duration, escapeHtml, percent } from './html.js';
import type { ReportArm, ReportData } from './report.js';

const ours = (data: ReportData): ReportArm | undefined => data.arms.find((arm) => arm.name === 'foretoken');

const card = (label: string, value: string, more: string): string =>
  `<div class="card"><dt>${escapeHtml(label)}</dt><dd><strong>${escapeHtml(value)}</strong><span>${escapeHtml(more)}</span></dd></div>`;

/** Heading and the figures one looks for first. */
export function headerSection(data: ReportData): string {
  const foretoken = ours(data);
  const others = data.arms.filter((arm) => arm !== foretoken && arm.name !== 'oracle' && arm.name !== 'pool');
  const best = others.reduce<ReportArm | undefined>(
    (least, arm) => (least === undefined || arm.throttledFraction < least.throttledFraction ? arm : least),
    undefined,
  );
  const cards: string[] = [];
  if (foretoken !== undefined) {
    const beside =
      best === undefined
        ? 'of the offered tokens'
        : `of the offered tokens; ${best.name} ${percent(best.throttledFraction)}`;
    cards.push(card('Throttled', percent(foretoken.throttledFraction), beside));
    cards.push(card('Utilization', percent(foretoken.utilization), `of ${brief(data.resource.ratePerSec)} tokens/s`));
  }
  if (data.capture !== undefined) {
    const value = data.capture === null ? '–' : data.capture.toFixed(2);
    cards.push(
      card('Capture', value, data.capture === null ? 'there was nothing to gain' : 'of what perfect foresight gains'),
    );
  }
  const kept = data.law.violations === 0;
  cards.push(card('Resource law', kept ? 'kept' : 'broken', `${count(data.law.violations)} violations`));
  cards.push(card('Requests', brief(data.requestCount), `of ${count(data.targetCount)} targets`));
  cards.push(card('Time', duration(data.durationS), `in steps of ${duration(data.stepS)}`));
  const made = new Date(data.madeAtMs).toISOString();
  const command = data.command === undefined ? '' : `<code>${escapeHtml(data.command)}</code> · `;
  return `<header>
<h1>${escapeHtml(data.title)}</h1>
<p class="quiet">${command}<time datetime="${made}">${made.slice(0, 16).replace('T', ' ')} UTC</time></p>
<dl class="cards">${cards.join('')}</dl>
</header>`;
}

const usual: readonly (readonly [string, (arm: ReportArm) => string])[] = [
  ['Offered', (arm) => brief(arm.offered)],
  ['Admitted', (arm) => brief(arm.admitted)],
  ['Throttled', (arm) => percent(arm.throttledFraction)],
  ['Worst target', (arm) => percent(arm.worstTargetThrottledFraction)],
  ['Utilization', (arm) => percent(arm.utilization)],
  ['Law violations', (arm) => count(arm.lawViolations)],
];

/** Columns of figures that not every report has. */
const columnsOf = ({ arms }: ReportData): typeof usual => [
  ...usual.slice(0, -1),
  ...(arms.some(({ withheldFraction }) => withheldFraction !== undefined)
    ? [['Withheld', (arm: ReportArm) => percent(arm.withheldFraction ?? Number.NaN)] as const]
    : []),
  ...(arms.some(({ minMaxRatio }) => minMaxRatio !== undefined)
    ? [['Min-max ratio', (arm: ReportArm) => (arm.minMaxRatio ?? Number.NaN).toFixed(3)] as const]
    : []),
  ...usual.slice(-1),
];

/** Every arm beside the others; the bar is the throttled fraction. */
export function armsSection(data: ReportData): string {
  const most = Math.max(...data.arms.map((arm) => arm.throttledFraction), Number.MIN_VALUE);
  const columns = columnsOf(data);
  const row = (arm: ReportArm): string => {
    const variant = arm.variant === undefined ? '' : ` <span class="quiet">${escapeHtml(arm.variant)}</span>`;
    const cells = columns.map(([label, text]) => {
      if (label === 'Throttled') {
        const width = ((Math.max(0, arm.throttledFraction) / most) * 100).toFixed(1);
        return `<td class="bar"><i style="width:${width}%"></i><span>${text(arm)}</span></td>`;
      }
      const alarm = label === 'Law violations' && arm.lawViolations > 0 ? ' class="bad"' : '';
      return `<td${alarm}>${text(arm)}</td>`;
    });
    return `<tr${arm.name === 'foretoken' ? ' class="ours"' : ''}><th scope="row">${escapeHtml(arm.name)}${variant}</th>${cells.join('')}</tr>`;
  };
  return `<section aria-labelledby="arms">
<h2 id="arms">Who admits how much</h2>
<div class="scroll" role="region" aria-labelledby="arms" tabindex="0"><table>
<thead><tr><th scope="col">Arm</th>${columns.map(([label]) => `<th scope="col">${label}</th>`).join('')}</tr></thead>
<tbody>${data.arms.map(row).join('\n')}</tbody>
</table></div>
<p class="quiet">Tokens. Throttled: the part of the offered tokens that was denied. Worst target: the most throttled
of those that offered at least 1 %. Utilization: of the resource's ${brief(data.resource.ratePerSec)} tokens/s.</p>
</section>`;
}

const figure = (id: string, heading: string, caption: string): string => `<figure>
<h3 id="${id}-name">${heading}</h3>
<div class="chart" id="${id}" role="img" aria-labelledby="${id}-name" aria-describedby="${id}-what"></div>
<figcaption id="${id}-what" class="quiet">${caption}</figcaption>
</figure>`;

/** Places for the charts, which the page's script draws. */
export function chartsSection(data: ReportData): string {
  if (!data.total) return '';
  const merged = data.scale && data.scale > 1 ? ` Each point of the charts is ${count(data.scale)} steps.` : '';
  const total = `<section aria-labelledby="all">
<h2 id="all">All targets together</h2>
${figure('chart-total', 'Demand and the limit', `What all targets asked for and what was admitted, beside the limit of the resource. A burst of tokens saved up may lie above the limit for a moment.${merged}`)}
</section>`;
  if (data.targets.length === 0) return total;
  const options = data.targets.map((target, index) => `<option value="${index}">${escapeHtml(target.name)}</option>`);
  const horizon = duration(data.horizonS);
  return `${total}
<section aria-labelledby="one">
<h2 id="one">One target</h2>
<p class="choose"><label for="target">Target</label> <select id="target">${options.join('')}</select></p>
<noscript><p>The charts need JavaScript; everything else on this page does not.</p></noscript>
${figure('chart-forecast', 'Forecast and actual demand', `The band lies between the median and the 90 % quantile that were forecast, ${horizon} ahead, for the mean demand over those ${horizon}. The mean that came should lie in or under the band.`)}
${figure('chart-level', 'Tokens in the bucket', 'At the end of each step. Tokens put in ahead of a burst show as a rise before it.')}
${figure('chart-admissions', 'Admissions and denials', 'What was denied stands on top of what was admitted.')}
<details id="numbers"><summary>The numbers of this target</summary><div class="scroll" role="region" aria-label="The numbers of this target" tabindex="0"></div></details>
</section>`;
}

export function lawSection(data: ReportData): string {
  const { admissions, violations } = data.law;
  const kept = violations === 0;
  const all = admissions === undefined ? 'all admissions' : `${count(admissions)} admissions`;
  const verdict = `${kept ? 'None' : count(violations)} of ${all}`;
  return `<section aria-labelledby="law">
<h2 id="law">The law of the resource</h2>
<p><span class="badge ${kept ? 'good' : 'bad'}">${kept ? '✓ kept' : '✗ broken'}</span>
${verdict} went beyond ${brief(data.resource.ratePerSec)} tokens/s plus a burst of ${brief(data.resource.burst)} tokens,
over any interval. Every admission was put to a reference bucket of that rate and burst.</p>
</section>`;
}

export function historySection(data: ReportData): string {
  if (data.history === undefined) return '';
  const where =
    data.history === 'memory'
      ? '<p>It was kept in memory and is gone.</p>'
      : `<p>It lies in <code>${escapeHtml(data.history)}</code>.</p>`;
  return `<section aria-labelledby="history">
<h2 id="history">The history</h2>
${where}
</section>`;
}

export function notesSection(data: ReportData): string {
  if (data.notes === undefined || data.notes.length === 0) return '';
  return `<section aria-labelledby="notes">
<h2 id="notes">Notes</h2>
<ul>${data.notes.map((note) => `<li>${escapeHtml(note)}</li>`).join('')}</ul>
</section>`;
}
