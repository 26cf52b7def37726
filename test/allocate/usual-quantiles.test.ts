import { describe, expect, it } from 'vitest';
import { UsualQuantiles } from '../../src/allocate/usual-quantiles.js';
import { quantileCount } from '../../src/forecast/forecaster.js';

const all = (value: number) => new Array<number>(quantileCount).fill(value);

describe('the usual quantiles', () => {
  it('begin with the first and follow the others slowly, slot by slot and level by level', () => {
    const usual = new UsualQuantiles();
    usual.grow(3);
    usual.take(1, [0, ...all(10)], 1);
    usual.take(2, [1, 2, 3, 4, 5], 0);
    expect(usual.at(1, 2)).toBe(10);
    usual.take(1, all(41), 0);
    expect(usual.at(1, 2)).toBeCloseTo(12, 9);
    expect([0, 1, 2, 3, 4].map((level) => usual.at(2, level))).toEqual([1, 2, 3, 4, 5]);
  });

  it('begin anew for a slot that was given to another, and outlive growth', () => {
    const usual = new UsualQuantiles();
    usual.grow(2);
    usual.take(1, all(10), 0);
    usual.grow(9);
    usual.take(8, all(7), 0);
    expect(usual.at(1, 0)).toBe(10);
    usual.reset(1);
    usual.take(1, all(3), 0);
    expect(usual.at(1, 0)).toBe(3);
    expect(() => usual.reset(1000)).not.toThrow();
  });
});
