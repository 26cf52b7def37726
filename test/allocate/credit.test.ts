import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocators } from '../../src/allocate/allocator.js';
import { CreditBook } from '../../src/allocate/credit.js';

const { credit } = allocators;

/** Plays demands, one row a second, with 10 tokens/s for every target. @returns what each was really served */
function play(rows: readonly (readonly number[])[], claimed = rows): { served: number[]; book: CreditBook } {
  const count = rows[0]!.length;
  const book = new CreditBook();
  const slots = rows[0]!.map((_, i) => i + 1);
  const served = new Array<number>(count).fill(0);
  rows.forEach((row, step) => {
    const rates = credit({
      demandPerSec: claimed[step]!,
      floorPerSec: new Float64Array(count),
      ratePerSec: 10 * count,
      accounts: { book, slots, seconds: 1 },
    });
    row.forEach((demand, i) => {
      served[i]! += Math.min(demand, rates[i]!);
    });
    book.settle(1);
  });
  return { served, book };
}

const seconds = (count: number, row: (second: number) => number[]) => Array.from({ length: count }, (_, s) => row(s));

describe('credits', () => {
  it('give a burst after idling more than its fair share, until the head start is used up', () => {
    const { book } = play(seconds(20, () => [0, 30, 30]));
    expect(book.balance(1)).toBeGreaterThan(book.balance(2));
    const rates = credit({
      demandPerSec: [30, 30, 30],
      floorPerSec: [0, 0, 0],
      ratePerSec: 30,
      accounts: { book, slots: [1, 2, 3], seconds: 1 },
    });
    // 5 are everyone's guarantee, the other 15 are for whoever has credits.
    expect([...rates]).toEqual([20, 5, 5]);
    const both = seconds(20, () => [0, 30, 30]).concat(seconds(200, () => [30, 30, 30]));
    const { served } = play(both);
    // What it left to the others it got back from them, as far as the rate beyond the guarantees reaches.
    expect(Math.max(...served) / Math.min(...served)).toBeLessThan(1.03);
  });

  it('serve targets with the same average alike over time, however their bursts lie', () => {
    const rows = seconds(600, (s) => [s % 10 === 0 ? 100 : 0, 10, s % 60 < 6 ? 100 : 0, 40]);
    const { served } = play(rows);
    // Who asks for its fair share at every moment has half of it at once, and the rest nearly always.
    expect(served[1]).toBeGreaterThan(5400);
    // A bursty target loses to the greedy one only what no credit could buy: more than there is at once.
    const greedy = served[3]!;
    expect(served[0]! + served[2]! + greedy).toBeGreaterThan(0.95 * 18_000);
    const withoutCredits = rows.reduce(
      (sum, demandPerSec) =>
        sum +
        Math.min(
          demandPerSec[0]!,
          allocators['max-min']({ demandPerSec, floorPerSec: [0, 0, 0, 0], ratePerSec: 40 })[0]!,
        ),
      0,
    );
    expect(served[0]).toBeGreaterThan(1.3 * withoutCredits);
  });

  it('do not pay those who hoard: asking for more than one needs gains nothing', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 3, maxLength: 3 }), {
          minLength: 60,
          maxLength: 60,
        }),
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 60, maxLength: 60 }),
        (rows, more) => {
          const truth = play(rows).served[0]!;
          const claimed = rows.map(([own, ...others], s) => [own! + more[s]!, ...others]);
          // Karma is strategy-proof in whole slices; a step's rounding of balances may gain a burst's part once.
          expect(play(rows, claimed).served[0]!).toBeLessThanOrEqual(truth + 30);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('are neither made nor lost in sum, and stay bounded when nobody is short', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.double({ min: 0, max: 200, noNaN: true }), { minLength: 4, maxLength: 4 }), {
          minLength: 1,
          maxLength: 50,
        }),
        (rows) => {
          const { book } = play(rows);
          const sum = [1, 2, 3, 4].reduce((total, slot) => total + book.balance(slot), 0);
          expect(Math.abs(sum)).toBeLessThan(1e-6);
        },
      ),
    );
    const { book } = play(seconds(5000, () => [0, 10, 5, 1]));
    for (const slot of [1, 2, 3, 4]) expect(Math.abs(book.balance(slot))).toBeLessThanOrEqual(3000);
  });

  it('go with the target: a slot given to another begins at the mean, and a balance can be taken up again', () => {
    const { book } = play(seconds(20, () => [0, 30]));
    const had = book.balance(1);
    expect(had).toBeGreaterThan(0);
    book.reset(1);
    expect(book.balance(1)).toBe(0);
    book.restore(1, had);
    expect(book.balance(1)).toBe(had);
    book.restore(1, Number.NaN);
    expect(book.balance(1)).toBe(0);
  });

  it('without accounts divide as max-min does above the guarantee', () => {
    expect([...credit({ demandPerSec: [10, 70, 90], floorPerSec: [1, 1, 1], ratePerSec: 90 })]).toEqual([10, 40, 40]);
  });
});
