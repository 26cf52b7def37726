import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { Foretoken } from '../../src/index.js';
import { workerFile } from '../../src/paths.js';
import { type Lease, Leases } from '../../src/table/leases.js';
import { BucketTable } from '../../src/table/table.js';

const open: BucketTable[] = [];
afterEach(() => {
  for (const table of open.splice(0)) table.close();
});

const burst = 1600;
const ratePerSec = 100_000;

/** A table of one target on a virtual clock, its bucket full. */
function world() {
  const table = BucketTable.create({ capacity: 2, ratePerSec, burst, clock: 'virtual' });
  open.push(table);
  const handle = table.addTarget({ mayBorrow: false });
  table.extendValidity(1e9);
  const allocate = (rate: number, most: number) => table.allocate(Float64Array.of(0, 0, rate, most), 2, true);
  allocate(ratePerSec, burst);
  let nowMs = 0;
  const advance = (ms: number) => {
    nowMs += ms;
    table.advanceTo(nowMs);
  };
  advance(1000);
  const attach = () => {
    const other = BucketTable.attach(table.token);
    open.push(other);
    const leases = new Leases(other);
    return { table: other, leases, lease: leases.of(handle) };
  };
  /** Asks until a chunk is held. Returns what was admitted on the way. */
  const warm = (lease: Lease, leases: Leases) => {
    let admitted = 0;
    for (let i = 0; i < 64 && leases.active === 0; i++) {
      if (lease.tryAcquire(1) > 0) admitted++;
      advance(0.01);
    }
    expect(leases.active).toBe(1);
    return admitted;
  };
  return { table, handle, allocate, advance, attach, warm };
}

const drain = (ask: () => number): number => {
  let admitted = 0;
  while (ask() > 0) admitted++;
  return admitted;
};

