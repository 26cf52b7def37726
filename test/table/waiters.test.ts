import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { Foretoken, ForetokenError, type ForetokenOptions, type Target } from '../../src/index.js';
import { type Due, DueHeap } from '../../src/table/due-heap.js';
import { BucketTable } from '../../src/table/table.js';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const it of open.splice(0).reverse()) await it.close();
});

async function openWith(options: Partial<ForetokenOptions> = {}): Promise<Foretoken> {
  const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 100, control: false, borrow: false, ...options });
  open.push(foretoken);
  return foretoken;
}

/** A table on a virtual clock with one target of 10 tokens/s and 10 at once, and as many threads as asked for. */
function threadsAt(count: number) {
  const table = BucketTable.create({ capacity: 4, ratePerSec: 10, burst: 10, clock: 'virtual' });
  const threads = [table, ...Array.from({ length: count - 1 }, () => BucketTable.attach(table.token))];
  open.push(...threads);
  const handle = table.addTarget({ mayBorrow: false });
  table.setFallback(handle, 10, 10);
  const ask = (thread: number, ticket: bigint, cost = 1) => threads[thread]!.acquireInLine(handle, cost, ticket);
  /** Joins; the first of a thread shows its ticket by asking. */
  const join = (thread: number, cost = 1, first = true): bigint => {
    const ticket = threads[thread]!.joinLine(handle, cost) as bigint;
    if (first) ask(thread, ticket, cost);
    return ticket;
  };
  /** Time passes, and every thread shows life. */
  const advance = (ms: number): void => {
    table.advanceTo(ms);
    for (const thread of threads) thread.showLife();
  };
  return { table, threads, handle, ask, join, advance };
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'admitted',
    (error: ForetokenError) => error.code,
  );
const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

describe('due times', () => {
  it('come out in order, whatever was put in, moved and taken out', () => {
    const move = fc.record({ item: fc.nat(19), dueMs: fc.nat(50), out: fc.boolean() });
    fc.assert(
      fc.property(fc.array(move, { maxLength: 200 }), (moves) => {
        const heap = new DueHeap<Due>();
        const items = Array.from({ length: 20 }, (): Due => ({ dueMs: 0, place: -1 }));
        const expected = new Map<Due, number>();
        for (const { item, dueMs, out } of moves) {
          if (out) {
            heap.remove(items[item]!);
            expected.delete(items[item]!);
          } else {
            heap.put(items[item]!, dueMs);
            expected.set(items[item]!, dueMs);
          }
          expect(heap.size).toBe(expected.size);
          expect(heap.first?.dueMs).toBe(expected.size ? Math.min(...expected.values()) : undefined);
        }
        const times: number[] = [];
        for (let first = heap.first; first; first = heap.first) {
          times.push(first.dueMs);
          heap.remove(first);
        }
        expect(times).toEqual([...expected.values()].sort((a, b) => a - b));
      }),
    );
  });
});

