import { afterEach, describe, expect, it } from 'vitest';
import { Leases } from '../../src/table/leases.js';
import { BucketTable } from '../../src/table/table.js';
import { freshName } from './processes.js';

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const table of open.splice(0).reverse()) table.close();
});

/** A table on a virtual clock with one target of 10 tokens/s and 160 at once, its bucket full. */
function world() {
  const table = BucketTable.create({ capacity: 4, ratePerSec: 10, burst: 160, clock: 'virtual' });
  open.push(table);
  const handle = table.addTarget({ mayBorrow: false });
  table.setFallback(handle, 10, 160);
  table.advanceTo(20_000);
  const totals = () => {
    const row = table.totals(handle)!;
    const { arrivals, admitted, denied, passed, passedTokens, unmetered, unmeteredTokens } = table.constants.collect;
    return {
      arrivals: row[arrivals],
      admitted: row[admitted],
      denied: row[denied],
      passed: row[passed],
      passedTokens: row[passedTokens],
      unmetered: row[unmetered],
      unmeteredTokens: row[unmeteredTokens],
    };
  };
  return { table, handle, totals, tokens: () => table.peek(handle, 1)!.tokens };
}

describe("a target's mode", () => {
  it('in shadow lets through who would be denied, by every way of asking, and counts as if it had not', () => {
    const { table, handle, totals, tokens } = world();
    const { own, uncharged } = table.constants.decision;
    table.setMode(handle, 'shadow');
    expect(table.tryAcquire(handle, 160)).toBe(own);
    expect(table.tryAcquire(handle, 1)).toBe(uncharged);
    const decisions = new Int32Array(2);
    expect(table.acquireBatch([handle, handle], [2, 1e30], 2, decisions)).toBe(2);
    expect([...decisions]).toEqual([uncharged, uncharged]);
    expect(table.acquireOrWait(handle, 4)).toBe(uncharged);
    expect(new Leases(table).of(handle).tryAcquire(8)).toBe(uncharged);
    expect(tokens()).toBe(0);
    expect(totals()).toMatchObject({ arrivals: 5, admitted: 1, denied: 4, passed: 5, passedTokens: 15, unmetered: 0 });
    table.setMode(handle, 'enforce');
    expect(table.tryAcquire(handle, 1)).toBe(table.constants.decision.denied);
    expect(table.tryAcquire(handle, 1e30)).toBe(table.constants.decision.tooLarge);
  });

  it('off takes nothing, by every way of asking, and counts who asked', () => {
    const { table, handle, totals, tokens } = world();
    const { uncharged, badCost } = table.constants.decision;
    table.setMode(handle, 'off');
    expect(table.tryAcquire(handle, 1000)).toBe(uncharged);
    expect(table.acquireBatch([handle, handle], 1, 2)).toBe(2);
    expect(table.acquireOrWait(handle, 4)).toBe(uncharged);
    expect(new Leases(table).of(handle).tryAcquire(8)).toBe(uncharged);
    expect(table.charge(handle, 5)).toBe(5);
    expect(table.tryAcquire(handle, Number.NaN)).toBe(badCost);
    expect(tokens()).toBe(160);
    expect(totals()).toMatchObject({
      arrivals: 5,
      admitted: 0,
      denied: 0,
      passed: 0,
      unmetered: 5,
      unmeteredTokens: 1019,
    });
    expect(table.collect().data[table.constants.collect.columns + table.constants.collect.demandTokens]).toBe(1019);
  });

  it('off ends leases at the next request, and gives back what was not spent', () => {
    const { table, handle, tokens } = world();
    const leases = new Leases(table);
    const lease = leases.of(handle);
    let charged = 0;
    for (let ms = 0; leases.active === 0 && ms < 64; ms++) {
      charged += lease.tryAcquire(1) > 0 ? 1 : 0;
      table.advanceTo(20_000 + ms * 0.01);
    }
    expect(leases.active).toBe(1);
    table.setMode(handle, 'off');
    expect(lease.tryAcquire(1)).toBe(table.constants.decision.uncharged);
    expect(leases.active).toBe(0);
    expect(tokens()).toBeCloseTo(160 - charged, 1);
  });

  it('is seen at once by whoever else has the table, by name too, and stays with the region', () => {
    const name = freshName();
    const options = { name, capacity: 4, ratePerSec: 0.001, burst: 10, clock: 'monotonic' } as const;
    const mine = BucketTable.create(options);
    const other = BucketTable.create(options);
    open.push(other);
    const settings = { reservation: 0, weight: 1, limit: 0, limitBurst: 0, throttlingCost: 32 };
    const { handle } = mine.putTarget('a', { mayBorrow: false, settings });
    expect(other.modeOf(handle)).toBe('enforce');
    expect(other.tryAcquire(handle, 20)).toBe(mine.constants.decision.tooLarge);
    mine.setMode(handle, 'shadow');
    mine.close();
    expect(other.modeOf(handle)).toBe('shadow');
    expect(other.tryAcquire(handle, 20)).toBe(other.constants.decision.uncharged);
    expect(other.putTarget('a', { mayBorrow: false, settings })).toEqual({ handle, existed: true });
    expect(other.modeOf(handle)).toBe('shadow');
  });

  it('that is none, or of a target that is none, is refused with a code', () => {
    const { table, handle } = world();
    for (const mode of ['on', '', 'toString', undefined, 1])
      expect(() => table.setMode(handle, mode as 'off')).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('mode: expected') }),
      );
    expect(table.modeOf(handle)).toBe('enforce');
    table.removeTarget(handle);
    expect(() => table.setMode(handle, 'off')).toThrow(expect.objectContaining({ code: 'UNKNOWN_TARGET' }));
    expect(table.modeOf(handle)).toBeUndefined();
  });
});
