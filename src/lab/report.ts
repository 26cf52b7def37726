import { comparedAtWithheld } from './pareto.js';
import type { ReplayResult } from './replay.js';
import type { ArmScore } from './score.js';
import type { ReplaySettings } from './settings.js';
import type { Pareto } from './sweep.js';
import { formatDuration } from './units.js';

const percent = (fraction: number): string => `${(fraction * 100).toFixed(2)} %`;

/** At most four significant places: the figures are for comparing. */
const amount = (value: number): string =>
  value.toLocaleString('en-US', { maximumFractionDigits: value < 100 ? 2 : 0, useGrouping: true });

const columns: readonly [string, (score: ArmScore) => string][] = [
  ['throttled', (s) => percent(s.throttledFraction)],
  ['worst target', (s) => percent(s.worstTargetThrottledFraction)],
  ['used', (s) => percent(s.utilization)],
  ['withheld', (s) => percent(s.withheldFraction)],
  ['law broken', (s) => String(s.lawViolations)],
];

/** A replay's result as a table for people. */
export function replayTable({ trace, settings, arms, capture, pareto }: ReplayResult): string {
  const shown = [...columns];
  if (settings.hogs > 0) shown.push(['to hogs', (score) => amount(score.hogAdmitted)]);
  if (settings.hogs > 1) shown.push(['min-max ratio', (score) => (score.minMaxRatio ?? 1).toFixed(3)]);
  const rows = Object.entries(arms).map(([name, score]) => [
    score.variant === undefined ? name : `${name} (${score.variant})`,
    ...shown.map(([, of]) => of(score)),
  ]);
  const first = Object.values(arms)[0];
  return [
    `${trace.file}: ${amount(trace.requests)} requests of ${trace.targets} targets in ${amount(trace.durationS)} s, ` +
      `${amount(trace.meanRate)} tokens/s on average`,
    `resource: ${amount(settings.ratePerSec)} tokens/s, burst ${amount(settings.burst)} tokens, ` +
      `a step every ${formatDuration(settings.stepMs)}, ${settings.allocator} allocation, ` +
      `borrowing ${settings.borrow ? 'on' : 'off'}` +
      (settings.hogs > 0 ? `, ${settings.hogs} hogs` : '') +
      (settings.holders > 0 ? `, ${settings.holders} holders` : ''),
    ...(settings.engine === 'auto' && settings.model === undefined
      ? []
      : [
          `Foretoken forecasts with ${settings.engine}${settings.model === undefined ? '' : `, model ${settings.model}`}`,
        ]),
    `scored: from ${percent(settings.warmup)} of the time on, ${amount(first?.offered ?? 0)} tokens offered`,
    '',
    ...aligned(['arm', ...shown.map(([name]) => name)], rows),
    '',
    capture === null
      ? 'capture: none, because foresight could save too little here, or an arm it needs was left out'
      : `capture: ${percent(capture)} of what perfect foresight would save over the best reactive arm`,
    ...(pareto ? ['', ...paretoLines(pareto, trace.meanRate)] : []),
  ].join('\n');
}

function paretoLines(pareto: Pareto, meanRate: number): string[] {
  const curves = Object.entries(pareto);
  const summary = curves.map(([name, { throttledAtWithheld, tried, lawViolations }]) => [
    name,
    ...comparedAtWithheld.map((at) => {
      const fraction = throttledAtWithheld[at];
      return fraction === null || fraction === undefined ? '–' : percent(fraction);
    }),
    String(tried),
    String(lawViolations),
  ]);
  const points = curves.flatMap(([name, { curve }]) =>
    curve.map((point) => [
      `${name}${point.variant && ` (${point.variant})`}`,
      point.withheld.toFixed(3),
      percent(point.throttledFraction),
    ]),
  );
  return [
    `throttled at so much withheld, in multiples of the mean demand of ${amount(meanRate)} tokens/s:`,
    '',
    ...aligned(['arm', ...comparedAtWithheld.map((at) => `at ${at}`), 'settings tried', 'law broken'], summary),
    '',
    'the curves:',
    '',
    ...aligned(['arm', 'withheld', 'throttled'], points),
  ];
}

/** A table in plain text: the first column to the left, the others to the right. */
function aligned(head: string[], rows: string[][]): string[] {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]!.length)));
  const line = (row: string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)];
}

/** A replay's result as the one JSON object of `--json`. */
export function replayJson({ trace, settings, arms, capture, pareto }: ReplayResult): unknown {
  return { trace, settings: replaySettings(settings), arms, capture, pareto };
}

/** Every option as used, as it would be given. */
export function replaySettings(settings: ReplaySettings): Record<string, unknown> {
  const { ratePerSec, burst, burstMs: _, stepMs, ...others } = settings;
  return { rate: ratePerSec, burst, step: formatDuration(stepMs), ...others };
}
