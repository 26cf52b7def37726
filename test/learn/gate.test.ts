import { describe, expect, it } from 'vitest';
import { compare } from '../../src/learn/gate.js';
import { Random } from '../../src/learn/random.js';

/** Losses of a champion that vary from block to block, and of a challenger that saves a part of each, give or take. */
function pair(blocks: number, saves: number, noise: number, seed: number) {
  const random = new Random(seed);
  const champion = [10, 1].map((size) => Float64Array.from({ length: blocks }, () => size * random.logBetween(0.3, 3)));
  const challenger = champion.map((losses) => losses.map((loss) => loss * (1 - saves + noise * random.normal())));
  return [champion, challenger] as const;
}

describe('the gate between champion and challenger', () => {
  it('lets one through that is better in block after block', () => {
    const { gain, wins } = compare(...pair(12, 0.05, 0.02, 1));
    expect(wins).toBe(true);
    expect(gain).toBeGreaterThan(0.03);
  });

  it('keeps out one that is better by less than it varies', () => {
    expect(compare(...pair(12, 0.03, 0.3, 2)).wins).toBe(false);
  });

  it('keeps out one that owes its lead to a single block', () => {
    const champion = [Float64Array.of(1, 1, 1, 50, 1, 1)];
    const challenger = [Float64Array.of(1.01, 1.01, 1.01, 20, 1.01, 1.01)];
    const { gain, wins } = compare(champion, challenger);
    expect(gain).toBeGreaterThan(0.4);
    expect(wins).toBe(false);
  });

  it('keeps out one that is better by a hair, however surely', () => {
    expect(compare(...pair(24, 0.005, 0.0001, 3)).wins).toBe(false);
  });

  it('is fooled by equals in about one case of twenty, or less', () => {
    let fooled = 0;
    for (let seed = 0; seed < 400; seed++) if (compare(...pair(8, 0, 0.1, seed)).wins) fooled++;
    expect(fooled).toBeLessThan(32);
  });

  it('counts horizons alike, whatever the size of their losses', () => {
    const small = compare(
      [Float64Array.of(100, 100), Float64Array.of(1, 1)],
      [Float64Array.of(100, 100), Float64Array.of(0.5, 0.5)],
    );
    expect(small.gain).toBeCloseTo(0.25);
  });

  it('has nothing to say without losses, or with one block', () => {
    expect(compare([Float64Array.of(0, 0)], [Float64Array.of(0, 0)]).wins).toBe(false);
    expect(compare([Float64Array.of(2)], [Float64Array.of(1)]).wins).toBe(false);
    expect(compare([], []).wins).toBe(false);
  });
});
