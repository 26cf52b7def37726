import { type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';
import type { EvaluateResult } from './evaluate.js';
import { formatDuration } from './units.js';

export const dumpHeader = 'time_ms,target,horizon_ms,q50,q90,engine';

const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);

/** A frame as rows of the dump. Numbers are written in full, so that a reader gets the same scores. */
export function* dumpRows(
  timeMs: number,
  frame: ForecastFrame,
  names: readonly string[],
  engine: string,
): Generator<string> {
  const { horizonsMs, quantiles } = frame;
  for (let row = 0; row < names.length; row++)
    for (let h = 0; h < horizonsMs.length; h++) {
      const at = (row * horizonsMs.length + h) * quantileCount;
      yield `${timeMs},${names[row]},${horizonsMs[h]},${quantiles[at + q50]},${quantiles[at + q90]},${engine}`;
    }
}

/** An evaluation's result as the one JSON object of `--json`. */
export function evaluationJson(result: EvaluateResult): unknown {
  const { trace, settings, meanRatePerTarget, engines, baselines, scoredSteps, leastCoverage90, coverage90Error } =
    result;
  const { cpuSecondsPer1000TargetSteps, fittingCpuSeconds } = result;
  const { stepMs, horizonsMs, ...others } = settings;
  const horizons = horizonsMs.map(formatDuration);
  const perHorizon = <T>(values: readonly T[]): Record<string, T> =>
    Object.fromEntries(horizons.map((horizon, h) => [horizon, values[h]!]));
  return {
    trace,
    settings: { step: formatDuration(stepMs), horizons, ...others },
    meanRatePerTarget,
    engines: Object.fromEntries(Object.entries(engines).map(([name, scores]) => [name, perHorizon(scores)])),
    baselines: perHorizon(baselines),
    leastCoverage90: perHorizon(leastCoverage90),
    coverage90Error: perHorizon(coverage90Error),
    scoredSteps: perHorizon(scoredSteps),
    cpuSecondsPer1000TargetSteps,
    fittingCpuSeconds,
  };
}

const decimals = (value: number | null, places: number): string => (value === null ? '-' : value.toFixed(places));
const percent = (value: number | null): string => (value === null ? '-' : `${(value * 100).toFixed(1)} %`);

/** An evaluation's result as a table for people. */
export function evaluationTable(result: EvaluateResult): string {
  const { trace, settings, engines, baselines, cpuSecondsPer1000TargetSteps, fittingCpuSeconds } = result;
  const head = ['horizon', 'engine', 'score', 'gain', 'coverage90'];
  const rows = settings.horizonsMs.flatMap((horizonMs, h) => {
    const { q50: low, q90: high, score } = baselines[h]!;
    const best = score === null ? 'baselines' : `${low}; ${high}`;
    return [
      ...Object.entries(engines).map(([name, scores]) => [
        formatDuration(horizonMs),
        name,
        decimals(scores[h]!.score, 4),
        percent(scores[h]!.gain),
        percent(scores[h]!.coverage90),
      ]),
      [formatDuration(horizonMs), best, decimals(score, 4), '', ''],
    ];
  });
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]!.length)));
  const line = (row: string[]): string =>
    row
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [
    `${trace.file}: ${trace.requests} requests of ${trace.targets} targets in ${decimals(trace.durationS, 0)} s`,
    `a step every ${formatDuration(settings.stepMs)}, scored from ${percent(settings.warmup)} of the time on; ` +
      'the baselines are the best q50 and the best q90, with hindsight',
    ...(settings.model === undefined ? [] : [`model: ${settings.model}`]),
    '',
    line(head),
    widths.map((width) => '-'.repeat(width)).join('  '),
    ...rows.map(line),
    '',
    `${cpuSecondsPer1000TargetSteps.toPrecision(3)} s of processor time per 1,000 forecasts of a target`,
    ...Object.entries(fittingCpuSeconds)
      .filter(([, seconds]) => seconds > 0)
      .map(([name, seconds]) => `${seconds.toPrecision(3)} s of processor time to fit ${name}, in a thread of its own`),
  ].join('\n');
}
