import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocatorNames } from '../../src/allocate/allocator.js';
import { AllocationRules } from '../../src/allocate/rules.js';
import { borrowShares, maxMinShares } from '../../src/allocate/shares.js';
import { depositRoom, horizonUpTo, type PlanInput, plan } from '../../src/control/plan.js';
import { type ForecastFrame, quantileCount } from '../../src/forecast/forecaster.js';

/** One row of quantiles per slot from 1 on, over one horizon of 5 s. */
function frameOf(rows: readonly (readonly number[])[]): ForecastFrame {
  return {
    rows: rows.length + 1,
    horizonsMs: [5000],
    quantiles: Float32Array.from([...Array(quantileCount).fill(0), ...rows.flat()]),
    engines: ['test'],
    engine: new Uint8Array(rows.length + 1),
  };
}

function inputOf(
  targets: { floor?: number; weight?: number; limit?: number; level?: number; live?: boolean; q?: number[] }[],
  rest: Partial<PlanInput> = {},
): PlanInput {
  const column = (pick: (target: (typeof targets)[number]) => number, reservoir = 0) =>
    Float64Array.from([reservoir, ...targets.map(pick)]);
  return {
    slots: targets.length + 1,
    live: Uint8Array.from([0, ...targets.map(({ live = true }) => (live ? 1 : 0))]),
    floorPerSec: column(({ floor = 0 }) => floor),
    weight: column(({ weight = 1 }) => weight),
    limitPerSec: column(({ limit = Number.POSITIVE_INFINITY }) => limit),
    leastBurst: 0,
    frame: frameOf(targets.map(({ q = [0, 0, 0, 0, 0] }) => q)),
    level: column(({ level = 0 }) => level, 500),
    ratePerSec: 1000,
    burst: 1000,
    stepMs: 1000,
    borrow: true,
    allocator: 'max-min',
    ...rest,
  };
}
describe('a horizon', () => {
  it('of at most so long is the longest there is, or else the shortest', () => {
    const horizonsMs = [5000, 30_000, 300_000];
    expect([4000, 5000, 29_000, 30_000, 400_000].map((most) => horizonUpTo({ horizonsMs }, most))).toEqual([
      0, 0, 0, 1, 2,
    ]);
  });
});

const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);
const ratesOf = (pairs: Float64Array) => [...pairs].filter((_, i) => i >= 2 && i % 2 === 0);
const burstsOf = (pairs: Float64Array) => [...pairs].filter((_, i) => i >= 2 && i % 2 === 1);

// Of the resource's own size, too: nearly every double is far from it.
const tokens = (most: number) =>
  fc.oneof(fc.double({ min: 0, max: most, noNaN: true }), fc.integer({ min: 0, max: 3000 }));
const quantiles = fc
  .array(tokens(1e12), { minLength: quantileCount, maxLength: quantileCount })
  .map((values) => values.sort((a, b) => a - b));
const target = fc.record({
  floor: fc.double({ min: 0, max: 80, noNaN: true }),
  weight: fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
  limit: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.double({ min: 80, max: 1e6, noNaN: true })),
  level: fc.oneof(tokens(1e4), fc.double({ min: -1e4, max: 0, noNaN: true })),
  live: fc.boolean(),
  q: fc.oneof(fc.constant<number[]>([0, 0, 0, 0, 0]), quantiles),
});

