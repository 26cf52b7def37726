import { afterEach, describe, expect, it } from 'vitest';
import { Foretoken, ForetokenError, type ForetokenOptions } from '../../src/index.js';

const open: Foretoken[] = [];
async function openWith(options: Partial<ForetokenOptions> = {}): Promise<Foretoken> {
  const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 100, control: false, ...options });
  open.push(foretoken);
  return foretoken;
}
afterEach(async () => {
  for (const foretoken of open.splice(0)) await foretoken.close();
});

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as ForetokenError).code;
  }
  return 'none';
};
const rejection = async (promise: Promise<unknown>): Promise<ForetokenError> => {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(ForetokenError);
  return error as ForetokenError;
};

describe('a request', () => {
  it('is admitted up to the burst and then denied', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 10 });
    const a = foretoken.addTarget('a');
    const answers = Array.from({ length: 12 }, () => a.tryAcquire());
    expect(answers).toEqual([...Array(10).fill(true), false, false]);
    expect(a.totals()).toMatchObject({ admitted: 10, denied: 2, admittedTokens: 10, deniedTokens: 2 });
  });

  it('is priced by its bytes, or by a function', async () => {
    const bytes = await openWith({ cost: 'bytes', ratePerSec: 0.001, burst: 10_000 });
    const a = bytes.addTarget('a');
    expect(a.tryAcquire({ readBytes: 4096, writeBytes: 4096 })).toBe(true);
    expect(a.tryAcquire({})).toBe(true);
    expect(a.totals().admittedTokens).toBe(8193);
    const priced = await openWith({ cost: (request) => (request.heavy ? 50 : 2), ratePerSec: 0.001 });
    const b = priced.addTarget('b');
    b.tryAcquire({ heavy: true });
    b.tryAcquire({});
    expect(b.totals().admittedTokens).toBe(52);
  });

  it('with a cost that is none is refused with a code and takes nothing', async () => {
    const foretoken = await openWith();
    const a = foretoken.addTarget('a');
    for (const cost of [Number.NaN, 0, -1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      expect(codeOf(() => a.tryAcquire(cost))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => a.tryAcquire('1' as unknown as number))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => a.tryAcquire(null as unknown as number))).toBe('INVALID_ARGUMENT');
    expect(a.totals().admitted).toBe(0);
    expect(a.peek().tokens).toBeLessThanOrEqual(100);
  });

  it('dearer than anything its target can ever hold is denied, and refused at once when it would wait', async () => {
    const foretoken = await openWith();
    const a = foretoken.addTarget('a');
    expect(a.tryAcquire(101)).toBe(false);
    expect((await rejection(a.acquire(101))).code).toBe('COST_TOO_LARGE');
    expect((await rejection(a.acquire(1e300))).code).toBe('COST_TOO_LARGE');
  });

  it('is decided in a batch as it would be alone', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 5, borrow: false });
    const [a, b] = foretoken.addTargets([
      { name: 'a', weight: 4 },
      { name: 'b', weight: 1 },
    ]) as [never, never];
    expect([...foretoken.acquireBatch([a, a, b, b, a], [1, 1, 1, 1, Number.NaN])].map(Math.sign)).toEqual([
      1, 1, 1, 0, -1,
    ]);
    expect(codeOf(() => foretoken.acquireBatch([a], [1, 2]))).toBe('INVALID_ARGUMENT');
  });
});

describe('a refund', () => {
  it('comes back to the bucket, but never more than was charged', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 10, borrow: false });
    const a = foretoken.addTarget('a');
    a.tryAcquire(10);
    a.refund(4);
    expect(Math.floor(a.peek().tokens)).toBe(4);
    expect(a.totals().admittedTokens).toBe(6);
    expect(codeOf(() => a.refund(7))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => a.refund(Number.NaN))).toBe('INVALID_ARGUMENT');
  });

  it('by reconcile leaves a debt of at most one burst', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 10, borrow: false });
    const a = foretoken.addTarget('a');
    a.tryAcquire(5);
    expect(a.reconcile(5, 2)).toBe(-3);
    expect(Math.floor(a.peek().tokens)).toBe(8);
    expect(a.reconcile(5, 1000)).toBeCloseTo(18, 1);
    expect(a.peek().tokens).toBeCloseTo(-10, 1);
    expect(a.tryAcquire()).toBe(false);
    expect(codeOf(() => a.reconcile(1, -1))).toBe('INVALID_ARGUMENT');
  });
});

