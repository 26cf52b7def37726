import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { DuckDBInstance } from '@duckdb/node-api';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type DuckDbHistoryOptions, openDuckDbHistory } from '../../src/history/duckdb.js';
import { Link } from '../../src/history/link.js';
import type { HistoryStore } from '../../src/history/store.js';
import { point, random, step, tempFolder } from './records.js';

const t0 = 1_700_000_000_000;
const child = fileURLToPath(new URL('./child.js', import.meta.url));
const newFile = (): string => join(tempFolder(), 'history.duckdb');

async function open(options: DuckDbHistoryOptions): Promise<HistoryStore> {
  const store = await openDuckDbHistory(options);
  onTestFinished(() => store.close());
  return store;
}

async function duckdb(path: string, sql: string): Promise<void> {
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  await connection.run(sql);
  connection.closeSync();
  instance.closeSync();
}

const refused = (path: string, reason: RegExp) => ({
  name: 'ForetokenError',
  code: 'HISTORY_UNAVAILABLE',
  message: expect.stringMatching(new RegExp(`^history ${path}: .*${reason.source}`)),
});

describe('opening', () => {
  test('makes the folder, and finds everything again the next time', async () => {
    const path = join(tempFolder(), 'some', 'where', 'history.duckdb');
    const first = await openDuckDbHistory({ path });
    expect(first.location).toBe(path);
    for (let i = 0; i < 70; i++) first.appendStep(step(t0 + i * 1000, { a: 1, b: 2 }));
    await first.flush();
    await first.compact();
    await first.close();
    for (let round = 1; round <= 3; round++) {
      const store = await openDuckDbHistory({ path });
      // Late and new steps of known and new targets, after a restart, count once.
      store.appendStep(step(t0, { b: 10 }));
      store.appendStep(step(t0 + (70 + round) * 1000, { b: 20, c: 1 }));
      await store.flush();
      if (round === 2) await store.compact();
      const [hour] = await store.series('b', '1h', 0, Number.POSITIVE_INFINITY);
      expect(hour?.arrivals).toBe(140 + round * 30);
      expect(await store.series('a', '1m', t0 - 60_000, t0 + 60_000)).toHaveLength(2);
      await store.close();
    }
  });

  test('is refused where no folder can be made or written', async () => {
    const folder = tempFolder();
    writeFileSync(join(folder, 'file'), '');
    for (const path of [join(folder, 'file', 'history.duckdb'), '/proc/foretoken/history.duckdb']) {
      await expect(openDuckDbHistory({ path })).rejects.toMatchObject(refused(path, /(ENOTDIR|EEXIST|ENOENT)/));
    }
    mkdirSync(join(folder, 'folder.duckdb'));
    const path = join(folder, 'folder.duckdb');
    await expect(openDuckDbHistory({ path })).rejects.toMatchObject(refused(path, /directory/));
  });

  test('is refused for a file that is no DuckDB file, and leaves it as it was', async () => {
    for (const content of ['', 'x'.repeat(100_000)]) {
      const path = newFile();
      writeFileSync(path, content);
      await expect(openDuckDbHistory({ path })).rejects.toMatchObject(refused(path, /valid DuckDB/));
      expect(readFileSync(path, 'utf8')).toBe(content);
    }
  });

  test("is refused for somebody else's DuckDB file, and leaves it as it was", async () => {
    for (const sql of [
      'create table accounts (id integer)',
      "create table meta (key varchar, value varchar); insert into meta values ('application', 'other')",
    ]) {
      const path = newFile();
      await duckdb(path, sql);
      const before = readFileSync(path);
      await expect(openDuckDbHistory({ path })).rejects.toMatchObject(refused(path, /not a history of foretoken/));
      expect(readFileSync(path).equals(before)).toBe(true);
    }
  });

  test('is refused for a newer format, which is named', async () => {
    const path = newFile();
    await (await openDuckDbHistory({ path })).close();
    await duckdb(path, "update meta set value = '7' where key = 'format'");
    await expect(openDuckDbHistory({ path })).rejects.toMatchObject(refused(path, /format 7 of a newer version/));
  });

  test('is refused for a history whose tables are gone', async () => {
    const path = newFile();
    await (await openDuckDbHistory({ path })).close();
    await duckdb(path, 'drop table steps');
    await expect(openDuckDbHistory({ path })).rejects.toMatchObject(refused(path, /steps/));
  });

  test.skipIf(process.platform !== 'linux')(
    'is refused a second time in one process, also by another name',
    async () => {
      const path = newFile();
      const store = await open({ path });
      const link = join(tempFolder(), 'link.duckdb');
      symlinkSync(path, link);
      for (const name of [path, link]) {
        await expect(openDuckDbHistory({ path: name })).rejects.toMatchObject(refused(name, /in this process already/));
      }
      store.appendStep(step(t0, { a: 1 }));
      await store.flush();
      const other = spawnSync(process.execPath, [child, 'use', path], { encoding: 'utf8' });
      expect(other.stdout).toBe('HISTORY_UNAVAILABLE\n');
    },
  );

  test.each<[object, string]>([
    [{ path: '' }, 'path'],
    [{ path: 7 }, 'path'],
    [{ path: 'x', queueMb: 0 }, 'queueMb'],
    [{ path: 'x', memoryLimitMb: Number.NaN }, 'memoryLimitMb'],
    [{ path: 'x', restartMs: -1 }, 'restartMs'],
    [{ path: 'x', threads: 3 }, 'threads'],
  ])('is refused with the options %j', async (options, named) => {
    await expect(openDuckDbHistory(options as DuckDbHistoryOptions)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(`${named} must be`),
    });
  });
});

