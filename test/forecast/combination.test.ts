import { describe, expect, it } from 'vitest';
import { Combination, standIns } from '../../src/forecast/combination.js';
import { quantileCount, quantileLevels } from '../../src/forecast/forecaster.js';
import { Random } from '../../src/learn/random.js';

const median = quantileLevels.indexOf(0.5);
const mixtureMember = 0;
const classicalMember = 1;
/** Forecasts of the externals, where only who has any matters. */
const shipped = new Float32Array(quantileCount);
const refined = new Float32Array(quantileCount);

/**
 * Combines what members say of one row, and scores it at once.
 * @param say what the mixture, its classical part and the externals say, the same at every level; undefined: nothing
 * @returns what was combined, at the median
 */
function combineOnce(
  combination: Combination,
  actual: number,
  [mixture, classical, ...externals]: readonly (number | undefined)[],
  scale = 1,
): number {
  const all = (value: number): Float64Array => new Float64Array(quantileCount).fill(value);
  const others = standIns(externals.map((value) => (value === undefined ? undefined : Float32Array.from(all(value)))));
  const said = new Float32Array(quantileCount * combination.members);
  const out = all(mixture!);
  combination.gather(out, all(classical!), others, 0, said, 0);
  combination.combine(out, all(classical!), others, 0);
  combination.score(actual, scale, said, 0, Float32Array.from(out), 0);
  return out[median]!;
}

/** The same step after step. */
function combined(
  combination: Combination,
  actual: readonly number[],
  say: (step: number) => (number | undefined)[],
): number[] {
  return actual.map((value, step) => {
    const out = combineOnce(combination, value, say(step));
    combination.endScoring();
    return out;
  });
}

const meanMiss = (values: readonly number[], actual: readonly number[], from: number): number =>
  values.slice(from).reduce((sum, value, i) => sum + Math.abs(value - actual[from + i]!), 0) / (values.length - from);

describe('the combination', () => {
  it('does better than the best of its members where they err to opposite sides', () => {
    const random = new Random(3);
    const actual = Array.from({ length: 1500 }, () => 10 + random.normal());
    const say = (): number[] => [13, 6, 6, 13];
    const values = combined(new Combination(2, 1, 1), actual, say);
    const best = Math.min(
      meanMiss(
        actual.map(() => 13),
        actual,
        500,
      ),
      meanMiss(
        actual.map(() => 6),
        actual,
        500,
      ),
    );
    expect(meanMiss(values, actual, 500)).toBeLessThan(0.4 * best);
    expect(values.at(-1)).toBeGreaterThan(9.4);
    expect(values.at(-1)).toBeLessThan(10.6);
  });

  it.each([mixtureMember, classicalMember, 2, 3])('comes to trust the one that is right (member %i)', (right) => {
    const random = new Random(5);
    const actual = Array.from({ length: 400 }, () => 10 * random.uniform());
    const wrong = Array.from({ length: 400 }, () => 10 * random.uniform());
    const values = combined(new Combination(2, 1, 1), actual, (step) =>
      [0, 1, 2, 3].map((member) => (member === right ? actual[step]! : wrong[step]!)),
    );
    expect(meanMiss(values, actual, 200)).toBeLessThan(0.05);
  });

  it('leaves one that is far off within a step', () => {
    const actual = Array.from({ length: 5 }, () => 10);
    const values = combined(new Combination(2, 1, 1), actual, () => [11, 11, 11, 1e9]);
    expect(values[0]).toBeGreaterThan(1e8);
    expect(values[1]).toBeCloseTo(11);
  });

  it('forgets who was right long ago', () => {
    const random = new Random(11);
    const actual = Array.from({ length: 8201 }, () => 10 + 3 * random.normal());
    const values = combined(new Combination(1, 1, 1), actual, (step) => (step < 8000 ? [12, 12, 10] : [10, 12, 12]));
    expect(values[7999]).toBeLessThan(10.3);
    expect(values.at(-1)).toBeLessThan(10.6);
  });

  it('lets no large row decide for all others', () => {
    const combination = new Combination(1, 1, 1);
    for (let step = 0; step < 300; step++) {
      // The mixture is right about a hundred small rows, the external about one that asks for ten thousand times as much.
      for (let row = 0; row < 100; row++) combineOnce(combination, 1, [1, 1, 1.5]);
      combineOnce(combination, 10_000, [12_000, 12_000, 10_000], 10_000);
      combination.endScoring();
    }
    expect(combineOnce(combination, 1, [0, 0, 1])).toBeLessThan(0.05);
  });

  it('has the one before stand in for an external that says nothing, and goes on without any', () => {
    const combination = new Combination(2, 1, 1);
    const [both, first, none] = [
      [10, 10, 20, 20],
      [10, 10, 20, undefined],
      [10, 10, undefined, undefined],
    ].map((say) => combined(new Combination(2, 1, 1), [10], () => say)[0]);
    expect(both).toBeCloseTo(14);
    expect(first).toBeCloseTo(14);
    expect(none).toBeCloseTo(10);
    // Silence is neither held against it nor rewarded.
    const values = combined(
      combination,
      Array.from({ length: 300 }, () => 10),
      () => [12, 12, undefined, undefined],
    );
    expect(values.at(-1)).toBeCloseTo(12);
    expect(combined(combination, [10], () => [10, 10, 20, 20])[0]).toBeCloseTo(14);
  });

  it('names what does most', () => {
    const combination = new Combination(2, 1, 1);
    // At first no external weighs more than the mixture: what does most in that decides.
    expect(combination.verdicts([shipped, refined])).toEqual([0, 1, 2]);
    expect(combination.verdicts([shipped, undefined])[1]).toBe(1);
    expect(combination.verdicts([undefined, undefined])[0]).toBe(0);
    combined(
      combination,
      Array.from({ length: 200 }, () => 10),
      () => [20, 10, 20, 20],
    );
    expect(combination.verdicts([shipped, refined])).toEqual([0, 0, 0]);
  });

  it('learns less from forecasts of spans that overlap than from as many that do not', () => {
    const regretOnly = [11, 11, 9.5];
    const at = (steps: number): number =>
      combined(
        new Combination(1, steps, 1),
        Array.from({ length: 100 }, () => 10),
        () => regretOnly,
      ).at(-1)!;
    // The same forecasts, once taken for a hundred surprises and once for ten, come to other weights.
    expect(Math.abs(at(1) - at(10))).toBeGreaterThan(0.02);
  });

  it('takes its time where few forecasts have been scored', () => {
    const [, second] = combined(new Combination(1, 1, 1), [10, 10], () => [11, 11, 13]);
    // The external's loss was three times as much, once: that may be chance.
    expect(second).toBeGreaterThan(11.02);
  });
});
