import { describe, expect, it } from 'vitest';
import { topUp } from '../../src/allocate/fill.js';
import { AllocationRules, ruleNames } from '../../src/allocate/rules.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { Random } from '../../src/learn/random.js';

const spread = [0.1, 0.4, 0.7, 1, 1.4, 1.8];

/** Plays steps of ten ticks to rules that divide a budget of 100 tokens a step; what each was given in the last one. */
function play(
  steps: number,
  middles: (step: number) => number[],
  demand: (step: number, middles: number[]) => number[],
  options: { floor?: number[]; budget?: number; burst?: number } = {},
): { rules: AllocationRules; given: Float64Array } {
  const rules = new AllocationRules();
  const { budget = 100, burst = budget / 5 } = options;
  const targets = middles(0).length;
  const slots = Array.from({ length: targets }, (_, i) => i + 1);
  let given: Float64Array = new Float64Array(targets);
  for (let step = 0; step < steps; step++) {
    const forecast = middles(step);
    const quantiles = forecast.flatMap((middle) =>
      Array.from({ length: quantileCount }, (_, q) => middle * (spread[q] ?? spread.at(-1)!)),
    );
    const division = {
      slots,
      quantiles,
      common: forecast,
      held: new Float64Array(targets),
      floor: options.floor ?? new Array(targets).fill(0),
      budget,
      stepS: 1,
      leastBurst: 0.1,
      burst,
    };
    given = rules.divide(division).demand;
    const asked = demand(step, forecast);
    for (let tick = 0; tick < 10; tick++) rules.tick(Float64Array.of(0, ...asked.map((tokens) => tokens / 10)), 0.1);
    rules.endStep();
  }
  return { rules, given };
}

const heaviest = (rules: AllocationRules): string =>
  [...rules.weights].reduce((best, each) => (each[1] > best[1] ? each : best))[0];

