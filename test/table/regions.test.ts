import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  openSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { Foretoken, type ForetokenError, type ForetokenOptions, listRegions, removeRegion } from '../../src/index.js';
import { BucketTable } from '../../src/table/table.js';
import { freshName, peerOf } from './processes.js';

const opened: { close(): unknown }[] = [];
const names: string[] = [];
afterEach(async () => {
  for (const it of opened.splice(0)) await it.close();
  for (const name of names.splice(0)) if (stateOf(name)) removeRegion(name, { force: true });
});

const named = (): string => {
  const name = freshName();
  names.push(name);
  return name;
};
const stateOf = (name: string) => listRegions().find((region) => region.name === name)?.state;
const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as ForetokenError).code;
  }
  return 'none';
};
async function openBy(name: string, options: Partial<ForetokenOptions> = {}): Promise<Foretoken> {
  const foretoken = await Foretoken.open({ name, ratePerSec: 1000, burst: 100, control: false, ...options });
  opened.push(foretoken);
  return foretoken;
}
const tableBy = (name: string) =>
  BucketTable.create({ name, capacity: 8, ratePerSec: 1000, burst: 100, clock: 'monotonic' });
const isLinux = process.platform === 'linux';
const fileOf = (name: string) => join('/dev/shm', `foretoken.${process.geteuid!()}.${name}`);

describe('a table opened by name', () => {
  it('is one for all processes: the same targets, tokens and counters', async () => {
    const name = named();
    const slow = { ratePerSec: 0.01 };
    const mine = await openBy(name, slow);
    const peer = await peerOf(name, slow);
    const a = mine.addTarget('a', { reservation: 0.001, limit: 500 });
    expect(await peer.does("foretoken.addTarget('a').handle")).toBe(a.handle);
    expect(await peer.does("foretoken.addTarget('b', { weight: 3 }).handle")).toBe(mine.target('b').handle);
    expect(await peer.does("foretoken.target('a').tryAcquire(60)")).toBe(true);
    expect(a.totals()).toMatchObject({ admitted: 1, admittedTokens: 60 });
    expect(a.tryAcquire(60)).toBe(false);
    mine.removeTarget('b');
    expect(await peer.does("foretoken.has('b')")).toBe(false);
    expect(await peer.does("foretoken.addTarget('b').handle")).not.toBe(mine.target('a').handle);
    expect(mine.has('b')).toBe(true);
    const region = listRegions().find((each) => each.name === name);
    expect(region).toMatchObject({ state: 'live', targets: 2, capacity: 1024, burst: 100 });
    expect(new Set(region!.processes)).toEqual(new Set([process.pid, peer.process.pid]));
    expect(await peer.ends()).toBe(0);
  });

  it('lends a target to whoever adds it, also who has looked for it before, and is added by each only once', async () => {
    const name = named();
    const mine = await openBy(name);
    const other = await openBy(name);
    const { handle } = mine.addTarget('a');
    expect(other.has('a')).toBe(true);
    expect(other.addTarget('a', { weight: 2 }).handle).toBe(handle);
    expect(codeOf(() => other.addTarget('a'))).toBe('DUPLICATE_TARGET');
    expect(codeOf(() => mine.addTarget('a'))).toBe('DUPLICATE_TARGET');
  });

  it('goes with the last process that closes it', async () => {
    const name = named();
    const mine = await openBy(name);
    const peer = await peerOf(name);
    await mine.close();
    expect(stateOf(name)).toBe('live');
    expect(await peer.ends()).toBe(0);
    expect(stateOf(name)).toBeUndefined();
  });

  it('takes what a target is given from whoever gave it last, and divides by weight what all have added', async () => {
    const name = named();
    const mine = await openBy(name, { borrow: false });
    const peer = await peerOf(name, { borrow: false });
    const a = mine.addTarget('a', { reservation: 100 });
    await peer.does("foretoken.addTargets([{ name: 'b', weight: 2 }, { name: 'a', weight: 4 }]).length");
    expect(a.peek().ratePerSec).toBeCloseTo(100 + (900 * 4) / 6, 0);
    mine.addTarget('c', { weight: 3 });
    expect(await peer.does("foretoken.target('b').peek().ratePerSec")).toBeCloseTo((900 * 2) / 9, 0);
  });

  it('is refused whole when what it adds is more than there is, as in one process', async () => {
    const name = named();
    const mine = await openBy(name, { borrow: false });
    const other = await openBy(name, { borrow: false });
    mine.addTarget('a', { reservation: 600 });
    expect(codeOf(() => other.addTarget('b', { reservation: 600 }))).toBe('OVERCOMMITTED');
    expect(mine.has('b')).toBe(false);
    expect(codeOf(() => other.addTarget('a', { reservation: 2000 }))).toBe('OVERCOMMITTED');
    expect(other.addTarget('a').handle).toBe(mine.target('a').handle);
    expect(mine.target('a').peek().ratePerSec).toBeCloseTo(1000, 0);
    expect(codeOf(() => mine.addTarget('n'.repeat(129)))).toBe('INVALID_ARGUMENT');
  });

  it('finds its names again whatever is added and removed', async () => {
    const table = tableBy(named());
    opened.push(table);
    const settings = { reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY, limitBurst: 1, throttlingCost: 32 };
    const there = new Map<string, number>();
    let seed = 7;
    for (let i = 0; i < 2000; i++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const name = `target ${seed % 13}`;
      const handle = there.get(name);
      if (handle !== undefined && seed % 3 === 0) {
        table.removeTarget(handle);
        there.delete(name);
      } else if (handle !== undefined || there.size < 8) {
        const put = table.putTarget(name, { mayBorrow: false, settings });
        expect(put.existed).toBe(handle !== undefined);
        if (handle !== undefined) expect(put.handle).toBe(handle);
        there.set(name, put.handle);
      }
      expect(table.lookUpTarget(name)?.handle).toBe(there.get(name));
    }
    const roster = table.rosterSince(0).filter(({ handle }) => handle !== 0);
    expect(new Map(roster.map(({ name, handle }) => [name, handle]))).toEqual(there);
    expect(table.rosterSince(table.rosterVersion)).toEqual([]);
  });
});

