import { afterEach, describe, expect, it } from 'vitest';
import { Foretoken, ForetokenError, type ForetokenOptions, removeRegion } from '../../src/index.js';

const open: Foretoken[] = [];
async function openWith(options: Partial<ForetokenOptions> = {}): Promise<Foretoken> {
  const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 100, control: false, ...options });
  open.push(foretoken);
  return foretoken;
}
afterEach(async () => {
  for (const foretoken of open.splice(0)) await foretoken.close();
});

const circle: Record<string, unknown> = {};
circle.self = circle;

/** What JavaScript can hand over whatever the types say; some of it cannot even be printed. */
const nothings: readonly (readonly [string, unknown])[] = [
  ['null', null],
  ['a number', 5],
  ['NaN', Number.NaN],
  ['a BigInt', 5n],
  ['a symbol', Symbol('s')],
  ['true', true],
  ['an object without a prototype', Object.create(null)],
  ['an object that contains itself', circle],
  ['an array', [[]]],
  ['a function', () => 1],
];

/** The code with which it was refused, or what it did instead. */
async function codeOf(act: () => unknown): Promise<string> {
  try {
    return `no error, but ${String(await act())}`;
  } catch (error) {
    return error instanceof ForetokenError ? error.code : `${(error as Error).name}: ${(error as Error).message}`;
  }
}

describe.each(nothings)('%s', (_, value) => {
  const given = value as never;

  it('in place of a name is refused with a code', async () => {
    const foretoken = await openWith();
    expect(await codeOf(() => foretoken.addTarget(given))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(() => foretoken.target(given))).toBe('UNKNOWN_TARGET');
    expect(await codeOf(() => foretoken.updateTarget(given, {}))).toBe('UNKNOWN_TARGET');
    expect(await codeOf(() => foretoken.removeTarget(given))).toBe('UNKNOWN_TARGET');
    expect(await codeOf(() => removeRegion(given))).toBe('REGION_MISSING');
    expect(foretoken.has(given)).toBe(false);
  });

  it('in place of targets is refused with a code, and adds none', async () => {
    const foretoken = await openWith();
    if (!Array.isArray(value)) expect(await codeOf(() => foretoken.addTargets(given))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(() => foretoken.addTargets([{ name: 'a' }, given]))).toMatch(/^INVALID_(ARGUMENT|OPTION)$/);
    expect(foretoken.names).toEqual([]);
    if (!Array.isArray(value)) expect(await codeOf(() => foretoken.acquireBatch(given))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(() => foretoken.acquireBatch([given]))).toBe('INVALID_ARGUMENT');
  });

  it('among the costs of a batch is refused alone', async () => {
    const foretoken = await openWith();
    const a = foretoken.addTarget('a');
    const cost = typeof value === 'number' ? Number.NaN : given;
    expect([...foretoken.acquireBatch([a, a], [cost, 1])].map(Math.sign)).toEqual([-1, 1]);
  });

  it('as the bytes of a request is refused with a code that names them', async () => {
    if (value === 5) return;
    const foretoken = await openWith({ cost: 'bytes' });
    const a = foretoken.addTarget('a');
    for (const field of ['readBytes', 'writeBytes'])
      for (const act of [() => a.tryAcquire({ [field]: given }), () => a.complete({ [field]: given })]) {
        expect(await codeOf(act)).toBe('INVALID_ARGUMENT');
        expect(act).toThrow(`${field}: expected a finite number from 0, got`);
      }
    expect(await codeOf(() => a.reconcile(1, given))).toBe('INVALID_ARGUMENT');
    expect(a.totals().admitted).toBe(0);
  });

  it('as what is to be called after a step is refused with a code', async () => {
    const foretoken = await openWith();
    if (typeof value !== 'function') expect(await codeOf(() => foretoken.watch(given))).toBe('INVALID_OPTION');
    const onStep = () => {};
    if (value !== true) expect(await codeOf(() => foretoken.watch(onStep, { rows: given }))).toBe('INVALID_OPTION');
    expect(await codeOf(() => foretoken.watch(onStep, { row: given } as never))).toBe('INVALID_OPTION');
  });
});

