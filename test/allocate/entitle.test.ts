import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocatorNames } from '../../src/allocate/allocator.js';
import { entitle } from '../../src/allocate/entitle.js';

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);
const demands = fc.array(
  fc.oneof(
    fc.double({ min: 0, max: 1e6, noNaN: true }),
    fc.constantFrom(0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e300),
  ),
  { minLength: 1, maxLength: 12 },
);

describe.each(allocatorNames)('what %s gives where the rest is lent', (name) => {
  it('is no more than there is, no more than is asked for, and no less than the floor', () => {
    fc.assert(
      fc.property(demands, fc.double({ min: 1, max: 1e6, noNaN: true }), (demandPerSec, ratePerSec) => {
        const floorPerSec = demandPerSec.map((_, i) => ((i % 3) * ratePerSec) / (4 * demandPerSec.length));
        const rates = entitle(name, { demandPerSec, floorPerSec, ratePerSec });
        expect(sum(rates)).toBeLessThanOrEqual(ratePerSec * (1 + 1e-9));
        rates.forEach((rate, i) => {
          const asked = demandPerSec[i]! > 0 ? demandPerSec[i]! : 0;
          expect(rate).toBeLessThanOrEqual(Math.max(asked, floorPerSec[i]!) * (1 + 1e-9));
          expect(rate).toBeGreaterThanOrEqual(floorPerSec[i]! * (1 - 1e-9) - 1e-9 * ratePerSec);
        });
      }),
      { numRuns: 300 },
    );
  });

  it('is no more than there is, and in proportion to the floors, where these are more than that', () => {
    const floorPerSec = [50, 30, 40];
    const rates = entitle(name, { demandPerSec: [0, 500, 90], floorPerSec, ratePerSec: 60 });
    expect(sum(rates)).toBeLessThanOrEqual(60 * (1 + 1e-9));
    floorPerSec.forEach((floor, i) => void expect(rates[i]).toBeCloseTo(floor / 2, 6));
  });

  it('covers modest demand in full, however much a greedy neighbour asks for', () => {
    for (const greedy of [1e3, 1e6, 1e12, Number.POSITIVE_INFINITY]) {
      const rates = entitle(name, {
        demandPerSec: [10, 20, greedy, greedy],
        floorPerSec: [0, 0, 0, 0],
        ratePerSec: 200,
      });
      expect(rates[0]).toBeCloseTo(10, 6);
      expect(rates[1]).toBeCloseTo(20, 6);
      expect(rates[2]).toBeCloseTo(85, 6);
    }
  });

  it('counts a weight once', () => {
    const request = { demandPerSec: [1e4, 1e4, 1e4], floorPerSec: [0, 0, 0], ratePerSec: 400, weights: [1, 1, 2] };
    [100, 100, 200].forEach((rate, i) => void expect(entitle(name, request)[i]).toBeCloseTo(rate, 6));
  });
});
