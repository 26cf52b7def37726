import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AllocationRequest, allocatorNamed, allocatorNames, allocators } from '../../src/allocate/allocator.js';
import { exactSum, largestRate } from '../../src/allocate/fill.js';
import { ForetokenError } from '../../src/errors.js';

/** Numbers of every size, and what is none. */
const hostile = fc.oneof(
  fc.double({ min: 0, max: 1e6, noNaN: true }),
  fc.double({ min: 0, noNaN: true }),
  fc.constantFrom(
    0,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.MIN_VALUE,
    1e-300,
    1e300,
  ),
);
const requests: fc.Arbitrary<AllocationRequest> = fc.integer({ min: 1, max: 12 }).chain((count) => {
  const column = fc.array(hostile, { minLength: count, maxLength: count });
  return fc.record(
    { demandPerSec: column, floorPerSec: column, weights: column, limits: column, ratePerSec: hostile },
    { requiredKeys: ['demandPerSec', 'floorPerSec', 'ratePerSec'] },
  );
});
/** Whole thousandths: scaling them keeps their ratios. */
const thousandths = fc.integer({ min: 0, max: 1e8 }).map((n) => n / 1000);
const sane: fc.Arbitrary<AllocationRequest> = fc.integer({ min: 1, max: 12 }).chain((count) => {
  const column = fc.array(thousandths, { minLength: count, maxLength: count });
  return fc.record({
    demandPerSec: column,
    floorPerSec: column.map((floors) => floors.map((floor) => floor / 1e5 / count)),
    ratePerSec: fc.double({ min: 1, max: 1e5, noNaN: true }),
  });
});
fc.configureGlobal({ seed: 1, numRuns: 300 });

const usable = (value: number): number => (value > 0 ? Math.min(value, largestRate) : 0);

describe.each(allocatorNames)('the %s allocator', (name) => {
  const allocate = allocators[name];

  it('never gives more than there is, nor a rate that is none, whatever it is asked', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const rates = allocate(request);
        expect(rates.length).toBe(request.demandPerSec.length);
        for (const rate of rates) expect(rate >= 0 && Number.isFinite(rate)).toBe(true);
        expect(exactSum(rates)).toBeLessThanOrEqual(usable(request.ratePerSec));
      }),
    );
  });

  it('gives away everything unless all are at their limits', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const rates = allocate(request);
        const total = usable(request.ratePerSec);
        const missing = total - exactSum(rates);
        if (missing <= 1e-9 * total + 1e-300) return;
        expect(request.limits).toBeDefined();
        const limits = request.limits as number[];
        for (const [i, rate] of rates.entries())
          expect(rate).toBeGreaterThanOrEqual(Math.min(usable(limits[i]!), total) * (1 - 1e-9));
      }),
    );
  });

  it('gives everyone its floor, within its limit', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const total = usable(request.ratePerSec);
        const limits = Array.from(request.demandPerSec, (_, i) =>
          request.limits ? Math.min(usable(request.limits[i]!), total) : total,
        );
        const floors = limits.map((limit, i) => Math.min(usable(request.floorPerSec[i]!), limit));
        const rates = allocate(request);
        for (const [i, rate] of rates.entries()) expect(rate).toBeLessThanOrEqual(limits[i]! * (1 + 1e-12));
        if (exactSum(floors) > total) return;
        // A few last places of the sum may be taken from the largest.
        for (const [i, rate] of rates.entries()) expect(rate).toBeGreaterThanOrEqual(floors[i]! - 1e-12 * total);
      }),
    );
  });

  it('does not depend on the order of the targets', () => {
    fc.assert(
      fc.property(sane, (request) => {
        const backwards: AllocationRequest = {
          demandPerSec: Array.from(request.demandPerSec).reverse(),
          floorPerSec: Array.from(request.floorPerSec).reverse(),
          ratePerSec: request.ratePerSec,
        };
        const rates = allocate(request);
        const mirrored = allocate(backwards).reverse();
        for (const [i, rate] of rates.entries()) expect(rate).toBeCloseTo(mirrored[i]!, 6);
      }),
    );
  });

  it('treats equals equally when nobody asks for anything', () => {
    const rates = allocate({ demandPerSec: [0, 0, 0, 0], floorPerSec: [1, 1, 1, 1], ratePerSec: 100 });
    expect([...rates]).toEqual([25, 25, 25, 25]);
  });

  it('has nothing to divide among nobody', () => {
    expect(allocate({ demandPerSec: [], floorPerSec: [], ratePerSec: 100 }).length).toBe(0);
  });
});