describe('a name that is cut in the middle of a character', () => {
  it('is refused: it would be stored as another, and two such as the same', async () => {
    const foretoken = await openWith();
    const { handle } = foretoken.addTarget('\u{1f4a5}');
    for (const name of ['\ud83d', '\udca5', 'a\ud83db'])
      expect(await codeOf(() => foretoken.addTarget(name))).toBe('INVALID_ARGUMENT');
    expect(foretoken.names).toEqual(['\u{1f4a5}']);
    using attached = Foretoken.attach(foretoken.share());
    expect(await codeOf(() => attached.adopt('\ud83d', handle))).toBe('INVALID_ARGUMENT');
  });
});

describe('options of a target', () => {
  it.each(['5', 5, null, Symbol('s'), [], () => 1])('that are none (%o) are refused', async (options) => {
    const foretoken = await openWith();
    foretoken.addTarget('there');
    expect(await codeOf(() => foretoken.updateTarget('there', options as never))).toBe('INVALID_OPTION');
    expect(await codeOf(() => foretoken.addTarget('a', options as never))).toBe('INVALID_OPTION');
    expect(foretoken.names).toEqual(['there']);
  });

  it('weigh enough for sums of weights to be divided by', async () => {
    const foretoken = await openWith();
    for (const weight of [0, Number.MIN_VALUE, 1e-10, 1e10, Number.NaN])
      expect(() => foretoken.addTarget('a', { weight })).toThrow(
        `weight: expected a number from 1e-9 up to 1000000000, got ${weight}`,
      );
    foretoken.addTargets([
      { name: 'a', weight: 1e-9 },
      { name: 'b', weight: 1e9 },
    ]);
  });

  it('do not name it anew', async () => {
    const foretoken = await openWith();
    expect(() => foretoken.addTarget('a', { name: 'b' } as never)).toThrow(
      /^target\.name: expected a known option \(reservation, .*\), got "name"$/,
    );
    expect(foretoken.names).toEqual([]);
  });

  it('stay as they are where undefined is given', async () => {
    const foretoken = await openWith({ borrow: false, ratePerSec: 100 });
    foretoken.addTargets([{ name: 'a', reservation: 90 }, { name: 'b' }]);
    foretoken.updateTarget('a', { reservation: undefined, weight: 1 } as never);
    // What a has reserved cannot be reserved again.
    expect(await codeOf(() => foretoken.updateTarget('b', { reservation: 11 }))).toBe('OVERCOMMITTED');
  });

  it.each([true, false])('that are refused leave what was there (borrow: %s)', async (borrow) => {
    const foretoken = await openWith({ borrow, ratePerSec: 100 });
    foretoken.addTargets([{ name: 'a', reservation: 90 }, { name: 'b' }]);
    expect(await codeOf(() => foretoken.updateTarget('b', { reservation: 20 }))).toBe('OVERCOMMITTED');
    foretoken.updateTarget('b', { weight: 2 });
    foretoken.addTarget('c', { reservation: 10 });
    expect(await codeOf(() => foretoken.updateTarget('b', { reservation: 0.1 }))).toBe('OVERCOMMITTED');
  });

  it('may reserve the whole rate in parts that no sum of doubles hits', async () => {
    for (const [ratePerSec, parts] of [
      [12_345.678, 10],
      [100, 7],
      [0.3, 3],
    ] as const) {
      const foretoken = await openWith({ borrow: false, ratePerSec });
      const reservation = parts === 3 ? 0.1 : ratePerSec / parts;
      foretoken.addTargets(Array.from({ length: parts }, (_, i) => ({ name: `t${i}`, reservation })));
      expect(foretoken.names).toHaveLength(parts);
    }
  });
});