describe('a line of several threads', () => {
  it('is served by ticket, whoever looks first', () => {
    const { table, handle, ask, join, advance } = threadsAt(2);
    expect(table.tryAcquire(handle, 10)).toBe(1);
    const [a, b, c] = [join(0), join(1), join(0, 1, false)];
    advance(100);
    // One token: it is for the first ticket, though the second looks before it.
    expect(ask(1, b).decision).toBe(0);
    expect(ask(0, a).decision).toBe(1);
    expect(ask(0, c).decision).toBe(0);
    advance(200);
    expect(ask(0, c)).toMatchObject({ decision: 0, ahead: 1 });
    expect(ask(1, b)).toMatchObject({ decision: 1, ahead: 0 });
  });

  it('lets a later ticket go on when there is enough for all before it', () => {
    const { table, handle, ask, join, advance } = threadsAt(2);
    table.tryAcquire(handle, 10);
    const [large, small] = [join(0, 6), join(1, 2)];
    advance(700);
    expect(ask(1, small, 2)).toMatchObject({ decision: 0, ahead: 6 });
    advance(800);
    expect(ask(1, small, 2).decision).toBe(1);
    expect(ask(0, large, 6).decision).toBe(1);
  });

  it('does not let small requests of another thread starve a large one', () => {
    const { table, handle, ask, join, advance } = threadsAt(2);
    table.tryAcquire(handle, 10);
    const large = join(0, 8);
    const small = join(1);
    let overtook = 0;
    for (let ms = 100; ms < 800; ms += 100) {
      advance(ms);
      overtook += ask(1, small).decision > 0 ? 1 : 0;
      overtook += table.tryAcquire(handle, 1) > 0 ? 1 : 0;
      expect(ask(0, large, 8).decision).toBe(0);
    }
    expect(overtook).toBe(0);
    advance(800);
    expect(ask(0, large, 8).decision).toBe(1);
  });

  it('passes over a thread that shows no life any more, and lets it go first when it does again', () => {
    const { table, threads, handle, ask, join } = threadsAt(2);
    table.tryAcquire(handle, 10);
    const [lost, waiting] = [join(0), join(1)];
    table.advanceTo(100);
    threads[1]!.showLife();
    expect(ask(1, waiting)).toMatchObject({ decision: 0, ahead: 1 });
    table.advanceTo(table.constants.holdMs + 1);
    expect(ask(1, waiting)).toMatchObject({ decision: 1, ahead: 0 });
    const next = join(1, 5);
    expect(ask(0, lost)).toMatchObject({ decision: 1, ahead: 0 });
    expect(ask(1, next, 5).decision).toBe(0);
  });

  it('forgets a thread that has closed, and newcomers pass when nobody is left', () => {
    const { table, threads, handle, ask, join } = threadsAt(2);
    table.tryAcquire(handle, 10);
    const [, waiting] = [join(1), join(0)];
    threads[1]!.close();
    table.advanceTo(100);
    expect(table.tryAcquire(handle, 1)).toBe(0);
    expect(ask(0, waiting).decision).toBe(1);
    table.leaveLine(handle);
    table.advanceTo(200);
    expect(table.tryAcquire(handle, 1)).toBe(1);
  });

  it('takes as many threads as there are seats, and another when one has left', () => {
    const { table, threads, handle } = threadsAt(66);
    const answers = threads.slice(0, 65).map((thread) => thread.joinLine(handle, 1));
    expect(answers.filter((answer) => typeof answer === 'bigint')).toHaveLength(64);
    expect(answers[64]).toBe(table.constants.decision.noSeat);
    threads[7]!.close();
    expect(typeof threads[65]!.joinLine(handle, 1)).toBe('bigint');
  });

  it('says what it waits for, and counts who waits as denied until admitted', () => {
    const { table, handle, ask, join, advance } = threadsAt(2);
    table.tryAcquire(handle, 10);
    const [first] = [join(0, 3), join(1, 4)];
    const { collect } = table.constants;
    const now = () => {
      const row = table.totals(handle)!;
      return [row[collect.denied], row[collect.demandTokens], row[collect.waitingTokens]];
    };
    expect(now()).toEqual([2, 17, 7]);
    advance(300);
    expect(ask(0, first, 3).decision).toBe(1);
    table.leaveLine(handle);
    expect(now()).toEqual([1, 17, 4]);
  });
});

