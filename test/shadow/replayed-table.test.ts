import { describe, expect, it } from 'vitest';
import { ReplayedTable } from '../../src/shadow/replayed-table.js';
import { column, columns } from '../../src/shadow/traffic.js';

const liveSlot = 5;
const tickMs = 100;

/** A table of 100 tokens/s and a burst of 50, and a target that stands for slot 5 of the live one. */
function replayed() {
  const table = new ReplayedTable({ capacity: 4, ratePerSec: 100, burst: 50 });
  const handle = table.table.addTarget({ mayBorrow: true });
  const slot = table.slotOf(handle);
  const c = table.constants.collect;
  const play = (given: Partial<Record<keyof typeof column, number>>) => {
    const data = new Float64Array(columns);
    data[column.slot] = liveSlot;
    for (const [name, value] of Object.entries(given)) data[column[name as keyof typeof column]] = value;
    const told: number[][] = [];
    table.setBorrowShares(
      Float64Array.from({ length: table.slots }, () => 1000),
      table.slots,
    );
    table.play({ tickMs, rows: 1, data }, { handleOf: (live) => (live === liveSlot ? handle : 0) }, (...asked) =>
      told.push(asked),
    );
    const { data: seen } = table.collect();
    const at = slot * c.columns;
    return { told, of: (name: keyof typeof c) => seen[at + c[name]]! };
  };
  return { table, play };
}

describe('a table that is asked again what another was asked', () => {
  it('serves what there are tokens for, and counts as demand what was asked, however often it tried', () => {
    const { table, play } = replayed();
    const { told, of } = play({ arrivals: 100, demandTokens: 200 });
    // Of 50 tokens and 10 that flow in during the tick, two at a time; the last half part comes after the last request.
    const admitted = of('admitted');
    expect(admitted).toBeGreaterThanOrEqual(29);
    expect(admitted).toBeLessThanOrEqual(30);
    expect(told).toEqual([[liveSlot, 100, 100 - admitted, 2]]);
    expect(of('arrivals')).toBe(100);
    expect(of('demandTokens')).toBe(200);
    expect(of('denied')).toBe(100 - admitted);
    expect(of('admittedTokens')).toBe(2 * admitted);
    table.close();
  });

  it('is not asked for what mode off let pass, which its loop knows of all the same', () => {
    const { table, play } = replayed();
    const { told, of } = play({ arrivals: 10, unmetered: 10, demandTokens: 40, unmeteredTokens: 40 });
    expect(told).toEqual([]);
    expect([of('demandTokens'), of('unmeteredTokens'), of('admittedTokens')]).toEqual([40, 40, 0]);
    table.close();
  });

  it('takes tokens that were had on lease for requests of the usual cost, and does not ask for those taken back', () => {
    const { table, play } = replayed();
    expect(play({ arrivals: 4, demandTokens: 12 }).told).toEqual([[liveSlot, 4, 0, 3]]);
    expect(play({ demandTokens: 9 }).told).toEqual([[liveSlot, 3, 0, 3]]);
    expect(play({ demandTokens: -6 }).told).toEqual([]);
    expect(play({ arrivals: 3, demandTokens: 9 }).told).toEqual([[liveSlot, 3, 0, 1]]);
    table.close();
  });
});
