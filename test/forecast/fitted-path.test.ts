import { describe, expect, it } from 'vitest';
import { BinnedDemand } from '../../src/forecast/binned-demand.js';
import { FittedPath } from '../../src/forecast/fitted-path.js';
import { quantileCount } from '../../src/forecast/forecaster.js';

const noSpread = (horizons: number) => new Float64Array(horizons * quantileCount);

describe('a fitted path', () => {
  it('keeps up with what comes exactly as simple exponential smoothing does', () => {
    const rate = 0.3;
    const length = 40;
    const roots = Array.from({ length: 30 }, (_, i) => 5 + 3 * Math.sin(i) + (i % 7));
    const path = new FittedPath({
      points: new Float64Array(length).fill(4),
      reach: new Float64Array(length).fill(rate),
      spread: noSpread(1),
    });
    let level = 4;
    for (const root of roots) {
      path.advance(root);
      level += rate * (root - level);
      expect(path.mean(0, 3)).toBeCloseTo(level ** 2, 9);
    }
  });

  it('keeps up exactly as a damped trend does', () => {
    const [alpha, beta, phi] = [0.4, 0.15, 0.9];
    let [level, trend] = [6, 0.2];
    const ahead = (j: number): number => {
      let reached = level;
      for (let i = 1; i <= j; i++) reached += phi ** i * trend;
      return reached;
    };
    const length = 30;
    let sum = 0;
    const reach = Float64Array.from({ length }, (_, j) => {
      if (j > 0) sum += phi ** j;
      return j === 0 ? 0 : alpha + beta * sum;
    });
    const path = new FittedPath({
      points: Float64Array.from({ length }, (_, i) => ahead(i + 1)),
      reach,
      spread: noSpread(1),
    });
    for (const root of [7, 5, 9, 9.5, 6, 8, 8.2, 10]) {
      const expected = level + phi * trend;
      const surprise = root - expected;
      path.advance(root);
      level = expected + alpha * surprise;
      trend = phi * trend + beta * surprise;
      expect(path.mean(4, 1)).toBeCloseTo(ahead(5) ** 2, 9);
    }
  });

  it('forecasts stretches that begin and end within a bin, and nothing beyond its end', () => {
    const path = new FittedPath({ points: Float64Array.of(1, 2, 3), reach: new Float64Array(0), spread: noSpread(1) });
    expect(path.mean(0, 3)).toBeCloseTo((1 + 4 + 9) / 3, 12);
    expect(path.mean(0.5, 2)).toBeCloseTo((0.5 * 1 + 4 + 0.5 * 9) / 2, 12);
    path.advance(50);
    expect(path.mean(0, 1)).toBeCloseTo(4, 12);
    expect(path.mean(1.25, 0.5)).toBeCloseTo(9, 12);
    expect(path.mean(1, 1.01)).toBeNaN();
  });

  it('never forecasts less than nothing', () => {
    const spread = Float64Array.of(-9, -1, 0, 1, 2);
    const path = new FittedPath({ points: Float64Array.of(-3, -2), reach: new Float64Array(0), spread });
    const out = new Float32Array(quantileCount);
    path.write(0, 0, 2, out, 0);
    expect([...out]).toEqual([0, 0, 0, 1, 4]);
  });
});

describe('binned demand', () => {
  it('sums the steps of each bin, from the first with demand on', () => {
    const binned = new BinnedDemand(3, 100);
    const ended: number[] = [];
    for (let step = 1; step <= 12; step++) if (binned.observe([step > 4 ? step : 0, 1], 2)) ended.push(step);
    expect(ended).toEqual([3, 6, 9, 12]);
    expect([...binned.series(0)]).toEqual([5 + 6, 7 + 8 + 9, 10 + 11 + 12]);
    expect([...binned.series(1)]).toEqual([3, 3, 3, 3]);
    expect(binned.ago(0, 1)).toBe(24);
    expect(binned.busiest(1)).toEqual([0]);
  });

  it('keeps so many bins, and of each the 256 busiest rows', () => {
    const binned = new BinnedDemand(1, 2);
    const demand = Float64Array.from({ length: 300 }, (_, row) => row);
    for (let step = 0; step < 5; step++) binned.observe(demand, 300);
    expect(binned.busiest(1000)).toEqual(Array.from({ length: 256 }, (_, i) => 299 - i));
    expect([...binned.series(299)]).toEqual([299, 299]);
    expect(binned.series(43)).toHaveLength(0);
  });

  it('forgets a row that was given to another target', () => {
    const binned = new BinnedDemand(2, 10);
    for (let step = 0; step < 5; step++) binned.observe([7, 1], 2);
    binned.reset(0);
    binned.observe([1, 1], 2);
    expect([...binned.series(0)]).toEqual([1]);
    expect([...binned.series(1)]).toEqual([2, 2, 2]);
  });
});
