import { type ForecastFrame, quantileCount, quantileLevels } from '../../src/forecast/forecaster.js';
import { Random } from '../../src/learn/random.js';

/** Demand a step, tokens: `series[step][row]`. */
export type Series = number[][];

/** Poisson demand of a mean that depends on the step, the same kind for every row, drawn apart. */
export function poisson(
  steps: number,
  rows: number,
  seed: number,
  mean: (step: number, row: number) => number,
): Series {
  const random = new Random(seed);
  return Array.from({ length: steps }, (_, step) =>
    Array.from({ length: rows }, (_, row) => random.poisson(mean(step, row))),
  );
}

export const kinds: Record<string, (step: number, row: number) => number> = {
  steady: (_, row) => 5 + 10 * row,
  periodic: (step, row) => ((step + row) % 20 < 3 ? 60 : 1),
  growing: (step) => 1 + step / 20,
  'changing at once': (step) => (step < 400 ? 5 : 50),
};

/** Long bursts and silences at random. */
export function onOff(steps: number, rows: number, seed: number): Series {
  const random = new Random(seed);
  const on = Array(rows).fill(false);
  return Array.from({ length: steps }, () =>
    on.map((_, row) => {
      if (random.uniform() < 0.08) on[row] = !on[row];
      return random.poisson(on[row] ? 40 : 0.5);
    }),
  );
}

export const frameOf = (rows: number, horizonsMs: readonly number[]): ForecastFrame => ({
  rows: 0,
  horizonsMs,
  quantiles: new Float32Array(rows * horizonsMs.length * quantileCount),
  engines: ['classical', 'external', 'another'],
  engine: new Uint8Array(rows * horizonsMs.length),
});

/** What is wrong with a frame's quantiles; undefined if nothing is. */
export function flawOf(frame: ForecastFrame): string | undefined {
  const count = frame.rows * frame.horizonsMs.length * quantileCount;
  for (let i = 0; i < count; i++) {
    const value = frame.quantiles[i]!;
    if (!Number.isFinite(value)) return `not finite at ${i}`;
    if (value < 0) return `negative at ${i}`;
    if (i % quantileCount > 0 && value < frame.quantiles[i - 1]!) return `not ascending at ${i}`;
  }
  return undefined;
}

export const pinball = (level: number, forecast: number, actual: number): number =>
  Math.max(level * (actual - forecast), (level - 1) * (actual - forecast));

/** Mean of the demand over the `horizon` steps after `step`, tokens/s at steps of 1 s. */
export function actualAfter(series: Series, step: number, horizon: number, row: number): number {
  let sum = 0;
  for (let ahead = 1; ahead <= horizon; ahead++) sum += series[step + ahead]![row]!;
  return sum / horizon;
}

/** Mean pinball loss of forecasts at q50 and q90 over steps in [from, series end - horizon). */
export function lossOf(
  series: Series,
  horizon: number,
  from: number,
  forecast: (step: number, row: number, q: number) => number,
): number[] {
  const rows = series[0]!.length;
  return [0, 2].map((q) => {
    let loss = 0;
    let count = 0;
    for (let step = from; step < series.length - horizon; step++)
      for (let row = 0; row < rows; row++) {
        loss += pinball(quantileLevels[q]!, forecast(step, row, q), actualAfter(series, step, horizon, row));
        count++;
      }
    return loss / count;
  });
}
