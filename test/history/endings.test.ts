import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openDuckDbHistory } from '../../src/history/duckdb.js';
import { random, tempFolder } from './records.js';

const child = fileURLToPath(new URL('./child.js', import.meta.url));
const t0 = 1_700_000_000_000;

const run = (mode: string, path: string, ...rest: string[]) =>
  spawnSync(process.execPath, [child, mode, path, ...rest], { encoding: 'utf8', timeout: 50_000 });

/** Starts the child, waits for that many lines, kills it, and returns every line it printed. */
async function killAfter(
  lines: number,
  delayMs: number,
  mode: string,
  path: string,
  ...rest: string[]
): Promise<string[]> {
  const process_ = spawn(process.execPath, [child, mode, path, ...rest], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void process_.kill('SIGKILL'));
  const printed: string[] = [];
  const reader = createInterface({ input: process_.stdout });
  reader.on('line', (line) => {
    printed.push(line);
    if (printed.length === lines) setTimeout(() => process_.kill('SIGKILL'), delayMs);
  });
  await Promise.all([once(process_, 'exit'), once(reader, 'close')]);
  return printed;
}

describe('a killed process', () => {
  test('leaves a history that opens without repair and holds every confirmed step once', async () => {
    const path = join(tempFolder(), 'history.duckdb');
    const below = random(5);
    let next = 0;
    for (let round = 0; round < 3; round++) {
      const printed = await killAfter(8 + below(10), below(30), 'append', path, String(next));
      const confirmed = Number(printed.at(-1));
      const store = await openDuckDbHistory({ path });
      try {
        const [hour] = await store.series('t3', '1h', 0, t0 + 3_600_000);
        const { steps, data, targets } = await store.recentDemand(1, 1000);
        expect([steps, targets.length]).toEqual([1, 50]);
        // The step after the last confirmed one may have been committed before the kill; no other.
        const last = data[0]! - 1;
        expect([confirmed, confirmed + 1]).toContain(last);
        const sum = ((last + 1) * (last + 2)) / 2;
        expect(hour?.arrivals).toBe(sum);
        expect(hour?.demandTokensMax).toBe(last + 1);
        next = last + 1;
      } finally {
        await store.close();
      }
    }
  });
});

describe('a file held by another process', () => {
  test('is refused with its path and the reason, and can be opened when that process is gone', async () => {
    const path = join(tempFolder(), 'history.duckdb');
    const holder = spawn(process.execPath, [child, 'hold', path], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void holder.kill('SIGKILL'));
    await once(holder.stdout, 'data');
    await expect(openDuckDbHistory({ path })).rejects.toMatchObject({
      name: 'ForetokenError',
      code: 'HISTORY_UNAVAILABLE',
      message: expect.stringMatching(/history\.duckdb.*lock/s),
    });
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    await (await openDuckDbHistory({ path })).close();
  });
});

describe('a process', () => {
  test('ends although nobody closed the store', () => {
    const path = join(tempFolder(), 'history.duckdb');
    const { status, signal } = run('forget', path);
    expect({ status, signal }).toEqual({ status: 0, signal: null });
  });

  test('does not end while it waits for the store', () => {
    const path = join(tempFolder(), 'history.duckdb');
    const { status, stdout } = run('wait', path);
    expect({ status, stdout }).toEqual({ status: 0, stdout: '20\n' });
  });

  test('ends when the store is closed, with everything stored', async () => {
    const path = join(tempFolder(), 'history.duckdb');
    const { status, stdout } = run('close', path);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ up: false, pending: 0, written: 5, failed: 0 });
    expect(existsSync(`${path}.wal`)).toBe(false);
    const store = await openDuckDbHistory({ path });
    onTestFinished(() => store.close());
    expect(await store.series('t0', 'step', 0, Number.POSITIVE_INFINITY)).toHaveLength(5);
  });

  test.each(['exit', 'nested'])('may exit in the middle of work (%s), and the history opens again', async (mode) => {
    const path = join(tempFolder(), 'history.duckdb');
    for (const delayMs of [0, 40, 150]) {
      const { status, signal, stderr } = run(mode, path, String(delayMs));
      expect({ delayMs, status, signal, stderr }).toEqual({ delayMs, status: 3, signal: null, stderr: '' });
    }
    const store = await openDuckDbHistory({ path });
    onTestFinished(() => store.close());
    expect(await store.series('t0', '1h', 0, Number.POSITIVE_INFINITY)).toHaveLength(1);
  });
});
