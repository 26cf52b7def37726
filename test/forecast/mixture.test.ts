import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { ewmaSpans, Mixture } from '../../src/forecast/mixture.js';
import { actualAfter, flawOf, frameOf, kinds, lossOf, onOff, poisson, type Series } from './series.js';

/** Forecasts of a fresh mixture over a series: `of(step, row, q)` is what was forecast at the end of a step. */
function forecastsOf(
  series: Series,
  horizon: number,
  external?: (step: number, row: number, q: number) => number | undefined,
) {
  const rows = series[0]!.length;
  const mixture = new Mixture({ stepMs: 1000, horizonsMs: [horizon * 1000], externals: external ? 1 : 0 });
  const frame = frameOf(rows, [horizon * 1000]);
  const made: Float32Array[] = [];
  const engines: number[][] = [];
  series.forEach((demand, step) => {
    mixture.observe(demand, rows);
    let given: Float32Array | undefined;
    if (external && external(step, 0, 0) !== undefined)
      given = Float32Array.from(
        { length: rows * quantileCount },
        (_, i) => external(step, Math.floor(i / quantileCount), i % quantileCount)!,
      );
    mixture.predict(rows, external ? [given] : [], frame);
    expect(flawOf(frame)).toBeUndefined();
    made.push(frame.quantiles.slice());
    engines.push([...frame.engine]);
  });
  return { mixture, engines, of: (step: number, row: number, q: number) => made[step]![row * quantileCount + q]! };
}

/** The least loss of any moving average times any factor, chosen with hindsight for the whole series and level. */
function bestInHindsight(series: Series, horizon: number, from: number): number[] {
  const rows = series[0]!.length;
  const candidates = ewmaSpans.map((span) => {
    const state = Array(rows).fill(0);
    return series.map((demand, step) => {
      for (let row = 0; row < rows; row++)
        state[row] += Math.max(2 / (span + 1), 1 / (step + 1)) * (demand[row]! - state[row]);
      return [...state] as number[];
    });
  });
  const best = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (const averages of candidates)
    for (const factor of [0, 0.5, 1, 1.5, 2, 3])
      lossOf(series, horizon, from, (step, row) => factor * averages[step]![row]!).forEach((loss, i) => {
        best[i] = Math.min(best[i]!, loss);
      });
  return best;
}