describe('a plan', () => {
  it('keeps within the resource, above every reservation and free of what is no number', () => {
    fc.assert(
      fc.property(
        fc.array(target, { maxLength: 12 }),
        fc.boolean(),
        fc.constantFrom(...allocatorNames),
        fc.boolean(),
        fc.double({ min: 0, max: 1500, noNaN: true }),
        fc.constantFrom(100, 1000, 60_000),
        fc.boolean(),
        fc.boolean(),
        (targets, borrow, allocator, foreseen, deposited, stepMs, keepsSurplus, learns) => {
          const rules = learns ? new AllocationRules() : undefined;
          const input = inputOf(targets, { borrow, allocator, deposited, stepMs, keepsSurplus, rules });
          if (!foreseen) input.frame = undefined;
          const { pairs, deposits, probability } = plan(input);
          expect(pairs.every((value) => value >= 0 && Number.isFinite(value))).toBe(true);
          expect(sum(ratesOf(pairs))).toBeLessThanOrEqual(1000 * (1 + 1e-9));
          expect(sum(burstsOf(pairs))).toBeLessThanOrEqual(Math.max(0, 1000 - deposited) * (1 + 1e-9));
          expect(probability).toBeGreaterThanOrEqual(0);
          expect(probability).toBeLessThanOrEqual(1);
          targets.forEach(({ live, floor, limit }, i) => {
            const rate = pairs[(i + 1) * 2]!;
            if (!live) expect([rate, pairs[(i + 1) * 2 + 1]]).toEqual([0, 0]);
            else {
              expect(rate).toBeGreaterThanOrEqual(floor * (1 - 1e-9));
              expect(rate).toBeLessThanOrEqual(limit * (1 + 1e-9));
            }
          });
          for (const { slot, tokens, forMs } of deposits) {
            expect(targets[slot - 1]!.live).toBe(true);
            expect(tokens > 0 && Number.isFinite(tokens) && forMs > 0).toBe(true);
          }
          const room = depositRoom(1000 - deposited - sum(burstsOf(pairs)), 1000);
          expect(sum(deposits.map(({ tokens }) => tokens))).toBeLessThanOrEqual(room + 1e-6);
        },
      ),
      { numRuns: 300, seed: 3 },
    );
  });

  it('for nobody gives nothing', () => {
    const { pairs, deposits } = plan(inputOf([]));
    expect([...pairs]).toEqual([0, 0]);
    expect(deposits).toEqual([]);
  });

  it('without borrowing lets nothing lie idle: all rate and all burst are given out', () => {
    for (const allocator of ['max-min', 'proportional'] as const)
      for (const q of [
        [0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5],
      ]) {
        const { pairs } = plan(inputOf([{ q }, {}, { floor: 100 }], { borrow: false, allocator }));
        expect(sum(ratesOf(pairs))).toBeCloseTo(1000, 6);
        expect(sum(burstsOf(pairs))).toBeCloseTo(1000, 6);
      }
  });

  it('without borrowing leaves a bucket room for what it holds, as far as that may be asked for', () => {
    const q = [100, 150, 200, 300, 400];
    const targets = [
      { q, level: 400 },
      { q, level: 0 },
      { q: [0, 0, 0, 0, 0], level: 400 },
    ];
    for (const allocator of allocatorNames) {
      const bursts = burstsOf(plan(inputOf(targets, { borrow: false, allocator })).pairs);
      expect(bursts[0]).toBeGreaterThan(300);
      expect(bursts[2]).toBeLessThan(150);
    }
  });

  it('that keeps surplus gives no more than what is not held yet, and less than everything', () => {
    const q = [100, 150, 200, 300, 400];
    const targets = [
      { q, level: 0 },
      { q, level: 120 },
      { q, level: 1000 },
    ];
    const { pairs } = plan(inputOf(targets, { borrow: false, keepsSurplus: true }));
    const [empty, part, full] = ratesOf(pairs);
    expect(empty! - part!).toBeCloseTo(120, 6);
    expect(full).toBe(0);
    expect(sum(ratesOf(pairs))).toBeLessThan(900);
  });

  it('with borrowing leaves the reservoir what nobody is forecast to need', () => {
    const { pairs } = plan(inputOf([{ q: [50, 75, 100, 150, 200] }, {}]));
    expect(ratesOf(pairs)[0]).toBeCloseTo(150, -1);
    expect(burstsOf(pairs)[0]).toBeCloseTo(150, -1);
    expect(ratesOf(pairs)[1]).toBe(0);
  });

  it('with borrowing covers each by what throttling it costs, and the greedy never at the expense of the others', () => {
    const q = [50, 75, 100, 150, 200];
    const rates = (costs: number[]) =>
      ratesOf(plan(inputOf([{ q }, { q }], { throttlingCost: Float64Array.from([0, ...costs]) })).pairs);
    // 3 to 1 for admitting: the 0.75 quantile; 9 to 1: the 0.9 quantile.
    expect(rates([3, 9])[0]).toBeCloseTo(75, 6);
    expect(rates([3, 9])[1]).toBeCloseTo(100, 6);
    for (const allocator of allocatorNames) {
      const greedy = [1e6, 1e6, 1e6, 1e6, 1e6];
      const { pairs, deposits } = plan(inputOf([{ q }, { q: greedy }], { allocator, isGreedy: (slot) => slot === 2 }));
      expect(ratesOf(pairs)[0]).toBeGreaterThan(140);
      expect(deposits.map(({ slot }) => slot)).not.toContain(2);
    }
  });

  it('with borrowing and nothing forecast leaves all burst where everyone can reach it', () => {
    expect(burstsOf(plan(inputOf([{}, {}])).pairs)).toEqual([0, 0]);
  });

  it('does not let deposits made earlier eat into the buckets of those who are owed a rate', () => {
    const targets = [{ floor: 400 }, { q: [600, 600, 600, 600, 600] }];
    const without = burstsOf(plan(inputOf(targets)).pairs);
    expect(burstsOf(plan(inputOf(targets, { deposited: 400 })).pairs)).toEqual(without);
  });

  it('deposits what a burst will need beyond its rate', () => {
    const { pairs, deposits } = plan(inputOf([{ q: [300, 300, 300, 300, 300] }, { q: [900, 950, 1000, 1100, 1200] }]));
    expect(ratesOf(pairs)[0]).toBeCloseTo(300, 0);
    expect(deposits.map(({ slot }) => slot)).toEqual([2]);
    expect(sum(deposits.map(({ tokens }) => tokens))).toBeGreaterThan(200);
    expect(deposits[0]!.forMs).toBe(6000);
  });

  it('gives who has to borrow no bucket beyond what it is owed, and then ties tokens to nobody', () => {
    const targets = [{ q: [300, 300, 300, 300, 300] }, { floor: 50, q: [900, 950, 1000, 1100, 1200] }];
    const free = plan(inputOf(targets));
    const { pairs, deposits } = plan(inputOf(targets, { mustBorrow: (slot) => slot === 2 }));
    expect(free.deposits).not.toEqual([]);
    expect(deposits).toEqual([]);
    expect(burstsOf(pairs)[1]).toBe(50);
    expect(burstsOf(pairs)[0]).toBeGreaterThan(burstsOf(free.pairs)[0]!);
  });

  it('gives who has to borrow a bucket for what it is owed where nobody else needs one, within the burst', () => {
    const targets = [{ floor: 400 }, { floor: 500 }, {}];
    const mustBorrow = (slot: number) => slot < 3;
    expect(burstsOf(plan(inputOf(targets, { mustBorrow, burst: 2000 })).pairs)).toEqual([400, 500, 0]);
    const tight = burstsOf(plan(inputOf(targets, { mustBorrow })).pairs);
    expect(sum(tight)).toBeLessThanOrEqual(500);
    expect(tight[0]! / tight[1]!).toBeCloseTo(400 / 500, 9);
  });

  it('lays up the more and the earlier, the dearer a target is to throttle', () => {
    const calm = [0, 0, 0, 0, 0];
    const soon = [100, 200, 300, 400, 500];
    const later = [500, 600, 700, 800, 900];
    const frame: ForecastFrame = {
      rows: 4,
      horizonsMs: [1000, 10_000],
      quantiles: Float32Array.from([...calm, ...calm, ...soon, ...calm, ...soon, ...calm, ...calm, ...later]),
      engines: ['test'],
      engine: new Uint8Array(4),
    };
    const laidUp = (cost: number) =>
      plan(
        inputOf([{ limit: 10 }, { limit: 10 }, { limit: 10 }], {
          frame,
          ratePerSec: 100_000,
          burst: 100_000,
          throttlingCost: Float64Array.from([0, cost, cost / 4, cost]),
          level: Float64Array.from([90_000, 0, 0, 0]),
        }),
      ).deposits;
    // At the default cost 9 to 1 for the deposit at the nearest horizon: the 0.9 quantile of what comes there.
    const at32 = laidUp(32);
    expect(at32[0]!.tokens).toBeCloseTo(300 - 10, 3);
    expect(at32[0]!.forMs).toBe(2000);
    expect(at32[1]!.tokens).toBeLessThan(200);
    // Ten times as long a deposit costs ten times as much: far less than the median is worth covering.
    expect(at32[2]!.forMs).toBe(11_000);
    expect(at32[2]!.tokens).toBeLessThan(6000);
    // Ten times as dear: as much is laid up ten seconds ahead as one second ahead before.
    expect(laidUp(320)[2]!.tokens).toBeCloseTo(700 * 10, 2);
  });

  it('without borrowing covers who is dearer to throttle better, out of the part of the others', () => {
    const q = [50, 75, 100, 150, 200];
    const rates = (costs: number[]) =>
      ratesOf(
        plan(
          inputOf([{ q }, { q }], {
            borrow: false,
            allocator: 'proportional',
            ratePerSec: 160,
            burst: 160,
            throttlingCost: Float64Array.from([0, ...costs]),
          }),
        ).pairs,
      );
    expect(rates([32, 32])[0]).toBeCloseTo(80, 3);
    const [dear, cheap] = rates([96, 32]) as [number, number];
    expect(dear).toBeGreaterThan(90);
    expect(dear + cheap).toBeCloseTo(160, 6);
  });

  it('gives a target that is in debt no less than one that is empty', () => {
    const q = [400, 450, 500, 550, 600];
    const [empty] = ratesOf(plan(inputOf([{ q }])).pairs);
    expect(ratesOf(plan(inputOf([{ q, level: -1000 }])).pairs)[0]).toBeGreaterThanOrEqual(empty!);
  });
});