describe('another thread', () => {
  it('is told that it lacks the cost function, and prices by it once it is given', async () => {
    const cost = () => 7;
    const foretoken = await openWith({ cost });
    foretoken.addTarget('a');
    const share = structuredClone(foretoken.share());
    using without = Foretoken.attach(share);
    expect(await codeOf(() => without.target('a').tryAcquire({}))).toBe('INVALID_ARGUMENT');
    expect(without.target('a').tryAcquire(1)).toBe(true);
    using attached = Foretoken.attach(share, { cost });
    expect(attached.target('a').tryAcquire({})).toBe(true);
    expect(foretoken.target('a').totals().admittedTokens).toBe(8);
    expect(await codeOf(() => Foretoken.attach(share, { cost: 'none' as never }))).toBe('INVALID_OPTION');
  });

  it('is refused a share that is none, or half of one', async () => {
    const foretoken = await openWith();
    const share = foretoken.share();
    for (const wrong of [undefined, null, 'x', {}, { ...share, targets: [null] }, { ...share, maxWaiting: '5' }])
      expect(await codeOf(() => Foretoken.attach(wrong as never))).toBe('INVALID_ARGUMENT');
  });
});

describe('a target that another thread takes in', () => {
  it.each([[5], [''], [undefined], [null]])('is refused with %o for a name', async (name) => {
    const foretoken = await openWith();
    const { handle } = foretoken.addTarget('a');
    using attached = Foretoken.attach(foretoken.share());
    expect(await codeOf(() => attached.adopt(name as never, handle))).toBe('INVALID_ARGUMENT');
    expect(attached.names).toEqual(['a']);
  });

  it.each([[Number.NaN], ['1'], [undefined], [-1], [0], [1.5], [2 ** 24], [2 ** 60]])(
    'is refused with %o for a handle, which no target has',
    async (handle) => {
      const foretoken = await openWith();
      const share = foretoken.share();
      using attached = Foretoken.attach(share);
      expect(await codeOf(() => attached.adopt('a', handle as never))).toBe('INVALID_ARGUMENT');
      expect(attached.has('a')).toBe(false);
      const forged = { ...share, targets: [{ name: 'a', handle: handle as never }] };
      expect(await codeOf(() => Foretoken.attach(forged))).toBe('INVALID_ARGUMENT');
    },
  );
});

describe('an error', () => {
  it('names any value, a proxy that was revoked too', async () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    await expect(openWith({ burst: proxy as never })).rejects.toThrow(/^burst: expected .*, got an object$/);
    expect(() => Foretoken.attach(null as never)).toThrow('share: expected what Foretoken.share() returned, got null');
    await expect(openWith({ burst: 5n as never })).rejects.toThrow(/got 5n$/);
  });

  it.each([['x'.repeat(1e6)], [10n ** 1000n]])('says no more of a long value than can be read', async (value) => {
    const message = await openWith({ burst: value as never }).catch((error: Error) => error.message);
    expect(message).toMatch(/^burst: expected .*, got .*…$/);
    expect(String(message).length).toBeLessThan(300);
  });

  it('comes for a model without a name', async () => {
    await expect(openWith({ modelPath: '' })).rejects.toThrow('modelPath: expected a path, got ""');
  });
});

describe('a Foretoken that was closed', () => {
  it('takes nobody to call back, and lets one be taken away', async () => {
    const foretoken = await openWith();
    await foretoken.close();
    expect(await codeOf(() => foretoken.watch(() => {}))).toBe('CLOSED');
    foretoken.watch(undefined);
  });
});

describe('a batch', () => {
  it('refuses targets of another table, whose handles are others here', async () => {
    const [here, there] = [await openWith(), await openWith()];
    const mine = here.addTarget('mine');
    const theirs = there.addTarget('theirs');
    expect(() => here.acquireBatch([mine, theirs])).toThrow('targets[1]: expected one of this table');
    expect(mine.totals().admitted).toBe(0);
    using attached = Foretoken.attach(here.share());
    expect([...attached.acquireBatch([mine, attached.target('mine')])].map(Math.sign)).toEqual([1, 1]);
  });

  it('says what it got in place of what answers are to be written to', async () => {
    const foretoken = await openWith();
    const a = foretoken.addTarget('a');
    expect(() => foretoken.acquireBatch([a], 1, new Int32Array(2))).toThrow('expected an Int32Array of 1, got 2');
    expect(() => foretoken.acquireBatch([a], 1, [] as never)).toThrow('expected an Int32Array of 1, got an array');
    expect(() => foretoken.acquireBatch([a], null as never)).toThrow('costs: expected 1 numbers, got null');
    expect(() => foretoken.acquireBatch([a], '1' as never)).toThrow('costs: expected 1 numbers, got "1"');
  });
});