describe('a waiting request', () => {
  it('is admitted when its tokens have come, in order, a large one not overtaken by small ones', async () => {
    const foretoken = await openWith({ ratePerSec: 500, burst: 20, borrow: false });
    const a = foretoken.addTarget('a');
    a.tryAcquire(20);
    const order: string[] = [];
    const large = a.acquire(15).then(() => order.push('large'));
    const small = a.acquire(1).then(() => order.push('small'));
    expect(a.tryAcquire(1)).toBe(false);
    await Promise.all([large, small]);
    expect(order).toEqual(['large', 'small']);
  });

  it('gives up at its deadline or when aborted, and blocks nobody behind it', async () => {
    const foretoken = await openWith({ ratePerSec: 100, burst: 10, borrow: false });
    const a = foretoken.addTarget('a');
    a.tryAcquire(10);
    const abort = new AbortController();
    const late = rejection(a.acquire(10, { deadlineMs: 10 }));
    const aborted = rejection(a.acquire(10, { signal: abort.signal }));
    const patient = a.acquire(1);
    abort.abort('enough');
    expect(await aborted).toMatchObject({ code: 'ABORTED', cause: 'enough' });
    expect((await late).code).toBe('DEADLINE');
    await patient;
  });

  it('counts as demand also when it gives up, or is turned away because too many wait', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 1, maxWaiting: 2 });
    const a = foretoken.addTarget('a');
    a.tryAcquire();
    const ends = await Promise.all(Array.from({ length: 5 }, () => rejection(a.acquire(0.5, { deadlineMs: 1 }))));
    expect(ends.map(({ code }) => code)).toEqual(['DEADLINE', 'DEADLINE', 'QUEUE_FULL', 'QUEUE_FULL', 'QUEUE_FULL']);
    expect(a.totals()).toMatchObject({ admitted: 1, denied: 5, deniedTokens: 2.5 });
  });

  it('is refused when the queue is full, its target removed or everything closed', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 1, maxWaiting: 2 });
    const a = foretoken.addTarget('a');
    const b = foretoken.addTarget('b');
    a.tryAcquire();
    const first = rejection(a.acquire());
    const second = rejection(b.acquire());
    expect((await rejection(a.acquire())).code).toBe('QUEUE_FULL');
    foretoken.removeTarget('a');
    expect((await first).code).toBe('UNKNOWN_TARGET');
    await foretoken.close();
    expect((await second).code).toBe('CLOSED');
  });
});

describe('a target', () => {
  it('keeps its tokens when its limits change, and gains none', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 100, borrow: false });
    const a = foretoken.addTarget('a');
    a.tryAcquire(60);
    foretoken.updateTarget('a', { reservation: 0.0005, weight: 3 });
    expect(a.peek().tokens).toBeCloseTo(40, 1);
    foretoken.addTarget('b', { weight: 3 });
    expect(a.peek().tokens + foretoken.target('b').peek().tokens).toBeLessThanOrEqual(40.01);
  });

  it('never exceeds its limit, borrowing included', async () => {
    const foretoken = await openWith({ ratePerSec: 0.001, burst: 100 });
    const a = foretoken.addTarget('a', { limit: 0.0001, limitBurst: 7 });
    expect(Array.from({ length: 20 }, () => a.tryAcquire()).filter(Boolean)).toHaveLength(7);
    foretoken.updateTarget('a', { limit: Number.POSITIVE_INFINITY });
    expect(a.tryAcquire()).toBe(true);
  });

  it('cannot be added twice, beyond the capacity or beyond the resource', async () => {
    const foretoken = await openWith({ capacity: 2 });
    foretoken.addTarget('a', { reservation: 600 });
    expect(codeOf(() => foretoken.addTarget('a'))).toBe('DUPLICATE_TARGET');
    expect(codeOf(() => foretoken.addTarget('b', { reservation: 600 }))).toBe('OVERCOMMITTED');
    expect(foretoken.has('b')).toBe(false);
    foretoken.addTarget('b', { reservation: 400 });
    expect(codeOf(() => foretoken.addTarget('c'))).toBe('TABLE_FULL');
    expect(codeOf(() => foretoken.updateTarget('b', { reservation: 401 }))).toBe('OVERCOMMITTED');
    expect(codeOf(() => foretoken.target('c'))).toBe('UNKNOWN_TARGET');
  });

  it('that is removed leaves its share to the others where nothing is borrowed', async () => {
    const foretoken = await openWith({ ratePerSec: 100, borrow: false });
    const [a] = foretoken.addTargets([{ name: 'a' }, { name: 'b', weight: 3 }]);
    expect(a!.peek().ratePerSec).toBeCloseTo(25, 3);
    foretoken.removeTarget('b');
    expect(a!.peek().ratePerSec).toBeCloseTo(100, 3);
  });

  it('that was removed refuses with a code, and its slot serves another', async () => {
    const foretoken = await openWith({ capacity: 1 });
    const a = foretoken.addTarget('a');
    foretoken.removeTarget('a');
    const b = foretoken.addTarget('b');
    expect(codeOf(() => a.tryAcquire())).toBe('UNKNOWN_TARGET');
    expect(codeOf(() => a.peek())).toBe('UNKNOWN_TARGET');
    expect(codeOf(() => a.complete({ durationMs: 1 }))).toBe('UNKNOWN_TARGET');
    expect(b.tryAcquire()).toBe(true);
    expect(b.totals()).toMatchObject({ admitted: 1, denied: 0 });
  });
});

