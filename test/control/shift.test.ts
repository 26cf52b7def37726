import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished, vi } from 'vitest';
import { ForecasterState } from '../../src/control/forecaster-state.js';
import { Shift } from '../../src/control/shift.js';
import type { ForecastEngine } from '../../src/forecast/engine.js';
import { resolveOptions } from '../../src/options.js';
import { BucketTable } from '../../src/table/table.js';

it('keeps what forecasters know at its end also while an earlier file is not done', async () => {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-shift-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  const table = BucketTable.create({ capacity: 16, ratePerSec: 1000, burst: 100, clock: 'monotonic' });
  onTestFinished(() => table.close());
  const given = { engine: 'ewma', ratePerSec: 1000, burst: 100, stepMs: 100, horizonsMs: [500] } as const;
  const { cost: _, onEvent: __, ...options } = resolveOptions({ ...given, history: { path } });
  let steps = 0;
  const shift = await Shift.open(table, options, { onEvent: () => {}, onStep: () => void steps++ });
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

  // A disk that takes its time for large files, and the time for one.
  const file = await open(join(path, 'any'), 'w');
  const handles = Object.getPrototypeOf(file) as FileHandle;
  await file.close();
  let isFree = false;
  const syncing = vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
    if ((await this.stat()).size > 10_000) while (!isFree) await sleep(10);
  });
  const writing = vi.spyOn(ForecasterState.prototype, 'write');
  onTestFinished(() => void vi.restoreAllMocks());
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + 20_000);
  await stepsOn(3);
  clock.mockRestore();
  expect(writing).toHaveBeenCalledTimes(1);
  setTimeout(() => {
    isFree = true;
  }, 200);
  await shift.end();
  syncing.mockRestore();
  expect(writing).toHaveBeenCalledTimes(2);
  const [engine, , lastMs] = writing.mock.calls[1]!;
  const found = await new ForecasterState(join(path, 'forecaster-state.bin')).read(
    { likeness: engine.likeness, restore: async () => {} } as unknown as ForecastEngine,
    () => undefined,
  );
  expect(found?.timeMs).toBe(lastMs);
});
