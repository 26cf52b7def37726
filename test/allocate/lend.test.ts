import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lendRates } from '../../src/allocate/lend.js';

interface Row {
  need: number;
  floor?: number;
  saved?: number;
  weight?: number;
}

function lend(rows: readonly Row[], ratePerSec: number): { rates: number[]; left: number } {
  const column = (of: (row: Row) => number) => Float64Array.from(rows, of);
  const out = new Float64Array(rows.length);
  const left = lendRates(
    {
      count: rows.length,
      needPerSec: column((row) => row.need),
      floorPerSec: column((row) => row.floor ?? 0),
      savedPerSec: column((row) => row.saved ?? 0),
      weights: column((row) => row.weight ?? 1),
      ratePerSec,
    },
    out,
  );
  return { rates: [...out], left };
}

describe('rates until the next tick', () => {
  it('flow from who cannot use them to those who are short, by weight', () => {
    const idle = { need: 0 };
    const { rates, left } = lend([idle, { need: 500 }, { need: 500, weight: 3 }], 100);
    expect(rates).toEqual([0, 25, 75]);
    expect(left).toBe(0);
  });

  it('are first for those who took less than their share until now, as far as they saved', () => {
    const { rates } = lend([{ need: 0 }, { need: 50, saved: 25 }, { need: 500 }], 100);
    // 25 first, and of the rest as much as it needs.
    expect(rates[1]).toBe(50);
    expect(rates[2]).toBe(50);
    const greedy = { need: 500 };
    expect(lend([{ need: 90, saved: 40 }, greedy], 100).rates).toEqual([70, 30]);
  });

  it('leave over what nobody can use', () => {
    expect(lend([{ need: 10 }, { need: 20 }], 100)).toEqual({ rates: [10, 20], left: 70 });
  });

  it('are together at most the rate, keep every floor, and leave nothing idle while somebody is short', () => {
    const row = fc.record({
      need: fc.double({ min: 0, max: 1000, noNaN: true }),
      floorPart: fc.double({ min: 0, max: 1, noNaN: true }),
      saved: fc.double({ min: 0, max: 1000, noNaN: true }),
      weight: fc.double({ min: 0.01, max: 100, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 12 }), (drawn) => {
        const rows = drawn.map(({ floorPart, ...rest }) => ({ ...rest, floor: (1000 * floorPart) / drawn.length }));
        const { rates, left } = lend(rows, 1000);
        const sum = rates.reduce((a, b) => a + b, 0);
        expect(sum).toBeLessThanOrEqual(1000 * (1 + 1e-9));
        expect(sum + left).toBeCloseTo(1000, 6);
        rows.forEach(({ floor, need }, i) => {
          expect(rates[i]).toBeGreaterThanOrEqual(floor);
          if (left > 1e-6) expect(rates[i]).toBeGreaterThanOrEqual(need - 1e-6);
        });
      }),
    );
  });
});
