import { describe, expect, it } from 'vitest';
import { type ParetoPoint, paretoCurve } from '../../src/lab/pareto.js';
import { replay } from '../../src/lab/replay.js';
import { replayJson, replayTable } from '../../src/lab/report.js';
import type { ReplayOptions } from '../../src/lab/settings.js';
import type { Pareto } from '../../src/lab/sweep.js';
import { bursty } from './bursty.js';

const point = (variant: string, withheld: number, throttledFraction: number, lawViolations = 0): ParetoPoint => ({
  variant,
  withheld,
  withheldFraction: withheld / 4,
  throttledFraction,
  lawViolations,
});

describe('a curve of settings', () => {
  it('keeps those that no other beats at both, by growing withheld', () => {
    const { curve, tried } = paretoCurve([
      point('d', 2, 0.1),
      point('a', 0.2, 0.6),
      point('beaten', 1, 0.7),
      point('c', 0.6, 0.2),
      point('as good for more', 0.8, 0.2),
    ]);
    expect(curve.map(({ variant }) => variant)).toEqual(['a', 'c', 'd']);
    expect(tried).toBe(5);
  });

  it('tells what is throttled at a quarter, a half and the whole of the mean demand, on the line between settings', () => {
    const { throttledAtWithheld } = paretoCurve([point('a', 0.4, 0.5), point('b', 0.6, 0.3), point('c', 1.6, 0.1)]);
    expect(throttledAtWithheld['0.25']).toBeNull();
    expect(throttledAtWithheld['0.5']).toBeCloseTo(0.4, 12);
    expect(throttledAtWithheld['1']).toBeCloseTo(0.22, 12);
  });

  it('gains nothing by withholding more than its last setting, and counts every breach of the law', () => {
    const { throttledAtWithheld, lawViolations } = paretoCurve([point('a', 0.1, 0.5, 1), point('b', 0.3, 0.6, 2)]);
    expect(throttledAtWithheld).toEqual({ '0.25': 0.5, '0.5': 0.5, '1': 0.5 });
    expect(lawViolations).toBe(3);
  });
});

describe('a sweep of a generated workload', () => {
  const trace = bursty(150);
  const options: ReplayOptions = { rate: { timesMean: 4 }, refine: false, seed: 3, pareto: true };
  const swept = async (more: ReplayOptions): Promise<Pareto> =>
    (await replay(trace, { ...options, ...more })).pareto ?? {};

  it('trades withheld capacity for throttling in every arm but the pool, and keeps the law at every setting', async () => {
    const result = await replay(trace, options);
    const { pareto } = result;
    expect(Object.keys(pareto!)).toEqual(['static', 'reactive', 'foretoken', 'oracle']);
    for (const { curve, lawViolations } of Object.values(pareto!)) {
      expect(lawViolations).toBe(0);
      expect(curve.length).toBeGreaterThan(2);
      curve.slice(1).forEach((next, i) => {
        expect(next.withheld).toBeGreaterThan(curve[i]!.withheld);
        expect(next.throttledFraction).toBeLessThan(curve[i]!.throttledFraction);
      });
    }
    expect(pareto!.reactive!.tried).toBe(35);
    // At the same cost foresight throttles less than what follows the past. The oracle bounds nothing here: it is given
    // all that will be asked for whatever its buckets hold already.
    const at = (arm: keyof Pareto) => pareto![arm]!.throttledAtWithheld['1']!;
    expect(at('oracle')).toBeLessThan(at('reactive'));
    expect(at('foretoken')).toBeLessThan(0.5 * at('reactive'));
    const json = replayJson(result) as Record<string, unknown>;
    expect(Object.keys(json)).toEqual(['trace', 'settings', 'arms', 'capture', 'pareto']);
    expect(replayTable(result)).toMatch(/^foretoken +\S+ %? +\d/m);
  }, 120_000);

  it('comes out the same again, with the forecasts shared by all quantiles', async () => {
    const first = await swept({ arms: ['foretoken'] });
    expect(await swept({ arms: ['foretoken'] })).toEqual(first);
  }, 120_000);

  it('withholds less than half as much where the rest is lent', async () => {
    const lent = await swept({ arms: ['foretoken'], borrow: true });
    const own = await swept({ arms: ['foretoken'] });
    const most = (pareto: Pareto) => Math.max(...pareto.foretoken!.curve.map(({ withheld }) => withheld));
    expect(most(lent)).toBeLessThan(0.5 * most(own));
  }, 120_000);

  it('serves backlogged targets of the same weight alike, under every allocator', async () => {
    for (const allocator of ['max-min', 'proportional', 'credit'] as const) {
      const { arms } = await replay(trace, {
        ...options,
        pareto: false,
        allocator,
        borrow: true,
        hogs: 3,
        arms: ['reactive', 'foretoken', 'oracle', 'shared'],
      });
      for (const [arm, { minMaxRatio, lawViolations }] of Object.entries(arms)) {
        expect({ allocator, arm, isFair: minMaxRatio! >= 0.98, lawViolations }).toEqual({
          allocator,
          arm,
          isFair: true,
          lawViolations: 0,
        });
      }
    }
  }, 120_000);
});
