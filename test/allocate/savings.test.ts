import { describe, expect, it } from 'vitest';
import { Savings } from '../../src/allocate/savings.js';

/** A second at 100 tokens/s and a burst of 200, with everyone of weight 1 and nobody in slot 0. */
function book(
  savings: Savings,
  demand: readonly number[],
  used: readonly number[],
  weights = demand.map(() => 1),
): void {
  savings.book({
    count: demand.length + 1,
    demandPerSec: Float64Array.from([0, ...demand]),
    used: Float64Array.from([0, ...used]),
    asked: Float64Array.from([0, ...demand]),
    weights: Float64Array.from([0, ...weights]),
    ratePerSec: 100,
    burst: 200,
    seconds: 1,
  });
}

describe('savings', () => {
  it('are what a target left of its share, up to as many seconds of it as the burst has of the rate', () => {
    const savings = new Savings();
    book(savings, [10, 500], [10, 90]);
    // The one who is short has 90; so could the other have had.
    expect(savings.tokens[1]).toBe(80);
    for (let second = 0; second < 10; second++) book(savings, [10, 500], [10, 90]);
    expect(savings.tokens[1]).toBe(180);
  });

  it('do not grow while a target is backlogged, and are spent by what it is served beyond its share', () => {
    const savings = new Savings();
    book(savings, [10, 500], [10, 90]);
    expect(savings.tokens[2]).toBe(0);
    book(savings, [300, 500], [120, 50]);
    expect(savings.tokens[1]).toBe(10);
  });

  it("grow by weight, are nobody's where there is no target, and end with it", () => {
    const savings = new Savings();
    book(savings, [0, 500, 500, 50], [0, 75, 25, 0], [2, 3, 1, 0]);
    expect(savings.tokens[1]).toBeCloseTo(50, 9);
    expect(savings.tokens[4]).toBe(0);
    savings.reset(1);
    expect(savings.tokens[1]).toBe(0);
  });
});
