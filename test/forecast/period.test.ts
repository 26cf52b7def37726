import { describe, expect, it } from 'vitest';
import { Periods } from '../../src/forecast/period.js';
import { Random } from '../../src/learn/random.js';

function observed(steps: number, demand: (step: number) => number[]): Periods {
  const periods = new Periods();
  for (let step = 0; step < steps; step++) {
    const row = demand(step);
    periods.observe(row, row.length);
  }
  return periods;
}

describe('a period', () => {
  it.each([3, 7, 20, 60, 200])('of %s steps is found, not a multiple of it', (period) => {
    const random = new Random(period);
    const periods = observed(512, (step) => [random.poisson(step % period === 0 ? 80 : 2)]);
    expect(periods.periodOf(0)).toBe(period);
  });

  it('is not seen in noise, in what never changes, or in silence', () => {
    const random = new Random(3);
    const periods = observed(600, () => [random.poisson(10), 25, 0, -Math.log(1 - random.uniform())]);
    expect([0, 1, 2, 3].map((row) => periods.periodOf(row))).toEqual([0, 0, 0, 0]);
  });

  it('forecasts what came one period ago, and its mean over a longer horizon', () => {
    const periods = observed(200, (step) => [step % 10 === 0 ? 50 : step % 10 === 1 ? 30 : 0]);
    expect(periods.periodOf(0)).toBe(10);
    // The last step was 199: next come 50, then 30, then nothing.
    expect(periods.seasonal(0, 1)).toBe(50);
    expect(periods.seasonal(0, 2)).toBe(40);
    expect(periods.seasonal(0, 10)).toBe(8);
    expect(periods.seasonal(0, 20)).toBe(8);
  });

  it('is forgotten with its row', () => {
    const periods = observed(200, (step) => [step % 10 === 0 ? 50 : 0, step % 8 === 0 ? 50 : 0]);
    periods.reset(0);
    expect(periods.periodOf(0)).toBe(0);
    expect(periods.seasonal(0, 1)).toBeNaN();
    expect(periods.periodOf(1)).toBe(8);
  });

  it('that ends is given up once the steps without it outweigh those with it', () => {
    const random = new Random(6);
    const periods = observed(1200, (step) => [random.poisson(step < 500 && step % 10 === 0 ? 80 : 5)]);
    expect(periods.periodOf(0)).toBe(0);
  });
});