describe('a request that waits in another process', () => {
  it('is not passed by one that came later, and holds up nobody once its process is killed', async () => {
    const name = named();
    const slow = { ratePerSec: 0.01, burst: 100 };
    const mine = await openBy(name, slow);
    const target = mine.addTarget('a');
    expect(target.tryAcquire(50)).toBe(true);
    const peer = await peerOf(name, slow);
    expect(await peer.does("void foretoken.target('a').acquire(90, { deadlineMs: 600_000 }).catch(() => {})")).toBe(
      null,
    );
    // There are tokens enough for this one alone, but they are for the one before it.
    await expect(target.acquire(1, { deadlineMs: 150 })).rejects.toMatchObject({ code: 'DEADLINE' });
    expect(target.tryAcquire(1)).toBe(false);
    const later = target.acquire(1, { deadlineMs: 60_000 });
    await peer.kill();
    await later;
  });
});

describe.runIf(isLinux)('a region', () => {
  it('can be read and written by its user only', () => {
    const name = named();
    opened.push(tableBy(name));
    expect(statSync(fileOf(name)).mode & 0o777).toBe(0o600);
  });

  /** What another process is told that opens a region whose file was changed. */
  function toldAfter(name: string, change: (file: string) => void): string {
    opened.push(tableBy(name));
    change(fileOf(name));
    const run = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { BucketTable } from ${JSON.stringify(fileURLToPath(new URL('../../dist/table/table.js', import.meta.url)))};
         try { BucketTable.create(${JSON.stringify({ name, capacity: 8, ratePerSec: 1000, burst: 100, clock: 'monotonic' })}); console.log('none'); }
         catch (error) { console.log(error.code); }`,
      ],
      { encoding: 'utf8' },
    );
    return run.stdout.trim();
  }

  const write =
    (at: number, ...values: number[]) =>
    (file: string) =>
      void writeSync(openSync(file, 'r+'), new Uint8Array(values), 0, values.length, at);

  it.each([
    ['another magic', write(0, 1, 2, 3), 'REGION_MAGIC'],
    ['another layout', write(8, 99), 'REGION_ABI'],
    ['a capacity its size does not fit', write(16, 9), 'REGION_SIZE'],
    ['a page too many', (file: string) => truncateSync(file, statSync(file).size + 4096), 'REGION_SIZE'],
    ['a clock of another kind', write(20, 0), 'REGION_CLOCK'],
    ['a clock that began in the future', write(56, 0, 0, 0, 0, 0, 0, 0, 0x7f), 'REGION_CLOCK'],
    ['another PID namespace', write(88, 1), 'REGION_PROCESSES'],
    ['rights for others', (file: string) => chmodSync(file, 0o644), 'REGION_OWNER'],
  ])('with %s is refused with a code of its own', (_, change, code) => {
    expect(toldAfter(named(), change)).toBe(code);
  });

  it('in use with other options is refused; unused, it is made anew for them', async () => {
    const name = named();
    const mine = await openBy(name);
    for (const options of [{ ratePerSec: 2000 }, { burst: 50 }, { capacity: 10 }])
      await expect(
        Foretoken.open({ name, ratePerSec: 1000, burst: 100, control: false, ...options }),
      ).rejects.toMatchObject({ code: 'REGION_OPTIONS' });
    await mine.close();
    const peer = await peerOf(name);
    await peer.does("foretoken.addTarget('a').tryAcquire()");
    await peer.kill();
    expect(stateOf(name)).toBe('stale');
    expect((await openBy(name, { burst: 50 })).has('a')).toBe(false);
  });

  it('whose users were all killed is known as stale, and the next goes on where they were', async () => {
    const name = named();
    const peer = await peerOf(name);
    expect(await peer.does("foretoken.addTarget('a').tryAcquire(70)")).toBe(true);
    await peer.kill();
    expect(stateOf(name)).toBe('stale');
    const mine = await openBy(name);
    expect(stateOf(name)).toBe('live');
    expect(mine.target('a').totals()).toMatchObject({ admitted: 1, admittedTokens: 70 });
  });

  it('whose creator died before it was ready is known, and made by the next', async () => {
    const name = named();
    writeFileSync(fileOf(name), '', { mode: 0o600 });
    expect(stateOf(name)).toBe('unfinished');
    truncateSync(fileOf(name), 100_000);
    expect(stateOf(name)).toBe('unfinished');
    await openBy(name);
    expect(stateOf(name)).toBe('live');
  });

  it('that is something else is never touched', async () => {
    const name = named();
    writeFileSync(fileOf(name), 'somebody else’s, whatever it is called\n'.repeat(500), { mode: 0o600 });
    expect(codeOf(() => tableBy(name))).toBe('REGION_MAGIC');
    expect(existsSync(fileOf(name))).toBe(true);
    removeRegion(name);
    symlinkSync('/tmp/elsewhere', fileOf(name));
    expect(codeOf(() => tableBy(name))).toBe('REGION_OWNER');
    spawnSync('rm', [fileOf(name)]);
  });

  it('can be listed and removed by the command, in use only when forced', async () => {
    const name = named();
    const run = (...args: string[]) =>
      spawnSync(process.execPath, ['bin/foretoken.js', 'regions', ...args], { encoding: 'utf8' });
    opened.push(tableBy(name));
    expect(run().stdout).toMatch(new RegExp(`^${name} +live +0 of 8 targets, 1000 tokens/s`, 'm'));
    expect(run('rm', name)).toMatchObject({ status: 1, stderr: expect.stringContaining('has it open') });
    expect(run('rm', name, '--force')).toMatchObject({ status: 0, stdout: `removed ${name}\n` });
    expect(run('rm', name)).toMatchObject({ status: 1, stderr: expect.stringContaining('none of that name') });
    expect(run('remove').status).toBe(2);
  });
});

describe('names of regions', () => {
  it('are letters, digits, dots, dashes and underscores', async () => {
    for (const name of ['', '../x', 'a b', 'ä', 'x'.repeat(65), 5])
      await expect(Foretoken.open({ name: name as string, ratePerSec: 1, control: false })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
      });
  });
});
