import type { ReplayResult } from './replay.js';
import type { ArmScore } from './score.js';
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
export function replayTable({ trace, settings, arms, capture }: ReplayResult): string {
  const head = ['arm', ...columns.map(([name]) => name)];
  if (settings.hogs > 0) head.push('to hogs');
  const rows = Object.entries(arms).map(([name, score]) => [
    score.variant === undefined ? name : `${name} (${score.variant})`,
    ...columns.map(([, of]) => of(score)),
    ...(settings.hogs > 0 ? [amount(score.hogAdmitted)] : []),
  ]);
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]!.length)));
  const line = (row: string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  const first = Object.values(arms)[0];
  return [
    `${trace.file}: ${amount(trace.requests)} requests of ${trace.targets} targets in ${amount(trace.durationS)} s, ` +
      `${amount(trace.meanRate)} tokens/s on average`,
    `resource: ${amount(settings.ratePerSec)} tokens/s, burst ${amount(settings.burst)} tokens, ` +
      `a step every ${formatDuration(settings.stepMs)}, ${settings.allocator} allocation, ` +
      `borrowing ${settings.borrow ? 'on' : 'off'}` +
      (settings.hogs > 0 ? `, ${settings.hogs} hogs` : '') +
      (settings.holders > 0 ? `, ${settings.holders} holders` : ''),
    `scored: from ${percent(settings.warmup)} of the time on, ${amount(first?.offered ?? 0)} tokens offered`,
    '',
    line(head),
    widths.map((width) => '-'.repeat(width)).join('  '),
    ...rows.map(line),
    '',
    capture === null
      ? 'capture: none, because foresight could save too little here, or an arm it needs was left out'
      : `capture: ${percent(capture)} of what perfect foresight would save over the best reactive arm`,
  ].join('\n');
}

/** A replay's result as the one JSON object of `--json`. */
export function replayJson({ trace, settings, arms, capture }: ReplayResult): unknown {
  const { ratePerSec, burst, burstMs: _, stepMs, ...others } = settings;
  return { trace, settings: { rate: ratePerSec, burst, step: formatDuration(stepMs), ...others }, arms, capture };
}