describe('a lease', () => {
  it('that is spent late gives nothing beyond the burst', () => {
    const { table, handle, advance, attach, warm } = world();
    const { lease, leases } = attach();
    warm(lease, leases);
    const held = burst - table.peek(handle, 1)!.tokens;
    expect(held).toBeGreaterThan(8);
    // However long the bucket refills: what is held counts as if it still lay in it.
    advance(60_000);
    const strict = drain(() => table.tryAcquire(handle, 1));
    const leased = drain(() => lease.tryAcquire(1));
    expect(strict + leased).toBeLessThanOrEqual(burst + 1);
    expect(strict + leased).toBeGreaterThan(burst - 2);
    leases.close();
    // Nor after it has been settled.
    expect(table.tryAcquire(handle, 1)).toBe(0);
  });

  it('that outlives the promise it was taken under is not spent beside the burst that others have after it', () => {
    const { table, handle, advance, attach, warm } = world();
    const other = table.addTarget({ mayBorrow: false });
    table.setFallback(handle, 1, 8);
    table.setFallback(other, ratePerSec - 1, burst - 8);
    const { lease, leases } = attach();
    warm(lease, leases);
    advance(2e9);
    // The first to ask notices the lapse; a second later everything is full as it is without a controller.
    table.tryAcquire(other, 1);
    advance(1000);
    const admitted = drain(() => table.tryAcquire(other, 1)) + drain(() => lease.tryAcquire(1));
    expect(admitted).toBeLessThanOrEqual(burst + 1);
    expect(admitted).toBeGreaterThan(burst - 10);
    leases.close();
  });

  it('over many chunks admits what the bucket yields and no more', () => {
    const { table, handle, advance, attach } = world();
    const { lease, leases } = attach();
    let admitted = 0;
    for (let i = 0; i < 20_000; i++) {
      if (lease.tryAcquire(1) > 0) admitted++;
      if (i % 3 === 0 && table.tryAcquire(handle, 1) > 0) admitted++;
      advance(0.005);
    }
    leases.close();
    const seconds = 20_000 * 0.005e-3;
    expect(admitted).toBeLessThanOrEqual(burst + ratePerSec * seconds + 1);
    expect(admitted + table.peek(handle, 1)!.tokens).toBeGreaterThan(0.99 * (burst + ratePerSec * seconds));
  });

  it('is never spent on another target that has the slot by now, whatever its epoch', () => {
    const { table, handle, advance, attach, warm, allocate } = world();
    const { table: mine, lease, leases } = attach();
    const word = 1024 + table.slotOf(handle) * 16;
    warm(lease, leases);
    const epoch = mine.words[word]! & 0xff;
    let owner = handle;
    // An epoch has 256 values: the new owner's comes to be the one under which the chunk was leased.
    do {
      table.removeTarget(owner);
      owner = table.addTarget({ mayBorrow: false });
      for (let i = 0; i < 300 && (mine.words[word]! & 0xff) !== epoch; i++) allocate(ratePerSec, burst - (i % 2));
    } while ((mine.words[word]! & 0xff) !== epoch);
    advance(1);
    expect(table.slotOf(owner)).toBe(table.slotOf(handle));
    expect(lease.tryAcquire(1)).toBe(table.constants.decision.badHandle);
    leases.close();
  });

  it('counts as admitted while it is held, and exactly what was admitted once it is settled', () => {
    const { table, handle, attach, warm } = world();
    const { lease, leases } = attach();
    let admitted = warm(lease, leases);
    const { admittedTokens, admitted: requests } = table.constants.collect;
    expect(table.totals(handle)![admittedTokens]).toBeGreaterThan(admitted);
    for (let i = 0; i < 5; i++) if (lease.tryAcquire(1) > 0) admitted++;
    lease.giveBack();
    expect(leases.active).toBe(0);
    expect(table.totals(handle)![admittedTokens]).toBeCloseTo(admitted, 6);
    expect(table.totals(handle)![requests]).toBe(admitted);
    expect(table.peek(handle, 1)!.tokens).toBeGreaterThanOrEqual(burst - admitted - 1);
  });

  it('of every thread at once is at most half of the burst, and a sixteenth each', () => {
    const { table, handle, attach, warm } = world();
    const before = table.peek(handle, 1)!.tokens;
    const threads = Array.from({ length: 10 }, attach);
    let spent = 0;
    for (const { lease, leases } of threads.slice(0, 8)) {
      const had = table.peek(handle, 1)!.tokens;
      spent += warm(lease, leases);
      expect(had - table.peek(handle, 1)!.tokens).toBeLessThanOrEqual(burst / 16 + 64);
    }
    expect(before - spent - table.peek(handle, 1)!.tokens).toBeLessThanOrEqual(burst / 2 + 1);
    // Beyond eight there are no leases, and every request is decided by the bucket.
    for (const { lease, leases } of threads.slice(8)) {
      for (let i = 0; i < 40; i++) expect(lease.tryAcquire(1)).toBe(1);
      expect(leases.active).toBe(0);
    }
  });

  it('ends when its target is given another rate, burst or limit, and at once when it is removed', () => {
    const { table, handle, allocate, attach, warm } = world();
    const { lease, leases } = attach();
    warm(lease, leases);
    allocate(ratePerSec, 8);
    // Of a burst of 8 nobody holds a chunk: what was held came back, or lies below it as a debt.
    lease.tryAcquire(1);
    expect(leases.active).toBe(0);
    expect(table.peek(handle, 1)!.tokens).toBeLessThanOrEqual(8);
    allocate(ratePerSec, burst);
    table.setLimit(handle, ratePerSec, burst);
    for (let i = 0; i < 40; i++) lease.tryAcquire(1);
    expect(leases.active).toBe(0);
    table.setLimit(handle, 0, 0);
    table.removeTarget(handle);
    expect(lease.tryAcquire(1)).toBe(table.constants.decision.badHandle);
  });

  it('on a removed target spends nothing, also when its slot has a new owner', () => {
    const { table, handle, allocate, advance, attach, warm } = world();
    const { lease, leases } = attach();
    warm(lease, leases);
    table.removeTarget(handle);
    table.addTarget({ mayBorrow: false });
    const again = table.addTarget({ mayBorrow: false });
    expect(table.slotOf(again) === table.slotOf(handle) || table.slots === 3).toBe(true);
    allocate(ratePerSec, burst);
    advance(1000);
    expect(lease.tryAcquire(1)).toBe(table.constants.decision.badHandle);
    expect(leases.active).toBe(0);
  });

  it('refuses a cost that is none, like a request without a lease', () => {
    const { table, attach, warm } = world();
    const { lease, leases } = attach();
    warm(lease, leases);
    const { badCost } = table.constants.decision;
    for (const cost of [0, -1, Number.NaN, Number.NEGATIVE_INFINITY]) expect(lease.tryAcquire(cost)).toBe(badCost);
    expect(lease.tryAcquire(1e-300)).not.toBe(badCost);
    leases.close();
    expect(leases.active).toBe(0);
  });

  it('on a closed table is an error and not a decision', () => {
    const { attach, warm } = world();
    const { table, lease, leases } = attach();
    warm(lease, leases);
    table.close();
    expect(lease.tryAcquire(1)).toBe(table.constants.decision.closed);
  });
});

