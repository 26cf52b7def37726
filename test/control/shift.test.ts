import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Piscina } from 'piscina';
import { expect, it, onTestFinished, vi } from 'vitest';
import { ForecasterState } from '../../src/control/forecaster-state.js';
import { Shift } from '../../src/control/shift.js';
import type { ForecastEngine } from '../../src/forecast/engine.js';
import { openDuckDbHistory } from '../../src/history/duckdb.js';
import { Refiner } from '../../src/learn/refiner.js';
import { resolveOptions } from '../../src/options.js';
import { BucketTable } from '../../src/table/table.js';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-shift-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A shift over a table with one target, which asks while steps go on. */
async function begun(engine: 'ewma' | 'lstm' = 'ewma', path = folder()) {
  const table = BucketTable.create({ capacity: 16, ratePerSec: 1000, burst: 100, clock: 'monotonic' });
  onTestFinished(() => table.close());
  const given = { engine, ratePerSec: 1000, burst: 100, stepMs: 100, horizonsMs: [500] } as const;
  const { cost: _, onEvent: __, ...options } = resolveOptions({ ...given, history: { path } });
  let steps = 0;
  const told: string[] = [];
  const shift = await Shift.open(table, options, {
    onEvent: ({ message }) => void told.push(message),
    onStep: () => void steps++,
  });
  const handle = table.addTarget({ mayBorrow: true });
  shift.put({ name: 'a', handle, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY });
  const stepsOn = async (more: number) => {
    const last = steps + more;
    while (steps < last) {
      table.tryAcquire(handle, 1);
      shift.beat();
      await sleep(10);
    }
  };
  await stepsOn(3);
  return { path, shift, stepsOn, told };
}

/** A disk that takes no large file until it is told to. */
async function busyDisk(path: string): Promise<() => void> {
  const file = await open(join(path, 'any'), 'w');
  const handles = Object.getPrototypeOf(file) as FileHandle;
  await file.close();
  let isFree = false;
  vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
    if ((await this.stat()).size > 10_000) while (!isFree) await sleep(10);
  });
  onTestFinished(() => {
    isFree = true;
    vi.restoreAllMocks();
  });
  return () => {
    isFree = true;
  };
}

it('keeps what forecasters know at its end also while an earlier file is not done', async () => {
  const { path, shift, stepsOn } = await begun();
  const free = await busyDisk(path);
  const writing = vi.spyOn(ForecasterState.prototype, 'write');
  // The time for a file has come.
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + 20_000);
  await stepsOn(3);
  clock.mockRestore();
  expect(writing).toHaveBeenCalledTimes(1);
  setTimeout(free, 200);
  await shift.end();
  expect(writing).toHaveBeenCalledTimes(2);
  const [engine, , lastMs] = writing.mock.calls[1]!;
  const found = await new ForecasterState(join(path, 'forecaster-state.bin')).read(
    { likeness: engine.likeness, restore: async () => {} } as unknown as ForecastEngine,
    () => undefined,
  );
  expect(found?.timeMs).toBe(lastMs);
});

it('waits at its end for a model that is late, and keeps what forecasters know', async () => {
  const { path, shift, stepsOn, told } = await begun('lstm');
  const run = Piscina.prototype.run;
  vi.spyOn(Piscina.prototype, 'run').mockImplementation(async function (this: Piscina, ...given) {
    await sleep(500);
    return run.apply(this, given);
  });
  onTestFinished(() => void vi.restoreAllMocks());
  await stepsOn(1);
  await shift.end();
  expect(told).toEqual([expect.stringContaining('classical forecasters for now')]);
  expect(existsSync(join(path, 'forecaster-state.bin'))).toBe(true);
});

it('has refinement learn from all that the history knows', async () => {
  const path = folder();
  const history = await openDuckDbHistory({ path: join(path, 'history.duckdb') });
  const steps = 1000;
  const nowMs = Date.now();
  const none = new Float64Array(1);
  for (let step = 0; step < steps; step++) {
    const some = Float64Array.of(1 + (step % 7));
    history.appendStep({
      timeMs: nowMs - (steps - step) * 100,
      stepMs: 100,
      targets: ['a'],
      arrivals: some,
      admitted: some,
      denied: none,
      demandTokens: some,
      admittedTokens: some,
      readBytes: none,
      writeBytes: none,
      completions: none,
      durationNs: none,
    });
  }
  await history.close();
  const refining = vi.spyOn(Refiner.prototype, 'run');
  onTestFinished(() => refining.mockRestore());
  const { shift } = await begun('lstm', path);
  await vi.waitFor(() => expect(refining).toHaveBeenCalled(), 5000);
  await shift.end();
  const { demand } = refining.mock.calls[0]![0];
  expect(demand.places).toEqual([1]);
  expect(demand.steps).toBeGreaterThanOrEqual(steps);
  expect([...demand.data.subarray(0, 9)]).toEqual([1, 2, 3, 4, 5, 6, 7, 1, 2]);
}, 30_000);

it('ends with its history closed where the disk takes no state, and says so', async () => {
  const { path, shift, told } = await begun();
  const free = await busyDisk(path);
  await shift.end();
  expect(told).toEqual(['what forecasters know not kept: it was not on disk in 6000 ms']);
  const history = await openDuckDbHistory({ path: join(path, 'history.duckdb') });
  expect((await history.recentDemand(10, 100)).targets).toEqual(['a']);
  await history.close();
  free();
}, 30_000);