describe('a corrupt file', () => {
  test('is refused with a code or read in part, but never crashes the process', async () => {
    const folder = tempFolder();
    const good = join(folder, 'good.duckdb');
    const store = await openDuckDbHistory({ path: good, compactEveryMs: 20_000 });
    const counts = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`t${i}`, i]));
    for (let i = 0; i < 200; i++) store.appendStep(step(t0 + i * 1000, counts));
    await store.flush();
    await store.close();
    const size = readFileSync(good).length;
    const below = random(11);
    const answers = new Map<string, number>();
    for (let round = 0; round < 5; round++) {
      const path = join(folder, `bad${round}.duckdb`);
      copyFileSync(good, path);
      const file = openSync(path, 'r+');
      const at = round === 0 ? 0 : round === 1 ? 4096 + below(8192) : below(size);
      const garbage = Buffer.from(Array.from({ length: 512 }, () => below(256)));
      writeSync(file, garbage, 0, garbage.length, at);
      closeSync(file);
      const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, 'use', path], {
        encoding: 'utf8',
        timeout: 30_000,
      });
      expect({ at, status, signal, stderr }).toEqual({ at, status: 0, signal: null, stderr: '' });
      answers.set(stdout.trim(), (answers.get(stdout.trim()) ?? 0) + 1);
      rmSync(path);
    }
    expect([...answers.keys()].filter((answer) => answer !== 'fine')).toEqual(['HISTORY_UNAVAILABLE']);
  });
});

/** A small file system of its own, in a mount namespace that ends with the command. */
const onSmallDisk = (folder: string, sizeMb: number, command: string) =>
  spawnSync('unshare', ['-rm', 'sh', '-c', `mount -t tmpfs -o size=${sizeMb}m tmpfs "${folder}" && ${command}`], {
    encoding: 'utf8',
    timeout: 55_000,
  });
const canMount = onSmallDisk('/mnt', 1, 'true').status === 0;

describe('a full disk', () => {
  test.skipIf(!canMount).each([
    { when: 'the log cannot be written', targets: 500, diskMb: 3, leaveMb: 0, reason: /Failed to commit/ },
    {
      when: 'a checkpoint cannot be written',
      targets: 5000,
      diskMb: 90,
      leaveMb: 34,
      reason: /Failed to create checkpoint/,
    },
  ])(
    'costs the records of that time, which are counted, and nothing more, when $when',
    ({ targets, diskMb, leaveMb, reason }) => {
      const folder = tempFolder();
      const path = join(folder, 'history.duckdb');
      const command = `"${process.execPath}" "${child}" full "${path}" ${targets} ${leaveMb}`;
      const { status, signal, stdout, stderr } = onSmallDisk(folder, diskMb, command);
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { full, after, stored, errors, consistent } = JSON.parse(stdout);
      expect(full.failed).toBeGreaterThanOrEqual(4);
      expect(errors.length).toBeGreaterThan(0);
      expect(errors.filter((error: string) => !error.startsWith('HISTORY_UNAVAILABLE: history '))).toEqual([]);
      expect(errors.some((error: string) => reason.test(error))).toBe(true);
      expect(after.up).toBe(true);
      expect(after.written).toBe(full.written + 5);
      // A commit whose checkpoint failed is counted as failed, although its records are there.
      expect(stored).toBeGreaterThanOrEqual(after.written);
      expect(stored).toBeLessThanOrEqual(after.written + after.failed);
      expect(consistent).toBe(true);
    },
  );
});

