import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exactSum, fill, topUp } from '../../src/allocate/fill.js';

fc.configureGlobal({ seed: 1, numRuns: 1000 });

const within = (least: number, most: number) => fc.double({ min: least, max: most, noNaN: true });
/** Sizes from nothing to a thousand billions. */
const sizes = fc
  .tuple(fc.integer({ min: 0, max: 1000 }), fc.constantFrom(1e-9, 1, 1, 1, 1e9))
  .map(([value, unit]) => value * unit);
const terms = fc.array(fc.record({ offset: sizes, isBehind: fc.boolean(), slope: sizes, least: sizes, room: sizes }), {
  minLength: 1,
  maxLength: 12,
});

describe('raising a common level', () => {
  it('gives away the total, each as far as one level reaches, however slopes and offsets differ', () => {
    fc.assert(
      fc.property(terms, fc.integer({ min: 0, max: 110 }), (rows, part) => {
        const column = (of: (row: (typeof rows)[number]) => number) => Float64Array.from(rows, of);
        const offset = column((row) => (row.isBehind ? -row.offset : Math.min(row.offset, row.least)));
        const slope = column((row) => row.slope);
        const least = column((row) => row.least);
        const most = column((row) => row.least + (row.slope > 0 ? row.room : 0));
        const owed = exactSum(least);
        const total = owed + (part / 100) * (exactSum(most) - owed);
        const shares = fill(offset, slope, least, most, total);
        const expected = Math.min(total, exactSum(most));
        // What is added to an offset is rounded to its last place.
        const scale = expected + offset.reduce((sum, value) => sum + Math.abs(value), 0);
        expect(Math.abs(exactSum(shares) - expected)).toBeLessThanOrEqual(1e-13 * scale);
        // Whoever is below its most has reached the level that whoever is above its least has not passed.
        const levels = [...shares.keys()].filter((i) => slope[i]! > 0);
        const at = (i: number) => (shares[i]! - offset[i]!) / slope[i]!;
        const slack = (i: number) => (1e-13 * scale) / slope[i]!;
        for (const i of levels.filter((i) => shares[i]! < most[i]!))
          for (const j of levels.filter((j) => shares[j]! > least[j]!))
            expect(at(j) - slack(j)).toBeLessThanOrEqual(at(i) + slack(i));
      }),
    );
  });
});

describe('topping up', () => {
  it('gives the same whatever scale it begins to look from', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(within(0, 100), within(-5, 50)), { minLength: 1, maxLength: 12 }),
        within(0, 1000),
        fc.oneof(within(0, 10), fc.constantFrom(0, 1e-300, 1e300)),
        (rows, budget, guess) => {
          const claims = Float64Array.from(rows, ([claim]) => claim);
          const held = Float64Array.from(rows, ([, tokens]) => tokens);
          const [anew, from] = [new Float64Array(rows.length), new Float64Array(rows.length)];
          topUp(claims, held, rows.length, budget, anew);
          topUp(claims, held, rows.length, budget, from, guess);
          for (const [i, gift] of from.entries()) expect(gift).toBeCloseTo(anew[i]!, 9);
        },
      ),
    );
  });
});
