import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commonQuantile, meanOf, quantileAt } from '../../src/allocate/quantile.js';
import { quantileCount, quantileLevels } from '../../src/forecast/forecaster.js';

fc.configureGlobal({ seed: 1, numRuns: 300 });

const ascending = fc
  .array(fc.double({ min: 0, max: 1000, noNaN: true }), { minLength: quantileCount, maxLength: quantileCount })
  .map((values) => values.sort((a, b) => a - b));
const tables = fc.array(ascending, { minLength: 1, maxLength: 10 });
const zeros = (rows: number) => new Float64Array(rows);
const needs = (table: number[][], budget: number, least = zeros(table.length), held = zeros(table.length)) => ({
  rows: table.length,
  quantiles: table.flat(),
  stride: quantileCount,
  offset: 0,
  held,
  least,
  budget,
});
const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);

describe('a quantile between the forecast levels', () => {
  it('is the forecast at a level, and grows with probability', () => {
    fc.assert(
      fc.property(ascending, fc.double({ min: 0, max: 0.9999, noNaN: true }), (row, p) => {
        for (const [i, level] of quantileLevels.entries()) expect(quantileAt(row, 0, level)).toBeCloseTo(row[i]!, 9);
        expect(quantileAt(row, 0, Math.min(0.9999, p + 0.01))).toBeGreaterThanOrEqual(quantileAt(row, 0, p) - 1e-9);
      }),
    );
  });

  it('is zero at probability zero and follows an exponential tail above the highest level', () => {
    const row = [10, 20, 30, 40, 50];
    expect(quantileAt(row, 0, 0)).toBe(0);
    expect(quantileAt(row, 0, 0.25)).toBe(5);
    // From 0.97 to 0.99 the chance of more falls to a third; another third is another 10.
    expect(quantileAt(row, 0, 1 - 0.01 / 3)).toBeCloseTo(60, 9);
  });

  it('has the mean of the demand that it describes', () => {
    fc.assert(
      fc.property(ascending, (row) => {
        const draws = 100_000;
        let mean = 0;
        for (let k = 0; k < draws; k++) mean += quantileAt(row, 0, (k + 0.5) / draws) / draws;
        // The tail beyond the last draw is cut off.
        expect(Math.abs(meanOf([7, ...row], 1) - mean)).toBeLessThanOrEqual(1e-4 * row[quantileCount - 1]!);
      }),
      { numRuns: 30 },
    );
  });
});

describe('dividing a budget by a common quantile', () => {
  it('gives away the budget, no more and no less, while anybody may need it', () => {
    fc.assert(
      fc.property(tables, fc.double({ min: 0.1, max: 5000, noNaN: true }), (table, budget) => {
        const out = zeros(table.length);
        const probability = commonQuantile(needs(table, budget), out);
        expect(sum(out)).toBeLessThanOrEqual(budget * (1 + 1e-9));
        if (probability < 1 - 1e-12) expect(sum(out)).toBeGreaterThan(budget * (1 - 1e-6) - 1e-6);
      }),
    );
  });

  it('covers everybody with the same probability', () => {
    const table = [
      [1, 2, 3, 4, 5],
      [0, 0, 100, 200, 300],
      [50, 50, 50, 50, 50],
    ];
    const out = zeros(3);
    const probability = commonQuantile(needs(table, 200), out);
    for (const [i, row] of table.entries()) expect(out[i]).toBeCloseTo(quantileAt(row, 0, probability), 6);
  });

  it('counts what is held already, and gives the least in any case', () => {
    const table = [
      [10, 10, 10, 10, 10],
      [10, 10, 10, 10, 10],
      [0, 0, 0, 0, 0],
    ];
    const out = zeros(3);
    commonQuantile(needs(table, 12, Float64Array.of(0, 0, 2), Float64Array.of(10, 0, 0)), out);
    expect(out[0]).toBeCloseTo(0, 6);
    expect(out[1]).toBeCloseTo(10, 6);
    expect(out[2]).toBe(2);
  });

  it('covers those whose denials cost more with a higher probability, as the costs are to each other', () => {
    const row = [10, 20, 30, 40, 50];
    const out = zeros(2);
    const probability = commonQuantile({ ...needs([row, row], 60), costs: [4, 1] }, out);
    expect(out[0]).toBeCloseTo(quantileAt(row, 0, probability), 6);
    expect(out[1]).toBeCloseTo(quantileAt(row, 0, 1 - 4 * (1 - probability)), 6);
    expect(out[0]! + out[1]!).toBeCloseTo(60, 6);
  });

  it('leaves less demand unserved than any other division of the budget', () => {
    // Demand drawn from the piecewise-linear distribution that the quantiles describe.
    const unserved = (row: number[], tokens: number): number => {
      let total = 0;
      const draws = 4000;
      for (let k = 0; k < draws; k++) total += Math.max(0, quantileAt(row, 0, (k + 0.5) / draws) - tokens) / draws;
      return total;
    };
    fc.assert(
      fc.property(
        fc.array(ascending, { minLength: 2, maxLength: 4 }),
        fc.double({ min: 50, max: 1500, noNaN: true }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
        (table, budget, parts) => {
          const out = zeros(table.length);
          commonQuantile(needs(table, budget), out);
          const weights = table.map((_, i) => parts[i]! + 1e-3);
          const other = weights.map((weight) => (budget * weight) / sum(weights));
          const ours = table.reduce((total, row, i) => total + unserved(row, out[i]!), 0);
          const theirs = table.reduce((total, row, i) => total + unserved(row, other[i]!), 0);
          expect(ours).toBeLessThanOrEqual(theirs + 1e-3 * budget);
        },
      ),
      { numRuns: 50 },
    );
  });
});
