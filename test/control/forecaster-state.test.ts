import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { warmUp } from '../../src/control/assembly.js';
import { ForecasterState, stateVersion } from '../../src/control/forecaster-state.js';
import { Roster } from '../../src/control/roster.js';
import { type EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { StateWalk } from '../../src/forecast/state-walk.js';
import { openMemoryHistory } from '../../src/history/memory.js';
import type { HistoryStore } from '../../src/history/store.js';

const stepMs = 1000;
const enough = { bytes: 1e9, ms: 10_000 };
const opened: ForecastEngine[] = [];
afterEach(async () => {
  for (const engine of opened.splice(0)) await engine.close();
});

async function engineWith(options: Partial<EngineOptions> = {}): Promise<ForecastEngine> {
  const engine = await ForecastEngine.open({
    rows: 64,
    stepMs,
    horizonsMs: [5_000, 150_000],
    engine: 'ewma',
    refine: false,
    deterministic: true,
    ...options,
  });
  opened.push(engine);
  return engine;
}

function place(): { folder: string; path: string } {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-state-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return { folder, path: join(folder, 'forecaster-state.bin') };
}

const demandOf = (step: number, row: number): number => ((step + 3 * row) % 11 < 2 ? 40 + row : (step * row) % 3);
/** Rows 1 and up, as slots are; named after them. */
const names = ['a', 'b', 'c', 'd'];
const targets = names.map((name, i) => [name, i + 1] as const);
const rowOf = (name: string) => (names.includes(name) ? names.indexOf(name) + 1 : undefined);

async function run(engine: ForecastEngine, from: number, to: number, rows = 5): Promise<Float32Array[]> {
  const frames: Float32Array[] = [];
  for (let step = from; step < to; step++) {
    const demand = Float64Array.from({ length: rows }, (_, row) => (row === 0 ? 0 : demandOf(step, row)));
    frames.push((await engine.step(demand, rows)).quantiles.slice(0, rows * 2 * 5));
  }
  return frames;
}

async function written(path: string, steps = 40): Promise<ForecastEngine> {
  const engine = await engineWith();
  await run(engine, 0, steps);
  const copied = await new ForecasterState(path).write(engine, targets, steps * stepMs, enough);
  await copied!.kept;
  return engine;
}

describe('a file of what forecasters know', () => {
  it('has others go on from there', async () => {
    const { folder, path } = place();
    const never = await written(path);
    const restarted = await engineWith();
    expect(await new ForecasterState(path).read(restarted, rowOf)).toEqual({ timeMs: 40_000, known: 4, targets: 4 });
    expect(await run(restarted, 40, 80)).toEqual(await run(never, 40, 80));
    expect(readdirSync(folder)).toEqual(['forecaster-state.bin']);
  });

  it('is of those targets alone that are there, by their rows now', async () => {
    const { path } = place();
    await written(path);
    const restarted = await engineWith();
    const rows = new Map([['d', 2]]);
    const found = await new ForecasterState(path).read(restarted, (name) => rows.get(name));
    expect(found).toEqual({ timeMs: 40_000, known: 4, targets: 1 });
    expect([1, 2, 3, 4].map((row) => restarted.knows(row))).toEqual([false, true, false, false]);
  });

  it('that is not there, or not wanted, is none', async () => {
    const { path } = place();
    expect(await new ForecasterState(path).read(await engineWith(), rowOf)).toBeUndefined();
    await written(path);
    const engine = await engineWith();
    expect(await new ForecasterState(path).read(engine, rowOf, (timeMs) => timeMs > 40_000)).toBeUndefined();
    expect(engine.knows(1)).toBe(false);
    expect(await new ForecasterState(path).read(await engineWith({ engine: 'last' }), rowOf)).toBeUndefined();
  });

  const overwrite = (path: string, at: number, byte: number) => {
    const file = openSync(path, 'r+');
    const size = readFileSync(path).length;
    writeSync(file, Uint8Array.of(byte), 0, 1, at < 0 ? size + at : at);
    closeSync(file);
  };
  it.each([
    ['something else', (path: string) => writeFileSync(path, 'x'.repeat(1000)), 'it is something else, or cut off'],
    ['empty', (path: string) => writeFileSync(path, ''), 'it is something else, or cut off'],
    ['cut off', (path: string) => truncateSync(path, 3000), 'it is something else, or cut off'],
    [
      'a folder',
      (path: string) => {
        rmSync(path);
        mkdirSync(path);
      },
      'EISDIR',
    ],
    ['changed in its state', (path: string) => overwrite(path, 5000, 7), 'it has changed since it was written'],
    ['changed in its head', (path: string) => overwrite(path, -80, 7), 'it has changed since it was written'],
    ['of other lengths', (path: string) => overwrite(path, -32, 7), 'its parts do not fit together'],
    [
      'shorter by a piece in the middle',
      (path: string) => {
        const bytes = readFileSync(path);
        writeFileSync(path, Buffer.concat([bytes.subarray(0, 800), bytes.subarray(1600)]));
      },
      'its parts do not fit together',
    ],
  ])('that is %s is refused with what is wrong, and the forecasters begin from nothing', async (_, spoil, reason) => {
    const { path } = place();
    await written(path);
    spoil(path);
    const engine = await engineWith();
    await expect(new ForecasterState(path).read(engine, rowOf)).rejects.toMatchObject({
      code: 'HISTORY_UNAVAILABLE',
      message: expect.stringMatching(new RegExp(`^${path} cannot be taken up: .*${reason}`)),
    });
    expect(await run(engine, 0, 20)).toEqual(await run(await engineWith(), 0, 20));
  });

  it.each([{ engine: 'ets' }, { stepMs: 500 }, { horizonsMs: [5_000] }, { engine: 'auto' }] as const)(
    'of other forecasters is refused (%o)',
    async (options) => {
      const { path } = place();
      await written(path);
      await expect(new ForecasterState(path).read(await engineWith(options), rowOf)).rejects.toThrow(
        'it is of other forecasters, horizons or steps',
      );
    },
  );

  it('of another version is refused', async () => {
    const { path } = place();
    await written(path);
    const bytes = readFileSync(path);
    const tail = bytes.length - 32;
    const json = tail - bytes.readUInt32LE(tail + 12);
    const numbers = json - 8 * bytes.readUInt32LE(tail + 8);
    const version = `"version":${stateVersion}`;
    bytes.write(
      version.replace(/\d+$/, (digits) => digits.replace(/\d$/, '0')),
      bytes.indexOf(version, json),
    );
    bytes.writeUInt32LE(crc32(bytes.subarray(numbers, tail)), tail + 16);
    writeFileSync(path, bytes);
    await expect(new ForecasterState(path).read(await engineWith(), rowOf)).rejects.toThrow('it is of version 0');
  });

  it('leaves out whose row is given to another while it is copied', async () => {
    const { path } = place();
    const engine = await engineWith();
    await run(engine, 0, 40);
    const writing = new ForecasterState(path).write(engine, targets, 40_000, enough);
    engine.reset(2);
    await (await writing)!.kept;
    const restarted = await engineWith();
    const found = await new ForecasterState(path).read(restarted, rowOf);
    expect(found).toEqual({ timeMs: 40_000, known: 4, targets: 3 });
    expect([1, 2, 3].map((row) => restarted.knows(row))).toEqual([true, false, true]);
  });

  it('is not begun where it would be too large, where nothing is known, or while another is written', async () => {
    const { folder, path } = place();
    const state = new ForecasterState(path);
    const engine = await engineWith();
    expect(await state.write(engine, targets, 0, enough)).toBeUndefined();
    await run(engine, 0, 40);
    expect(await state.write(engine, targets, 0, { ...enough, bytes: 1000 })).toBeUndefined();
    expect(await state.write(engine, [['unknown', 40]], 0, enough)).toBeUndefined();
    expect(readdirSync(folder)).toEqual([]);
    const copied = await state.write(engine, targets, 0, enough);
    expect(await state.write(engine, targets, 0, enough)).toBeUndefined();
    await copied!.kept;
    await state.settled();
    expect(await state.write(engine, targets, 0, enough)).toMatchObject({ bytes: copied!.bytes });
    await state.settled();
  });

  it('is not begun where it would take more than half of the room there is', async () => {
    const { folder, path } = place();
    const engine = await engineWith();
    await run(engine, 0, 40);
    const bytes = engine.save(Int32Array.of(1, 2, 3, 4))!.walk.byteLength;
    const rooms: string[] = [];
    const roomy = (room: number) =>
      new ForecasterState(path, async (asked) => {
        rooms.push(asked);
        return room;
      });
    await expect(roomy(2 * bytes - 2).write(engine, targets, 0, enough)).rejects.toThrow('are free');
    expect(readdirSync(folder)).toEqual([]);
    await (await roomy(2 * bytes).write(engine, targets, 0, enough))!.kept;
    expect(rooms).toEqual([folder, folder]);
  });

  it('that takes too long to copy is given up, leaves the one before, and lets others try again', async () => {
    const { folder, path } = place();
    const engine = await written(path);
    const before = readFileSync(path);
    const state = new ForecasterState(path);
    const saving = vi.spyOn(StateWalk.prototype, 'save').mockImplementation(function* () {
      for (;;) yield new Uint8Array(2 ** 16);
    });
    await expect(state.write(engine, targets, 0, { ...enough, ms: 30 })).rejects.toThrow('took more than 30 ms');
    saving.mockRestore();
    await state.settled();
    expect(readdirSync(folder)).toEqual(['forecaster-state.bin']);
    expect(readFileSync(path).equals(before)).toBe(true);
    await (await state.write(engine, targets, 0, enough))!.kept;
    expect(readFileSync(path).equals(before)).toBe(false);
  });

  it('that cannot be written leaves the one before, and nothing half', async () => {
    const { folder, path } = place();
    const engine = await written(path);
    const before = readFileSync(path);
    // As where the disk is full.
    const file = await open(path);
    const syncing = vi.spyOn(Object.getPrototypeOf(file) as FileHandle, 'sync').mockRejectedValue(new Error('no room'));
    onTestFinished(() => syncing.mockRestore());
    await file.close();
    const copied = await new ForecasterState(path).write(engine, targets, 0, enough);
    await expect(copied!.kept).rejects.toThrow('no room');
    expect(readdirSync(folder)).toEqual(['forecaster-state.bin']);
    expect(readFileSync(path).equals(before)).toBe(true);
    mkdirSync(`${path}.new`);
    await expect(new ForecasterState(path).write(engine, targets, 0, enough)).rejects.toThrow('EISDIR');
  });

  it('that cannot be moved into its place leaves nothing beside it', async () => {
    const { folder, path } = place();
    const engine = await written(path);
    rmSync(path);
    mkdirSync(join(path, 'something'), { recursive: true });
    const copied = await new ForecasterState(path).write(engine, targets, 0, enough);
    await expect(copied!.kept).rejects.toThrow('forecaster-state.bin');
    expect(readdirSync(folder)).toEqual(['forecaster-state.bin']);
  });

  it('is waited for no longer than that on a disk that hangs', async () => {
    const { folder, path } = place();
    const engine = await written(path);
    const state = new ForecasterState(path);
    // To open a pipe takes until somebody else has it open.
    execFileSync('mkfifo', [`${path}.new`]);
    await expect(state.write(engine, targets, 0, { ...enough, ms: 30 })).rejects.toThrow('took more than 30 ms');
    expect(await state.write(engine, targets, 0, enough)).toBeUndefined();
    const reader = openSync(`${path}.new`, constants.O_RDONLY | constants.O_NONBLOCK);
    await state.settled();
    closeSync(reader);
    expect(readdirSync(folder)).toEqual(['forecaster-state.bin']);
    rmSync(path);
    execFileSync('mkfifo', [path]);
    const restarted = await engineWith();
    await expect(state.read(restarted, rowOf, () => true, 30)).rejects.toThrow('reading it took more than 30 ms');
    // It may only be about to be opened: left open, so that it can be whenever that is.
    openSync(path, constants.O_RDWR);
  });

  it.runIf(process.platform === 'linux')('is closed again however reading or writing it ends', async () => {
    const { folder, path } = place();
    const engine = await written(path);
    await expect(new ForecasterState(path).write(engine, targets, 0, { ...enough, ms: 0 })).rejects.toThrow('0 ms');
    await new ForecasterState(path).read(await engineWith(), rowOf);
    await new ForecasterState(path).read(await engineWith(), rowOf, () => false);
    truncateSync(path, 3000);
    await new ForecasterState(path).read(await engineWith(), rowOf).catch(() => {});
    const files = () =>
      readdirSync('/proc/self/fd').filter((fd) => {
        const link = `/proc/self/fd/${fd}`;
        return existsSync(link) && readlinkSync(link).startsWith(folder);
      });
    await vi.waitFor(() => expect(files()).toEqual([]));
  });
});

it('what is walked through is that of this version', async () => {
  const layout: string[] = [];
  for (const method of ['rows', 'silentRows', 'whole'] as const) {
    const walking = StateWalk.prototype[method] as (...given: unknown[]) => void;
    vi.spyOn(StateWalk.prototype, method).mockImplementation(function (this: StateWalk, ...given: unknown[]) {
      const [values, width = 1] = given as [Float64Array, number?];
      layout.push(`${method} ${values.constructor.name} ${method === 'whole' ? values.length : width}`);
      walking.apply(this, given);
    });
  }
  onTestFinished(() => void vi.restoreAllMocks());
  const engine = await engineWith({ engine: 'auto' });
  await run(engine, 0, 40);
  const { walk } = engine.save(Int32Array.of(1, 2, 3, 4))!;
  layout.push(`${walk.numbers.length} numbers`);
  const print = createHash('sha256').update(layout.join('\n')).digest('hex').slice(0, 16);
  // Another layout is another version: raise it, and note the new print here.
  expect([stateVersion, print]).toEqual([3, '7391a8c23097cff7']);
});

describe('forecasters that begin', () => {
  const roster = new Roster();
  names.forEach((name, i) => {
    roster.put({ name, handle: i + 1, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY }, i + 1);
  });

  /** A history of so many steps, from 0; nobody asks in the `idle` ones. */
  async function historyOf(
    steps: number,
    idle = (_: number): boolean => false,
    demand = demandOf,
  ): Promise<HistoryStore> {
    const history = await openMemoryHistory();
    onTestFinished(() => history.close());
    for (let step = 0; step < steps; step++) {
      const demandTokens = Float64Array.from(names, (_, i) => demand(step, i + 1));
      const none = new Float64Array(names.length);
      if (idle(step)) continue;
      history.appendStep({
        timeMs: step * stepMs,
        stepMs,
        targets: names,
        demandTokens,
        arrivals: demandTokens,
        admitted: none,
        denied: none,
        admittedTokens: none,
        readBytes: none,
        writeBytes: none,
        completions: none,
        durationNs: none,
      });
    }
    return history;
  }
  const partsOf = (history: HistoryStore, engine: ForecastEngine) => ({ history, engine, close: async () => {} });
  const refuse = (error: unknown) => {
    throw error;
  };

  it('with a state and steps of history since forecast as those that never stopped', async () => {
    const { path } = place();
    const never = await written(path, 40);
    await run(never, 40, 60);
    const restarted = await engineWith();
    const state = new ForecasterState(path);
    const shadows = { warm: vi.fn() };
    const parts = partsOf(await historyOf(60), restarted);
    expect(await warmUp(parts, roster, stepMs, state, shadows, refuse)).toEqual({
      steps: 20,
      restored: { timeMs: 40_000, known: 4, targets: 4 },
      left: [],
    });
    expect(shadows.warm).toHaveBeenCalledWith(expect.objectContaining({ steps: 60 }));
    expect(await run(restarted, 60, 90)).toEqual(await run(never, 60, 90));
  });

  it('do so where most of a table has not asked since', async () => {
    const { path } = place();
    // The rhythm changes, and a row's is judged when it is its turn among all.
    const rhythm = (step: number, row: number) => (step % (step < 40 ? 11 : 5) === row ? 60 : 1);
    const slots = 41;
    const go = async (engine: ForecastEngine, from: number, to: number) => {
      const frames: Float32Array[] = [];
      for (let step = from; step < to; step++) {
        const demand = Float64Array.from({ length: slots }, (_, row) => (row > 0 && row < 5 ? rhythm(step, row) : 0));
        frames.push((await engine.step(demand, slots)).quantiles.slice(0, slots * 2 * 5));
      }
      return frames;
    };
    const others = new Roster();
    [...names, 'silent'].forEach((name, i) => {
      const slot = name === 'silent' ? slots - 1 : i + 1;
      others.put({ name, handle: slot, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY }, slot);
    });
    const never = await engineWith({ engine: 'prophet' });
    await go(never, 0, 60);
    await (await new ForecasterState(path).write(never, others.slots, 60 * stepMs, enough))!.kept;
    await go(never, 60, 75);
    const restarted = await engineWith({ engine: 'prophet' });
    const parts = partsOf(await historyOf(75, () => false, rhythm), restarted);
    expect(await warmUp(parts, others, stepMs, new ForecasterState(path), undefined, refuse)).toMatchObject({
      steps: 15,
    });
    expect(await go(restarted, 75, 100)).toEqual(await go(never, 75, 100));
  });

  it('make up for steps in which nobody asked, too', async () => {
    const { path } = place();
    const never = await written(path, 40);
    for (let step = 40; step < 50; step++) await never.step(new Float64Array(5), 5);
    await run(never, 50, 60);
    // The history knows nothing of what was before, either: it begins with the first demand.
    const history = await historyOf(60, (step) => step < 50);
    const restarted = await engineWith();
    await warmUp(partsOf(history, restarted), roster, stepMs, new ForecasterState(path), undefined, refuse);
    expect(await run(restarted, 60, 90)).toEqual(await run(never, 60, 90));
  });

  it('go on from the state alone where the history does not go beyond it', async () => {
    for (const steps of [0, 30, 40]) {
      const { path } = place();
      const never = await written(path, 40);
      const restarted = await engineWith();
      const parts = partsOf(await historyOf(steps), restarted);
      const { steps: taken } = await warmUp(parts, roster, stepMs, new ForecasterState(path), undefined, refuse);
      expect(taken).toBe(0);
      expect(await run(restarted, 40, 60)).toEqual(await run(never, 40, 60));
    }
  });

  it('leave those that the state does not know to be warmed with the history', async () => {
    const { path } = place();
    const engine = await engineWith();
    await run(engine, 0, 40, 3);
    await (await new ForecasterState(path).write(engine, targets, 40_000, enough))!.kept;
    const parts = partsOf(await historyOf(60), await engineWith());
    const warmed = await warmUp(parts, roster, stepMs, new ForecasterState(path), undefined, refuse);
    expect(warmed).toMatchObject({ restored: { known: 2, targets: 2 }, left: ['c', 'd'] });
  });

  it('take the history alone where the state is older than an hour of its steps, or refused', async () => {
    const { path } = place();
    await written(path, 40);
    const told: unknown[] = [];
    const begin = async (steps: number) => {
      const parts = partsOf(await historyOf(steps), await engineWith());
      return warmUp(parts, roster, stepMs, new ForecasterState(path), undefined, (error) => void told.push(error));
    };
    expect(await begin(3641)).toEqual({ steps: 600, left: [] });
    expect(await begin(3640)).toMatchObject({ steps: 600, restored: { targets: 4 } });
    truncateSync(path, 100);
    expect(told).toEqual([]);
    expect(await begin(60)).toEqual({ steps: 60, left: [] });
    expect(told).toMatchObject([{ code: 'HISTORY_UNAVAILABLE' }]);
    expect(existsSync(path)).toBe(true);
    rmSync(path);
    expect(await begin(0)).toEqual({ steps: 0, left: [] });
  });
});