describe('a request by handle', () => {
  it('is one of the target that has it, at the price the table has, in every thread', async () => {
    const foretoken = await openWith({ cost: 'bytes' });
    const [a, b] = foretoken.addTargets([{ name: 'a' }, { name: 'b' }]);
    expect(foretoken.tryAcquire(a!.handle, 3)).toBe(true);
    expect(foretoken.tryAcquire(a!.handle, { readBytes: 4, writeBytes: 2 })).toBe(true);
    expect(foretoken.tryAcquire(a!.handle)).toBe(true);
    expect(foretoken.tryAcquire(a!.handle, 1e6)).toBe(false);
    const attached = Foretoken.attach(foretoken.share());
    expect(attached.tryAcquire(a!.handle, { readBytes: 5 })).toBe(true);
    expect(a!.totals()).toMatchObject({ admitted: 4, denied: 1, admittedTokens: 15 });
    expect(b!.totals()).toMatchObject({ admitted: 0, denied: 0 });
    attached.close();
    expect(codeOf(() => attached.tryAcquire(a!.handle))).toBe('CLOSED');
  });

  it('is refused where the handle is none, stale or of nobody, and for a cost that is none', async () => {
    const foretoken = await openWith({ capacity: 2 });
    const a = foretoken.addTarget('a');
    foretoken.removeTarget('a');
    const b = foretoken.addTarget('b');
    for (const handle of ['a', a, null, undefined, 1n])
      expect(
        codeOf(() => foretoken.tryAcquire(handle as never)),
        String(handle),
      ).toBe('INVALID_ARGUMENT');
    for (const handle of [a.handle, 0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, b.handle + 1])
      expect(
        codeOf(() => foretoken.tryAcquire(handle)),
        String(handle),
      ).toBe('UNKNOWN_TARGET');
    for (const cost of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, '1', null])
      expect(
        codeOf(() => foretoken.tryAcquire(b.handle, cost as never)),
        String(cost),
      ).toBe('INVALID_ARGUMENT');
    expect(b.totals()).toMatchObject({ admitted: 0, denied: 0 });
  });
});