describe('the mixture', () => {
  it('forecasts finite, ordered quantiles that are never negative, for any demand', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.array(
            fc.oneof(
              { weight: 3, arbitrary: fc.constant(0) },
              { weight: 3, arbitrary: fc.double({ min: 0, max: 1000, noNaN: true }) },
              { weight: 1, arbitrary: fc.double({ min: 0, max: 1e15, noNaN: true }) },
            ),
            { minLength: 3, maxLength: 3 },
          ),
          { minLength: 1, maxLength: 120 },
        ),
        fc.array(fc.nat(119), { maxLength: 4 }),
        (series, resets) => {
          const mixture = new Mixture({ stepMs: 1000, horizonsMs: [1000, 7000], externals: 0 });
          const frame = frameOf(3, [1000, 7000]);
          series.forEach((demand, step) => {
            if (resets.includes(step)) mixture.reset(step % 3);
            mixture.observe(demand, 3);
            mixture.predict(3, [], frame);
            expect(flawOf(frame)).toBeUndefined();
          });
        },
      ),
      { numRuns: 40, seed: 5 },
    );
  });

  it.each(['steady', 'periodic', 'growing', 'changing at once', 'on and off'])(
    'is never much worse than the best moving average chosen with hindsight (%s)',
    (kind) => {
      const series = kind === 'on and off' ? onOff(800, 3, 9) : poisson(800, 3, 9, kinds[kind]!);
      for (const horizon of [1, 5]) {
        const own = lossOf(series, horizon, 200, forecastsOf(series, horizon).of);
        const best = bestInHindsight(series, horizon, 200);
        own.forEach((loss, i) => {
          expect(loss / best[i]!, `horizon ${horizon}, level ${i ? 0.9 : 0.5}`).toBeLessThan(1.2);
        });
      }
    },
  );

  it('covers the next step with the 0.9 quantile nine times of ten where demand has no pattern', () => {
    const series = poisson(1500, 4, 21, kinds.steady!);
    const forecasts = forecastsOf(series, 1);
    let covered = 0;
    let count = 0;
    for (let step = 500; step < series.length - 1; step++)
      for (let row = 0; row < 4; row++, count++)
        if (actualAfter(series, step, 1, row) <= forecasts.of(step, row, 2)) covered++;
    expect(covered / count).toBeGreaterThan(0.87);
    expect(covered / count).toBeLessThan(0.95);
  });

  it('lets the demand of one period ago forecast a rhythm', () => {
    const series = poisson(700, 3, 4, (step, row) => ((step + row) % 24 < 2 ? 200 : 1));
    const { mixture, of } = forecastsOf(series, 1);
    const [scores] = mixture.scores();
    expect(scores!.seasonal).toBeLessThan(0.5 * scores!.classical);
    // Forecast before it comes: the step in front of a burst, and one in the middle of silence.
    const before = 24 * 27 - 1;
    expect(of(before, 0, 0)).toBeGreaterThan(100);
    expect(of(before - 10, 0, 2)).toBeLessThan(20);
  });

  it('follows another forecaster that knows better, and names it', () => {
    const series = onOff(600, 3, 2);
    const oracle = (step: number, row: number) => series[Math.min(step + 1, 599)]![row]!;
    const forecasts = forecastsOf(series, 1, oracle);
    const [median] = lossOf(series, 1, 300, forecasts.of);
    expect(median).toBeLessThan(0.3 * bestInHindsight(series, 1, 300)[0]!);
    expect(forecasts.engines.at(-1)).toEqual([1, 1, 1]);
  });

  it('gives another forecaster its say before anything is known of either', () => {
    const { of } = forecastsOf(poisson(1, 1, 3, kinds.steady!), 1, () => 1000);
    // Among all members by loss alone it would be an eighth.
    expect(of(0, 0, 0)).toBeGreaterThan(300);
  });

  it('is not harmed by another forecaster that is far off', () => {
    const series = onOff(600, 3, 2);
    const [alone] = lossOf(series, 1, 300, forecastsOf(series, 1).of);
    const [beside] = lossOf(series, 1, 300, forecastsOf(series, 1, () => 1e9).of);
    expect(beside).toBeLessThan(1.05 * alone!);
  });

  it('is not harmed when another forecaster has nothing to say for a while', () => {
    const series = onOff(600, 3, 2);
    const oracle = (step: number, row: number) => series[Math.min(step + 1, 599)]![row]!;
    const absent = (step: number) => step >= 300 && step < 360;
    const forecasts = forecastsOf(series, 1, (step, row) => (absent(step) ? undefined : oracle(step, row)));
    expect(forecasts.engines[330]).toEqual([0, 0, 0]);
    const during = lossOf(series.slice(0, 361), 1, 300, forecasts.of);
    const without = lossOf(series.slice(0, 361), 1, 300, forecastsOf(series, 1).of);
    during.forEach((loss, i) => {
      expect(loss).toBeLessThan(1.3 * without[i]!);
    });
    const [after] = lossOf(series, 1, 370, forecasts.of);
    const [classical] = lossOf(series, 1, 370, forecastsOf(series, 1).of);
    expect(after).toBeLessThan(0.3 * classical!);
  });

  it('forgets a row that is reset, and only that one', () => {
    const series = poisson(200, 2, 8, () => 30);
    const mixture = new Mixture({ stepMs: 1000, horizonsMs: [1000, 5000], externals: 0 });
    const frame = frameOf(2, [1000, 5000]);
    for (const demand of series) {
      mixture.observe(demand, 2);
      mixture.predict(2, [], frame);
    }
    const before = frame.quantiles.slice();
    mixture.reset(0);
    mixture.predict(2, [], frame);
    const each = 2 * quantileCount;
    expect([...frame.quantiles.subarray(0, each)]).toEqual(Array(each).fill(0));
    expect([...frame.quantiles.subarray(each)]).toEqual([...before.subarray(each)]);
    mixture.observe([2, 30], 2);
    mixture.predict(2, [], frame);
    expect(frame.quantiles[2]).toBeGreaterThan(0);
    expect(frame.quantiles[2]).toBeLessThan(20);
  });

  it('tells what came beside what was forecast, once per horizon that has passed', () => {
    const mixture = new Mixture({ stepMs: 1000, horizonsMs: [3000], externals: 0 });
    const frame = frameOf(1, [3000]);
    const resolved: { steps: number; actual: number; q90: number }[] = [];
    const made: number[] = [];
    for (let step = 1; step <= 20; step++) {
      mixture.observe([step], 1, ({ steps, actual, quantiles }) =>
        resolved.push({ steps, actual: actual[0]!, q90: quantiles[2]! }),
      );
      mixture.predict(1, [], frame);
      made.push(frame.quantiles[2]!);
    }
    expect(resolved.map(({ actual }) => actual)).toEqual(Array.from({ length: 17 }, (_, i) => i + 3));
    expect(resolved.map(({ steps }) => steps)).toEqual(Array(17).fill(3));
    expect(resolved.map(({ q90 }) => q90)).toEqual(made.slice(0, 17));
  });
});