describe('a worker that dies', () => {
  const workerOf = (): Worker[] => {
    const workers: Worker[] = [];
    const original = Link.open;
    const spy = vi.spyOn(Link, 'open').mockImplementation(async (settings) => {
      const link = await original.call(Link, settings);
      workers.push(link.worker);
      return link;
    });
    onTestFinished(() => spy.mockRestore());
    return workers;
  };

  test('is reported, started again, and then writes what was appended meanwhile', async () => {
    const workers = workerOf();
    const store = await open({ path: newFile(), restartMs: 10 });
    store.appendStep(step(t0, { a: 1 }));
    await store.flush();
    await workers[0]!.terminate();
    await vi.waitFor(() => expect(store.health().up).toBe(false));
    expect(store.health().lastError).toMatch(/worker thread/);
    await expect(store.series('a', 'step', 0, 1)).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
    store.appendStep(step(t0 + 1000, { a: 2, new: 5 }));
    expect(store.health()).toMatchObject({ pending: 1 });
    await store.flush();
    expect(store.health()).toMatchObject({ up: true, pending: 0, written: 2, failed: 0 });
    expect(workers).toHaveLength(2);
    expect(await store.series('a', 'step', 0, Number.POSITIVE_INFINITY)).toEqual([point(t0, 1), point(t0 + 1000, 2)]);
    expect(await store.series('new', 'step', 0, Number.POSITIVE_INFINITY)).toEqual([point(t0 + 1000, 5)]);
  });

  test('fails the calls that wait for it with a code', async () => {
    const workers = workerOf();
    const store = await open({ path: newFile(), restartMs: 10 });
    const terminated = workers[0]!.terminate();
    const calls = [store.series('a', '1h', 0, 1), store.recentDemand(5, 1000), store.decisions('a', 0, 1)];
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    await terminated;
  });

  test('does not keep a store from closing', async () => {
    const workers = workerOf();
    const store = await open({ path: newFile(), restartMs: 60_000 });
    await workers[0]!.terminate();
    await vi.waitFor(() => expect(store.health().up).toBe(false));
    store.appendStep(step(t0, { a: 1 }));
    await store.close();
    expect(store.health()).toMatchObject({ up: false, pending: 0, written: 0, failed: 1 });
  });

  test('fails those who wait when the file cannot be opened again, and tries on', async () => {
    const workers = workerOf();
    const path = newFile();
    const store = await open({ path, restartMs: 10 });
    await workers[0]!.terminate();
    await vi.waitFor(() => expect(store.health().up).toBe(false));
    rmSync(path, { force: true });
    writeFileSync(path, 'not a history');
    store.appendStep(step(t0, { a: 1 }));
    await expect(store.flush()).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
    rmSync(path);
    await vi.waitFor(() => expect(store.health()).toMatchObject({ up: true, written: 1 }), { timeout: 20_000 });
  });
});

describe('the queue', () => {
  test('drops the oldest records and counts them when writing falls behind', async () => {
    const store = await open({ path: newFile(), queueMb: 0.05 });
    for (let i = 0; i < 1000; i++) store.appendStep(step(t0 + i * 1000, { a: 1, b: 1 }));
    const { pending, failed } = store.health();
    expect(pending).toBeGreaterThan(50);
    expect(pending).toBeLessThan(100);
    expect(failed).toBe(1000 - pending);
    await store.flush();
    expect(store.health()).toMatchObject({
      pending: 0,
      written: pending,
      failed,
      lastError: expect.stringContaining('fell behind'),
    });
    const kept = await store.series('a', 'step', 0, Number.POSITIVE_INFINITY);
    expect(kept.map((p) => (p.timeMs - t0) / 1000)).toEqual(
      Array.from({ length: pending }, (_, i) => 1000 - pending + i),
    );
  });

  test('makes a flush fail if what it waits for had to be dropped', async () => {
    const store = await open({ path: newFile(), queueMb: 0.05 });
    store.appendStep(step(t0, { a: 1 }));
    const flushed = store.flush();
    for (let i = 1; i < 1000; i++) store.appendStep(step(t0 + i * 1000, { a: 1 }));
    await expect(flushed).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
    await store.flush();
  });

  test('takes a record larger than itself', async () => {
    const store = await open({ path: newFile(), queueMb: 0.001 });
    store.appendStep(step(t0, Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`t${i}`, 1]))));
    await store.flush();
    expect((await store.recentDemand(1, 1000)).targets).toHaveLength(500);
  });
});