describe('max-min shares', () => {
  const amounts = fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 20 });

  it('never exceed the want or together what there is, and leave nothing while someone wants more', () => {
    fc.assert(
      fc.property(
        amounts,
        fc.double({ min: 0, max: 1e9, noNaN: true }),
        fc.infiniteStream(fc.double({ min: 1e-3, max: 1e6, noNaN: true })),
        (wants, available, stream) => {
          const weights = Float64Array.from(wants, () => stream.next().value as number);
          const out = new Float64Array(wants.length);
          const left = maxMinShares(Float64Array.from(wants), weights, wants.length, available, out);
          const total = sum(out);
          out.forEach((share, i) => {
            expect(share >= 0 && share <= wants[i]! * (1 + 1e-12)).toBe(true);
          });
          expect(total + left).toBeLessThanOrEqual(available * (1 + 1e-9) + 1e-9);
          expect(total).toBeGreaterThanOrEqual(Math.min(available, sum(wants)) * (1 - 1e-9) - 1e-9);
          // Whoever is cut has no larger share per weight than anyone else who is.
          const cut = wants.flatMap((want, i) => (out[i]! < want * (1 - 1e-9) ? [out[i]! / weights[i]!] : []));
          if (cut.length > 1) expect(Math.max(...cut)).toBeLessThanOrEqual(Math.min(...cut) * (1 + 1e-6) + 1e-9);
        },
      ),
    );
  });

  it('serve those who want little in full and split the rest by weight', () => {
    const out = new Float64Array(3);
    maxMinShares(Float64Array.of(10, 1000, 1000), Float64Array.of(1, 1, 3), 3, 410, out);
    expect([...out]).toEqual([10, 100, 300]);
  });
});

describe('borrow shares', () => {
  it('leave those who are not short a claim on what the others leave', () => {
    const out = new Float64Array(3);
    borrowShares(Float64Array.of(0, 10, 0), Float64Array.of(0, 1, 1), 3, 100, out);
    expect([...out]).toEqual([0, 100, 80]);
  });

  it('are none for slots without weight, and none of a reservoir in debt', () => {
    const out = new Float64Array(2);
    borrowShares(Float64Array.of(0, 50), Float64Array.of(0, 1), 2, -20, out);
    expect([...out]).toEqual([0, 0]);
  });
});
