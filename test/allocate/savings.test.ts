import { describe, expect, it } from 'vitest';
import { Savings } from '../../src/allocate/savings.js';

/** A second at 100 tokens/s and a burst of 200, with everyone of weight 1 and nobody in slot 0. */
function book(
  savings: Savings,
  demand: readonly number[],
  used: readonly number[],
  weights = demand.map(() => 1),
  forecast = demand.map(() => Number.NaN),
): void {
  savings.book({
    count: demand.length + 1,
    demandPerSec: Float64Array.from([0, ...demand]),
    forecastPerSec: Float64Array.from([0, ...forecast]),
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

  const weights = [1, 1];
  /** A second in which the first of two asks for that much; the second always asks for all there is. */
  const second = (savings: Savings, asked: number, used: number, forecast: number) =>
    book(savings, [asked, 500], [used, 100 - used], weights, [forecast, 500]);
  const afterQuietTime = (forecast = 20): Savings => {
    const savings = new Savings();
    for (let i = 0; i < 60; i++) second(savings, 20, 20, forecast);
    return savings;
  };

  it('come with an advance of four seconds of what a target is forecast to leave', () => {
    // Of the 80 a second that its neighbour has: two seconds saved, four times what it leaves in advance.
    expect(afterQuietTime(Number.NaN).tokens[1]).toBe(160);
    expect(afterQuietTime(70).tokens[1]).toBeCloseTo(160 + 4 * 10, 9);
    expect(afterQuietTime(20).tokens[1]).toBeCloseTo(160 + 4 * 60, 9);
    expect(afterQuietTime(100).tokens[1]).toBe(160);
    expect(afterQuietTime(20).tokens[2]).toBe(0);
  });

  it('are had in advance once, until as much was left', () => {
    const savings = afterQuietTime();
    // Twice its share, which is half now; what it saved is gone after two seconds.
    for (let i = 0; i < 3; i++) second(savings, 110, 100, 20);
    expect(savings.tokens[1]).toBeGreaterThan(0);
    for (let i = 0; i < 3; i++) second(savings, 110, 100, 20);
    expect(savings.tokens[1]).toBe(0);
    // A forecast that rises and falls again makes nobody's debt less.
    second(savings, 110, 50, 500);
    second(savings, 110, 50, 20);
    expect(savings.tokens[1]).toBe(0);
    const undebted = afterQuietTime();
    for (let i = 0; i < 6; i++) second(undebted, 110, 50, 20);
    for (const each of [savings, undebted]) second(each, 20, 20, 20);
    expect(savings.tokens[1]).toBeGreaterThan(60);
    expect(savings.tokens[1]).toBeLessThan(undebted.tokens[1]! - 60);
    savings.reset(1);
    expect(savings.tokens[1]).toBe(0);
  });

  it('are advanced to nobody who asks for its share all the time, whatever is forecast', () => {
    const savings = new Savings();
    for (let i = 0; i < 10; i++) second(savings, 500, 50, 0);
    expect(savings.tokens[1]).toBe(0);
    // Nor where it could have what nobody else asks for.
    const alone = new Savings();
    for (let i = 0; i < 60; i++) book(alone, [500, 0], [100, 0], weights, [0, 0]);
    expect(alone.tokens[1]).toBe(0);
    expect(alone.tokens[2]).toBe(200 + 4 * 100);
  });
});