describe('proportional', () => {
  const allocate = allocators.proportional;

  it('shares what the floors leave in proportion to demand', () => {
    const rates = allocate({ demandPerSec: [30, 10, 0], floorPerSec: [1, 1, 1], ratePerSec: 43 });
    expect([...rates]).toEqual([31, 11, 1]);
  });

  it('is blind to the size of all demands together', () => {
    fc.assert(
      fc.property(sane, fc.double({ min: 1e-3, max: 1e3, noNaN: true }), (request, factor) => {
        const scaled = { ...request, demandPerSec: Array.from(request.demandPerSec, (d) => d * factor) };
        const rates = allocate(request);
        for (const [i, rate] of allocate(scaled).entries()) expect(rate).toBeCloseTo(rates[i]!, 6);
      }),
    );
  });

  it('hands on what a limit leaves over, in the same proportions', () => {
    const rates = allocate({
      demandPerSec: [60, 20, 10],
      floorPerSec: [0, 0, 0],
      limits: [10, 90, 90],
      ratePerSec: 70,
    });
    expect(rates[0]).toBe(10);
    expect(rates[1]).toBeCloseTo(40, 9);
    expect(rates[2]).toBeCloseTo(20, 9);
  });

  it('lets an infinite demand outweigh every finite one, and no more', () => {
    const rates = allocate({ demandPerSec: [Number.POSITIVE_INFINITY, 5], floorPerSec: [1, 1], ratePerSec: 10 });
    expect(rates[0]).toBeCloseTo(9, 9);
    expect(rates[1]).toBeCloseTo(1, 9);
  });
});

describe('max-min', () => {
  const allocate = allocators['max-min'];

  it('meets small demands whole and shares the rest equally among the others', () => {
    const rates = allocate({ demandPerSec: [10, 70, 90], floorPerSec: [1, 1, 1], ratePerSec: 90 });
    expect([...rates]).toEqual([10, 40, 40]);
  });

  it('shares by weight where demands cannot be met', () => {
    const rates = allocate({ demandPerSec: [100, 100], floorPerSec: [0, 0], weights: [3, 1], ratePerSec: 40 });
    expect([...rates]).toEqual([30, 10]);
  });

  it('shares a surplus by weight on top of met demands', () => {
    const rates = allocate({ demandPerSec: [10, 20], floorPerSec: [0, 0], weights: [1, 3], ratePerSec: 70 });
    expect([...rates]).toEqual([20, 50]);
  });

  it('gives nobody more than its demand while another of its weight has less and wants more', () => {
    fc.assert(
      fc.property(sane, (request) => {
        const rates = allocate(request);
        const demand = Array.from(request.demandPerSec);
        const floor = Array.from(request.floorPerSec);
        const slack = 1e-9 * request.ratePerSec;
        for (const [i, short] of rates.entries()) {
          if (short >= demand[i]! - slack) continue;
          for (const [j, rate] of rates.entries()) expect(rate).toBeLessThanOrEqual(Math.max(short, floor[j]!) + slack);
        }
      }),
    );
  });
});

it('names the allocators it knows when asked for another', () => {
  expect(() => allocatorNamed('fair')).toThrowError(ForetokenError);
  expect(() => allocatorNamed('fair')).toThrowError(/expected proportional or max-min or credit, got fair/);
  expect(() => allocatorNamed('constructor')).toThrowError(ForetokenError);
});