describe('the rules of dividing', () => {
  it('go on from what they had lost, and not from what as many others had', () => {
    const { rules } = play(
      20,
      () => [50, 80],
      () => [40, 90],
    );
    const lost = rules.record();
    const next = new AllocationRules();
    next.restore(JSON.parse(JSON.stringify(lost)));
    expect(next.record()).toEqual(lost);
    for (const loss of [lost.loss.slice(1), [...lost.loss, 1], []]) {
      next.restore({ steps: 7, demand: 3, loss });
      expect(next.record()).toEqual(lost);
    }
  });

  it('give away the whole budget, whatever they weigh', () => {
    const random = new Random(1);
    const draw = () => Array.from({ length: 5 }, () => random.uniform() * 100);
    for (const steps of [1, 5, 40]) {
      const { given, rules } = play(steps, draw, draw);
      expect(given.reduce((a, b) => a + b, 0)).toBeCloseTo(100, 6);
      expect([...rules.weights.values()].reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
    }
  });

  it('come to follow the forecast where it is right, and the past where it is not', () => {
    const random = new Random(2);
    const jump = () => (random.uniform() < 0.5 ? [90, 5, 5] : random.uniform() < 0.5 ? [5, 90, 5] : [5, 5, 90]);
    const right = play(120, jump, (_, middles) => middles);
    expect(heaviest(right.rules)).toMatch(/^q|^usualq|^common/);
    const wrong = play(120, jump, () => [60, 30, 10]);
    expect(heaviest(wrong.rules)).toMatch(/^ewma|^peak/);
    expect(wrong.given[0]! / wrong.given[1]!).toBeCloseTo(2, 0);
  });

  it('do not decide by a handful of denials where next to nothing is denied', () => {
    const random = new Random(4);
    const { rules } = play(
      300,
      () => [20, 20],
      () => [random.uniform() < 0.02 ? 90 : 20, random.uniform() < 0.02 ? 90 : 20],
      { budget: 60 },
    );
    const { 'usualq90^0.8+': prior, ...others } = Object.fromEntries(rules.weights);
    expect(prior).toBeLessThan(0.25);
    expect(Math.max(...Object.values(others))).toBeLessThan(0.07);
  });

  it('leave room for what buckets hold where tokens are saved for bursts, and say how much', () => {
    const random = new Random(6);
    const { rules } = play(
      200,
      () => [6, 6, 6, 6],
      () => Array.from({ length: 4 }, () => (random.uniform() < 0.1 ? 8 : 0)),
      { budget: 4, burst: 16 },
    );
    expect(heaviest(rules)).toMatch(/\+$/);
    const division = {
      slots: [1, 2, 3, 4],
      quantiles: new Array(4 * quantileCount).fill(6),
      common: [1, 1, 1, 1],
      held: [8, 0, 0, 0],
      floor: [0, 0, 0, 0],
      budget: 4,
      stepS: 1,
      leastBurst: 0,
      burst: 16,
    };
    const { demand, burstShare } = rules.divide(division);
    expect(burstShare.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
    expect(demand[0]).toBeLessThan(0.5 * demand[1]!);
    expect(burstShare[0]).toBeGreaterThan(2 * burstShare[1]!);
  });

  it('know a slot no more once it was given to another', () => {
    const { rules } = play(
      30,
      () => [50, 50],
      () => [90, 10],
    );
    rules.reset(1);
    const quantiles = new Array(2 * quantileCount).fill(0);
    const division = {
      slots: [1, 2],
      quantiles,
      common: [0, 0],
      held: [0, 0],
      floor: [0, 0],
      budget: 100,
      stepS: 1,
      leastBurst: 0,
      burst: 10,
    };
    const given = rules.divide(division).demand;
    // Its averages begin anew; nothing is forecast. The other's past alone counts.
    expect(given[1]).toBeGreaterThan(given[0]!);
  });

  it('reckon with what was forecast a while ago until they know better', () => {
    const { given } = play(
      10,
      (step) => (step < 9 ? [100, 10] : [1, 10]),
      () => [10, 10],
    );
    // The forecast of the last step alone would give nearly everything to the second.
    expect(given[0]).toBeGreaterThan(given[1]!);
  });

  it('have names of their own', () => {
    expect(new Set(ruleNames).size).toBe(ruleNames.length);
  });
});

describe('filling up buckets in proportion', () => {
  const filled = (claims: number[], held: number[], budget: number) => {
    const out = new Float64Array(claims.length);
    topUp(Float64Array.from(claims), held, claims.length, budget, out);
    return [...out];
  };

  it('makes what is held and given proportional to the claims', () => {
    expect(filled([3, 1], [10, 0], 30)).toEqual([20, 10]);
  });

  it('gives nothing to whoever has more than its part, and takes nothing from it', () => {
    const gifts = filled([1, 1, 2], [50, 1, 0], 20);
    expect(gifts[0]).toBe(0);
    expect(gifts[1]).toBeCloseTo(6, 9);
    expect(gifts[2]).toBeCloseTo(14, 9);
  });

  it('gives all the same where nobody claims anything', () => {
    expect(filled([0, 0], [5, 0], 10)).toEqual([5, 5]);
  });

  it('gives away the budget, never less than nothing, in one proportion for all who get anything', () => {
    const random = new Random(5);
    for (let round = 0; round < 500; round++) {
      const count = 1 + Math.floor(random.uniform() * 20);
      const claims = Array.from({ length: count }, () =>
        random.uniform() < 0.2 ? 0 : 10 ** (random.uniform() * 8 - 4),
      );
      const held = Array.from({ length: count }, () => (random.uniform() < 0.3 ? 0 : random.uniform() * 1e3 - 100));
      const budget = 10 ** (random.uniform() * 6 - 3);
      const gifts = filled(claims, held, budget);
      expect(Math.abs(gifts.reduce((a, b) => a + b, 0) / budget - 1)).toBeLessThan(1e-6);
      expect(Math.min(...gifts)).toBeGreaterThanOrEqual(0);
      if (!claims.some((claim) => claim > 0)) continue;
      const scales = gifts.flatMap((gift, i) => (gift > 0 ? [(gift + Math.max(0, held[i]!)) / claims[i]!] : []));
      const scale = Math.max(...scales);
      expect(Math.min(...scales) / scale).toBeGreaterThan(1 - 1e-6);
      gifts.forEach((gift, i) => {
        if (gift === 0) expect(scale * claims[i]!).toBeLessThanOrEqual(Math.max(0, held[i]!) * (1 + 1e-9) + 1e-12);
      });
    }
  });
});
