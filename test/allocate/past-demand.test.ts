import { describe, expect, it } from 'vitest';
import { PastDemand, pastNames } from '../../src/allocate/past-demand.js';

const [fast, slow, peak] = ['ewma10', 'ewma30', 'peak'].map((name) => pastNames.indexOf(name)) as [
  number,
  number,
  number,
];

/** Past demand of a slot that asked for so much in each step. */
function past(...asked: number[]): PastDemand {
  const demand = new PastDemand();
  demand.grow(3);
  demand.meet(1);
  for (const tokens of asked) {
    demand.ask(1, tokens / 2);
    demand.ask(1, tokens / 2);
    demand.endStep([1]);
  }
  return demand;
}

describe('the demand of the past', () => {
  it('is averaged over a shorter and a longer time, from the first step on', () => {
    const demand = past(10, ...new Array<number>(10).fill(0));
    expect(demand.claim(1, fast)).toBeCloseTo(10 * (9 / 11) ** 10, 9);
    expect(demand.claim(1, slow)).toBeCloseTo(10 * (29 / 31) ** 10, 9);
  });

  it('has a peak that is half of itself after 138 steps', () => {
    const demand = past(5, 80, 20, ...new Array<number>(137).fill(1));
    expect(demand.claim(1, peak)).toBeGreaterThan(39.5);
    expect(demand.claim(1, peak)).toBeLessThan(40.5);
  });

  it('is what a slot asked for so far, when it is met, and nobody else’s', () => {
    const demand = past(10, 10);
    demand.ask(2, 7);
    expect(demand.meet(2)).toBe(true);
    expect(demand.meet(2)).toBe(false);
    expect([fast, slow, peak].map((way) => demand.claim(2, way))).toEqual([7, 7, 0]);
    expect(demand.endStep([1, 2])).toBe(7);
    demand.grow(9);
    expect(demand.claim(2, peak)).toBe(7);
    demand.reset(2);
    expect(demand.meet(2)).toBe(true);
  });
});
