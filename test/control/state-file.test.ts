import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ruleNames } from '../../src/allocate/rules.js';
import { type KeptState, readState, writeState } from '../../src/control/state-file.js';
import { World } from './world.js';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-state-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const state: KeptState = {
  stepMs: 1000,
  limiter: { ratePerSec: 700, bestMs: 2, reported: 1 },
  rules: { steps: 9, loss: [1, 2, 3], demand: 40 },
  trust: { against: 0, inFavour: 2, usualPerSec: 90 },
  targets: [
    { name: 'a\n"quoted" ü', seenMs: 5, credit: -3.5 },
    {
      name: 'b',
      seenMs: 6,
      credit: 0,
      trust: {
        verdict: 'trusted',
        outcomes: 12,
        against: 0.5,
        inFavour: 0,
        usualPerSec: 8,
        meanPerSec: 31,
        deviationPerSec: 4,
      },
    },
  ],
};

describe('a controller’s state on disk', () => {
  it('comes back as it was, in a file of its owner alone, with nothing left beside it', async () => {
    const at = folder();
    const path = join(at, 'state.jsonl');
    expect(await readState(path)).toBeUndefined();
    await writeState(path, state);
    await writeState(path, state);
    expect(await readState(path)).toEqual(state);
    expect(readdirSync(at)).toEqual(['state.jsonl']);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('is the one before when a later one cannot be written to its end', async () => {
    const path = join(folder(), 'state.jsonl');
    await writeState(path, state);
    const failing = function* () {
      yield { name: 'c', seenMs: 1, credit: 1 };
      throw new Error('killed here');
    };
    await expect(writeState(path, { ...state, targets: failing() })).rejects.toThrow('killed here');
    expect(await readState(path)).toEqual(state);
  });

  it('that is cut off, foreign, or holds what is no number is refused with a code', async () => {
    const path = join(folder(), 'state.jsonl');
    await writeState(path, state);
    const whole = readFileSync(path, 'utf8');
    for (let size = 0; size < whole.length - 1; size += 7) {
      truncateSync(path, size);
      await expect(readState(path)).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
      writeFileSync(path, whole);
    }
    for (const foreign of [
      'null\nnull\n',
      '{}\n',
      '[1]\n[2]\n',
      whole.replace('-state-2', '-state-1'),
      whole.replace('700', 'null'),
      whole.replace('"steps":9', '"steps":"9"'),
      whole.replace('"loss":[1,2,3]', '"loss":[1,null]'),
      whole.replace(/"rules":.*}/, '"rules":null}'),
      whole.replace(/"limiter":{.*?}/, '"limiter":7'),
      whole.replace('-3.5', '1e999'),
      whole.replace('"inFavour":2', '"inFavour":-2'),
      whole.replace('"meanPerSec":31', '"meanPerSec":null'),
      whole.replace('"verdict":"trusted"', '"verdict":"loved"'),
      whole.replace('"loss":[1,2,3]', '"loss":{}'),
      whole.replace('"name":"b"', '"name":7'),
    ]) {
      writeFileSync(path, foreign);
      await expect(readState(path)).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
    }
  });

  it('is refused with a code, or can be gone on from, whatever stands in its lines', async () => {
    const path = join(folder(), 'state.jsonl');
    const world = await World.open({ adaptive: { minPerSec: 100, maxPerSec: 5000 } });
    const mostly = <T>(right: fc.Arbitrary<T>) =>
      fc.oneof({ weight: 19, arbitrary: right }, { weight: 1, arbitrary: fc.jsonValue() });
    const or = <T>(right: T) => mostly(fc.constant(right));
    const record = fc.record({
      format: or('foretoken-controller-state-2'),
      stepMs: or(1000),
      rules: mostly(fc.record({ steps: or(9), loss: or(new Array(9).fill(1)), demand: or(40) })),
      limiter: mostly(fc.record({ ratePerSec: or(700), bestMs: or(2), reported: or(1) })),
    });
    const target = fc.record({ name: or('a'), seenMs: or(5), credit: or(-3.5) });
    await fc.assert(
      fc.asyncProperty(record, fc.array(target, { maxLength: 3 }), or('end'), async (head, targets, end) => {
        const last = end === 'end' ? { targets: targets.length } : end;
        writeFileSync(path, [head, ...targets, last].map((line) => JSON.stringify(line)).join('\n'));
        const read = await readState(path).catch((error: unknown) => {
          expect(error).toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
          return undefined;
        });
        if (!read) return;
        world.loop.restore(read);
        for (const { credit } of world.loop.state(1).targets) expect(credit).toBeTypeOf('number');
        expect(world.loop.state(1).limiter!.ratePerSec).toBeGreaterThanOrEqual(100);
      }),
      { numRuns: 1000 },
    );
  });

  it('keeps at most 100,000 targets', async () => {
    const path = join(folder(), 'state.jsonl');
    const many = function* () {
      for (let i = 0; i < 100_001; i++) yield { name: `t${i}`, seenMs: 1, credit: 0 };
    };
    await writeState(path, { ...state, targets: many() });
    expect((await readState(path))!.targets).toHaveLength(100_000);
  });
});

describe('a loop that goes on from another’s state', () => {
  const options = { allocator: 'credit', borrow: false } as const;

  it('knows what that one knew, of each target as it comes, and keeps those that have not', async () => {
    const path = join(folder(), 'state.jsonl');
    const first = await World.open({ ...options, adaptive: { minPerSec: 100, maxPerSec: 5000 } });
    for (const name of ['a', 'b', 'gone']) first.add(name);
    first.engine.script = (row) => 300 * row;
    await first.run(20_000, (tick) => ({ a: 9, b: 20 + (tick % 5), gone: 5 }));
    await writeState(path, first.loop.state(1000));
    const kept = (await readState(path))!;
    expect(kept.targets.map(({ name }) => name)).toEqual(['a', 'b', 'gone']);
    expect(kept.targets.every(({ credit }) => credit !== 0)).toBe(true);

    const next = await World.open({ ...options, adaptive: { minPerSec: 100, maxPerSec: 5000 } });
    // Slots are given out anew.
    next.add('b');
    const limiter = { ratePerSec: 700, bestMs: 2, reported: 0.5 };
    next.loop.restore({ ...kept, limiter, rules: { steps: 3, loss: new Array(ruleNames.length).fill(2), demand: 50 } });
    next.add('a');
    const again = next.loop.state(1000);
    const byName = (targets: Iterable<{ name: string }>) => [...targets].sort((x, y) => (x.name < y.name ? -1 : 1));
    expect(byName(again.targets)).toEqual(byName(kept.targets));
    expect(again.rules).toEqual({ steps: 3, loss: new Array(ruleNames.length).fill(2), demand: 50 });
    expect(again.limiter).toEqual(limiter);
    // What has been gone for a week is forgotten.
    expect([...next.loop.state(8 * 24 * 3600 * 1000).targets].map(({ name }) => name).sort()).toEqual(['a', 'b']);
  });

  it('of other steps takes its credits, and not what was counted in steps', async () => {
    const next = await World.open({ ...options, stepMs: 2000 });
    next.add('b');
    next.loop.restore({ ...state, rules: { steps: 3, loss: new Array(ruleNames.length).fill(2), demand: 50 } });
    next.loop.restore({ ...state, targets: [{ name: 'b', seenMs: 1, credit: 7 }] });
    expect([...next.loop.state(1).targets]).toContainEqual({ name: 'b', seenMs: 1, credit: 7 });
    expect(next.loop.state(1).rules.steps).toBe(0);
  });
});