describe('a target asked with leases', () => {
  const busy = (target: { tryAcquireLeased(): boolean }, times: number) => {
    let admitted = 0;
    for (let i = 0; i < times; i++) if (target.tryAcquireLeased()) admitted++;
    return admitted;
  };

  it('gives idle chunks back by itself, and keeps no timer then', async () => {
    const foretoken = await Foretoken.open({ ratePerSec: 1e6, burst: 1e6, control: false });
    onTestFinished(() => foretoken.close());
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const a = foretoken.addTarget('a', { reservation: 500_000 });
    await expect.poll(() => a.peek().tokens, { timeout: 10_000 }).toBeGreaterThan(1000);
    const admitted = busy(a, 5000);
    expect(admitted).toBe(5000);
    // The sweep's timer does not keep a process alive, so it is not among the active ones either.
    expect(timers()).toBe(before);
    expect(a.totals()).toMatchObject({ admitted, admittedTokens: admitted });
  });

  it('is denied while others wait in its line', async () => {
    const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 1000, control: false, borrow: false });
    onTestFinished(() => foretoken.close());
    const a = foretoken.addTarget('a', { reservation: 500 });
    await expect.poll(() => a.peek().tokens, { timeout: 10_000 }).toBeGreaterThan(100);
    busy(a, 50);
    const waiting = a.acquire(a.peek().burst, { deadlineMs: 60_000 });
    expect(busy(a, 2000)).toBe(0);
    await foretoken.close();
    await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('loses nothing of its burst to a thread that ended without giving back', async () => {
    const foretoken = await Foretoken.open({ ratePerSec: 1e6, burst: 1e6, control: false, borrow: false });
    onTestFinished(() => foretoken.close());
    const a = foretoken.addTarget('a');
    await expect.poll(() => a.peek().tokens, { timeout: 10_000 }).toBe(1e6);
    const code = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.module).then(({ Foretoken }) => {
        const a = Foretoken.attach(workerData.share).target('a');
        let admitted = 0;
        for (let i = 0; i < 50000; i++) if (a.tryAcquireLeased()) admitted++;
        parentPort.postMessage(admitted);
        process.exit();
      });`;
    const worker = new Worker(code, {
      eval: true,
      workerData: { module: workerFile('index'), share: foretoken.share() },
    });
    // Both at once: a thread that ends may tell both in one turn.
    const [admitted] = await Promise.all([
      new Promise<number>((resolve) => worker.once('message', resolve)),
      new Promise((resolve) => worker.once('exit', resolve)),
    ]);
    expect(admitted).toBe(50_000);
    // What it held counts as admitted, at most a sixteenth of the burst; the burst is whole again.
    const { admittedTokens } = a.totals();
    expect(admittedTokens).toBeGreaterThanOrEqual(admitted);
    expect(admittedTokens).toBeLessThanOrEqual(admitted + 1e6 / 16);
    await expect.poll(() => a.peek().tokens, { timeout: 10_000 }).toBe(1e6);
  });
});
