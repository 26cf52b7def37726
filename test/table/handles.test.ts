import { expect, it } from 'vitest';
import { BucketTable } from '../../src/table/table.js';

it('takes for a handle only the number that it gave out, and for a cost only what is one, alone and in a batch', () => {
  const table = BucketTable.create({ capacity: 16, ratePerSec: 1000, burst: 1600, clock: 'virtual' });
  try {
    // The last has slot 16, so that what lies beyond all handles can still differ from its own by a power of two.
    const handles = Array.from({ length: 16 }, () => table.addTarget({ mayBorrow: false }));
    const handle = handles[15]!;
    table.setFallback(handle, 100, 100);
    table.advanceTo(10_000);
    const { own, badHandle, badCost, tooLarge } = table.constants.decision;
    const requests: [number, number, number][] = [
      [handle, 1, own],
      [handle + 0.5, 1, badHandle],
      [-handle, 1, badHandle],
      [0, 1, badHandle],
      [handle - 16, 1, badHandle],
      [handle + 1, 1, badHandle],
      [handle + table.constants.indexSpan, 1, badHandle],
      [handle + 2 ** 53, 1, badHandle],
      [handle + 2 ** 56, 1, badHandle],
      [handle + 2 ** 63, 1, badHandle],
      [Number.NaN, 1, badHandle],
      [Number.POSITIVE_INFINITY, 1, badHandle],
      [Number.NEGATIVE_INFINITY, 1, badHandle],
      [handle, 0, badCost],
      [handle, -1, badCost],
      [handle, -(2 ** 62), badCost],
      [handle, Number.NaN, badCost],
      [handle, Number.POSITIVE_INFINITY, badCost],
      [handle, 1e30, tooLarge],
      [handle, 0.1, own],
      [handle, 1, own],
    ];
    expect(requests.map(([h, cost]) => table.tryAcquire(h, cost))).toEqual(requests.map(([, , expected]) => expected));
    const decisions = new Int32Array(requests.length);
    const [hs, costs] = [requests.map(([h]) => h), requests.map(([, cost]) => cost)];
    expect(table.acquireBatch(hs, costs, requests.length, decisions)).toBe(3);
    expect([...decisions]).toEqual(requests.map(([, , expected]) => expected));
    expect(table.peek(handle, 1)!.tokens).toBeCloseTo(100 - 2 * 2.1, 5);
  } finally {
    table.close();
  }
});

it('decides in a table too large for the cache as in any other, by turns with a small one, and once it is closed', () => {
  const tables = [20_000, 2].map((capacity) =>
    BucketTable.create({ capacity, ratePerSec: 1000, burst: 1000, clock: 'virtual' }),
  );
  const { own, badHandle, closed, denied } = tables[0]!.constants.decision;
  try {
    const handles = tables.map((table) => {
      const handle = table.addTarget({ mayBorrow: false });
      table.setFallback(handle, 100, 2);
      table.advanceTo(1000);
      return handle;
    });
    const ask = () => tables.map((table, i) => table.tryAcquire(handles[i]!, 1));
    expect([ask(), ask(), ask()]).toEqual([
      [own, own],
      [own, own],
      [denied, denied],
    ]);
    for (const wrong of [-1, Number.NaN, 2 ** 53, 16_777_215]) expect(tables[0]!.tryAcquire(wrong, 1)).toBe(badHandle);
    tables[0]!.close();
    expect(ask()).toEqual([closed, denied]);
    expect(tables[0]!.tryAcquire(2 ** 53, 1)).toBe(closed);
  } finally {
    for (const table of tables) table.close();
  }
});