describe('options', () => {
  it('are refused with their name, what was expected and what came', async () => {
    const error = await rejection(Foretoken.open({ ratePerSec: -5 }));
    expect(error).toMatchObject({
      code: 'INVALID_OPTION',
      message: 'ratePerSec: expected a number above 0 up to 1000000000000000, got -5',
    });
    const wrong: [Record<string, unknown>, RegExp][] = [
      [{}, /^ratePerSec: expected .* got undefined$/],
      [{ ratePerSec: '1' }, /^ratePerSec: expected .* got "1"$/],
      [{ ratePerSec: 1, burst: Number.NaN }, /^burst: .* got NaN$/],
      [{ ratePerSec: 1, capacity: 1.5 }, /^capacity: expected a whole number/],
      [{ ratePerSec: 1, tickMs: 2000 }, /^tickMs: .*up to 1000, got 2000$/],
      [{ ratePerSec: 1, horizonsMs: [5000, 'x'] }, /^horizonsMs\[1\]: .*got "x"$/],
      [{ ratePerSec: 1, horizonsMs: [] }, /^horizonsMs: expected an array of 1 to 8 numbers, got an array of 0$/],
      [{ ratePerSec: 1, horizonsMs: Array(9).fill(5000) }, /^horizonsMs: .*got an array of 9$/],
      [{ ratePerSec: 1, burts: 5 }, /^burts: expected a known option \(name, .*onEvent\), got "burts"$/],
      [{ ratePerSec: 1, engine: 'oracle' }, /^engine: expected one of "auto".*got "oracle"$/],
      [{ ratePerSec: 1, history: { folder: 'x' } }, /^history\.folder: expected a known option \(path\)/],
      [{ ratePerSec: 1, history: ['x'] }, /^history: expected "memory" or {path}, got an array of 1$/],
      [{ ratePerSec: 1, refine: 0.1 }, /^refine: expected true, false or {cpuPart}, got 0\.1$/],
      [{ ratePerSec: 1, refine: [] }, /^refine: expected true, false or {cpuPart}, got an array of 0$/],
      [{ ratePerSec: 1, refine: { cpuPart: 0 } }, /^refine\.cpuPart: expected a number from 0\.001 up to 1, got 0$/],
      [{ ratePerSec: 1, refine: { part: 0.1 } }, /^refine\.part: expected a known option \(cpuPart\), got "part"$/],
      [{ ratePerSec: 1, rate: 5 }, /^rate: expected one of/],
      [{ ratePerSec: 1, onEvent: 1 }, /^onEvent: expected a function, got 1$/],
    ];
    for (const [options, message] of wrong) {
      const refused = await rejection(Foretoken.open(options as never));
      expect(refused.code).toBe('INVALID_OPTION');
      expect(refused.message).toMatch(message);
    }
  });

  it('of a target and of a wait are checked too', async () => {
    const foretoken = await openWith();
    expect(codeOf(() => foretoken.addTarget('a', { weight: 0 }))).toBe('INVALID_OPTION');
    expect(codeOf(() => foretoken.addTarget('a', { reservation: 10, limit: 5 }))).toBe('INVALID_OPTION');
    for (const throttlingCost of [0, -1, Number.NaN, 1e7, '32' as never])
      expect(codeOf(() => foretoken.addTarget('a', { throttlingCost }))).toBe('INVALID_OPTION');
    expect(codeOf(() => foretoken.addTarget('', {}))).toBe('INVALID_ARGUMENT');
    const a = foretoken.addTarget('a');
    expect((await rejection(a.acquire(1, { deadlineMs: -1 }))).code).toBe('INVALID_OPTION');
    expect((await rejection(a.acquire(1, { signal: 5 } as never))).code).toBe('INVALID_OPTION');
  });
});

describe('a closed Foretoken', () => {
  it('refuses everything with a code and closes twice without harm', async () => {
    const foretoken = await openWith();
    const a = foretoken.addTarget('a');
    await foretoken.close();
    await foretoken.close();
    expect(codeOf(() => a.tryAcquire())).toBe('CLOSED');
    expect(codeOf(() => a.peek())).toBe('CLOSED');
    expect(codeOf(() => a.refund(1))).toBe('CLOSED');
    expect(codeOf(() => foretoken.addTarget('b'))).toBe('CLOSED');
    expect((await rejection(a.acquire())).code).toBe('CLOSED');
  });

  it('is what the end of an `await using` block leaves', async () => {
    const foretoken = await Foretoken.open({ ratePerSec: 1, control: false });
    await foretoken[Symbol.asyncDispose]();
    expect(codeOf(() => foretoken.share())).toBe('CLOSED');
  });
});

describe('a target just added to a controlled table', () => {
  for (const borrow of [true, false]) {
    it(`is served at once ${borrow ? 'with' : 'without'} borrowing, and its reservation holds from the start`, async () => {
      const foretoken = await openWith({ control: true, borrow });
      const a = foretoken.addTarget('a', { reservation: 400 });
      expect(a.peek().ratePerSec).toBeGreaterThanOrEqual(400);
      expect(a.tryAcquire(8)).toBe(true);
    });
  }

  it('is not told that a request is too large before it has been given anything', async () => {
    const foretoken = await openWith({ control: true, borrow: false });
    foretoken.addTarget('first');
    // Everything has been allocated to the first one by now.
    const late = foretoken.addTarget('late');
    await expect(late.acquire(5, { deadlineMs: 5000 })).resolves.not.toThrow();
  });

  it('raises no event: nothing has lapsed', async () => {
    const events: string[] = [];
    const foretoken = await openWith({ control: true, onEvent: (event) => events.push(event.kind) });
    foretoken.addTarget('a');
    await new Promise<void>((resolve) => foretoken.watch(() => resolve()));
    expect(events).toEqual([]);
  });
});