describe('waiting requests', () => {
  it('of 100,000 cost one timer, and none when they have gone', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 1, capacity: 100 });
    const targets = foretoken.addTargets(Array.from({ length: 100 }, (_, i) => ({ name: `t${i}` })));
    for (const target of targets) target.tryAcquire(target.peek().tokens || 1);
    const before = timers();
    const abort = new AbortController();
    const ends = Array.from({ length: 100_000 }, (_, i) =>
      codeOf(targets[i % 100]!.acquire(0.001, i % 2 ? { signal: abort.signal } : {})),
    );
    expect(timers() - before).toBe(1);
    abort.abort();
    await foretoken.close();
    const codes = await Promise.all(ends);
    expect(codes.filter((code) => code === 'ABORTED')).toHaveLength(50_000);
    expect(codes.filter((code) => code === 'CLOSED')).toHaveLength(50_000);
    expect(timers()).toBe(before);
  });

  it('are admitted in the order they came, those that gave up taken out', async () => {
    const foretoken = await openWith({ ratePerSec: 500, burst: 20 });
    const target = foretoken.addTarget('a');
    target.tryAcquire(20);
    // Whatever time the loop below takes, a debt of a burst keeps everyone waiting.
    target.reconcile(1, 21);
    const order: number[] = [];
    const aborts = Array.from({ length: 60 }, () => new AbortController());
    const waits = aborts.map(({ signal }, i) =>
      target.acquire(1 + (i % 5), { signal }).then(
        () => order.push(i),
        () => {},
      ),
    );
    for (let i = 0; i < 60; i += 3) aborts[i]!.abort();
    await Promise.all(waits);
    expect(order).toEqual(Array.from({ length: 60 }, (_, i) => i).filter((i) => i % 3 !== 0));
    expect(target.totals()).toMatchObject({ admitted: 41, denied: 20 });
  });

  it('look again when a rate has been raised, not when their first guess says', async () => {
    const table = BucketTable.create({ capacity: 1, ratePerSec: 1000, burst: 10, clock: 'monotonic' });
    open.push(table);
    const { Waiters } = await import('../../src/table/waiters.js');
    const waiters = new Waiters(table, 10);
    open.push(waiters);
    const handle = table.addTarget({ mayBorrow: false });
    table.setFallback(handle, 0.001, 1);
    while (table.tryAcquire(handle, 0.1) > 0);
    const wait = waiters.join(handle, 1, 60_000, undefined);
    expect(waiters.waiting).toBe(1);
    table.setFallback(handle, 500, 1);
    await wait;
    expect(waiters.waiting).toBe(0);
  });

  it('hold up those that do not wait, unless these may overtake', async () => {
    for (const overtake of [false, true]) {
      const foretoken = await openWith({ ratePerSec: 0.001, burst: 10, overtake });
      const target = foretoken.addTarget('a');
      target.tryAcquire(5);
      const wait = codeOf(target.acquire(8));
      expect(target.tryAcquire(1)).toBe(overtake);
      await foretoken.close();
      expect(await wait).toBe('CLOSED');
    }
  });

  it('of two threads share a line without a stop between them', async () => {
    const foretoken = await openWith({ ratePerSec: 5000, burst: 500 });
    const target = foretoken.addTarget('a');
    const other = Foretoken.attach(foretoken.share());
    open.push(other);
    target.tryAcquire(500);
    const ends = Array.from({ length: 1000 }, (_, i) => codeOf((i % 2 ? other.target('a') : target).acquire(1)));
    expect(new Set(await Promise.all(ends))).toEqual(new Set(['admitted']));
    expect(target.totals()).toMatchObject({ admitted: 1001, denied: 0 });
  });
});

describe('an error of a wait', () => {
  it('has a code for each reason', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 1, maxWaiting: 1 });
    const target = foretoken.addTarget('a');
    target.tryAcquire();
    expect(await codeOf(target.acquire(1, { deadlineMs: 0 }))).toBe('DEADLINE');
    expect(await codeOf(target.acquire(1, { signal: AbortSignal.abort() }))).toBe('ABORTED');
    const waiting = codeOf(target.acquire());
    expect(await codeOf(target.acquire())).toBe('QUEUE_FULL');
    expect(() => foretoken.removeTarget('b')).toThrow(ForetokenError);
    foretoken.removeTarget('a');
    expect(await waiting).toBe('UNKNOWN_TARGET');
  });
});

describe('a signal that requests wait with', () => {
  it('is listened to once, and no longer than one of them waits', async () => {
    const foretoken = await openWith({ ratePerSec: 20, burst: 10 });
    const [a, b] = foretoken.addTargets([{ name: 'a' }, { name: 'b' }]) as [Target, Target];
    const { signal } = new AbortController();
    const listening = () => getEventListeners(signal, 'abort').length;
    for (const target of [a, b]) while (target.tryAcquire()) expect(listening()).toBe(0);
    const ended = Promise.all([
      codeOf(a.acquire(1, { signal })),
      codeOf(a.acquire(1, { signal })),
      codeOf(a.acquire(5, { signal, deadlineMs: 1 })),
      codeOf(b.acquire(1, { signal })),
    ]);
    await Promise.resolve();
    expect(listening()).toBe(1);
    expect(await ended).toEqual(['admitted', 'admitted', 'DEADLINE', 'admitted']);
    expect(listening()).toBe(0);
    const removed = codeOf(a.acquire(5, { signal }));
    await Promise.resolve();
    expect(listening()).toBe(1);
    foretoken.removeTarget('a');
    expect(await removed).toBe('UNKNOWN_TARGET');
    expect(listening()).toBe(0);
  });
});
