import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { openDuckDbHistory } from '../../src/history/duckdb.js';
import { Foretoken, type ForetokenEvent, type ForetokenOptions, type StepReport } from '../../src/index.js';

const child = fileURLToPath(new URL('./child.js', import.meta.url));

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-control-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const opened: Foretoken[] = [];
afterEach(async () => {
  for (const foretoken of opened.splice(0)) await foretoken.close();
});

async function openWith(options: Partial<ForetokenOptions>) {
  const events: ForetokenEvent[] = [];
  const foretoken = await Foretoken.open({
    ratePerSec: 1000,
    engine: 'ewma',
    stepMs: 200,
    tickMs: 50,
    horizonsMs: [400],
    onEvent: (event) => events.push(event),
    ...options,
  });
  opened.push(foretoken);
  return { foretoken, events };
}

/** Resolves with the first step report that fits; offers meanwhile. */
const report = (foretoken: Foretoken, offer: () => void, fits: (report: StepReport) => boolean): Promise<StepReport> =>
  new Promise((resolve) => {
    const timer = setInterval(offer, 20);
    foretoken.watch(
      (step) => {
        if (!fits(step)) return;
        clearInterval(timer);
        foretoken.watch(undefined);
        resolve(step);
      },
      { rows: true },
    );
  });

it('reports rows to who watches with them from the first report on', async () => {
  const { foretoken } = await openWith({});
  foretoken.watch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 300));
  // Steps end meanwhile, and are reported once this thread lets them.
  const untilMs = performance.now() + 700;
  while (performance.now() < untilMs);
  const first = await new Promise<StepReport>((resolve) => foretoken.watch(resolve, { rows: true }));
  expect(first.rows).toEqual([]);
});

/** Threads begun in the test, and whether they have ended. */
function threads(): Map<Worker, boolean> {
  const seen = new Map<Worker, boolean>();
  const note = (worker: Worker) => {
    seen.set(worker, true);
    worker.on('exit', () => seen.set(worker, false));
  };
  process.on('worker', note);
  onTestFinished(() => void process.off('worker', note));
  return seen;
}

describe('the controller', () => {
  it('is not stalled by a main thread that does nothing else for 3 s', async () => {
    const { foretoken, events } = await openWith({});
    const a = foretoken.addTarget('a');
    await report(
      foretoken,
      () => a.tryAcquire(),
      ({ forecastQ90PerSec }) => forecastQ90PerSec > 10,
    );
    let steps = 0;
    foretoken.watch(() => steps++);
    let lapses = 0;
    const until = performance.now() + 3000;
    while (performance.now() < until) {
      a.tryAcquire();
      if (!foretoken.role().valid) lapses++;
      const next = performance.now() + 5;
      while (performance.now() < next);
    }
    expect(steps).toBe(0);
    expect(lapses).toBe(0);
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(steps).toBeGreaterThan(3);
    expect(events.filter(({ kind }) => kind === 'resumed')).toEqual([]);
  });

  it('that is killed leaves requests to the fallback within the fail-safe time, and says so', async () => {
    const begun = threads();
    const { foretoken, events } = await openWith({ failSafeMs: 300 });
    const a = foretoken.addTarget('a', { reservation: 100 });
    const b = foretoken.addTarget('b');
    await report(
      foretoken,
      () => [a.tryAcquire(), b.tryAcquire(5)],
      ({ rows }) => rows!.some(({ name, ratePerSec }) => name === 'b' && ratePerSec > 0),
    );
    expect(foretoken.controlled).toBe(true);
    const [controller] = begun.keys();
    await controller!.terminate();
    await new Promise((resolve) => setTimeout(resolve, 350));
    expect(foretoken.controlled).toBe(false);
    expect(events.filter(({ kind }) => kind === 'controller').map(({ message }) => message)).toEqual([
      expect.stringContaining('requests go on'),
    ]);
    expect(a.peek().ratePerSec).toBeCloseTo(100, 3);
    expect(b.peek().ratePerSec).toBe(0);
    await a.acquire(1, { deadlineMs: 5000 });
    await b.acquire(1, { deadlineMs: 5000 });
    // What is left of it takes changes and closes.
    const c = foretoken.addTarget('c', { reservation: 50 });
    await c.acquire(1, { deadlineMs: 5000 });
    foretoken.removeTarget('b');
    await foretoken.close();
    await foretoken.close();
  });

  it('works without the model it was told to use, and says so', async () => {
    const { foretoken, events } = await openWith({ engine: 'auto', modelPath: join(folder(), 'missing.onnx') });
    const a = foretoken.addTarget('a');
    await report(
      foretoken,
      () => a.tryAcquire(),
      ({ forecastQ90PerSec }) => forecastQ90PerSec > 10,
    );
    expect(events.filter(({ kind }) => kind === 'engine')).toMatchObject([
      { message: expect.stringContaining('classical forecasters instead') },
    ]);
  });

  it('stops with everything closed, also while it has much to do', async () => {
    const begun = threads();
    const { foretoken } = await openWith({ engine: 'auto', capacity: 300, stepMs: 100 });
    const targets = foretoken.addTargets(Array.from({ length: 300 }, (_, i) => ({ name: `t${i}` })));
    for (let i = 0; i < 10; i++) {
      for (const target of targets) target.tryAcquire();
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    await foretoken.close();
    expect(begun.size).toBeGreaterThan(0);
    expect([...begun.values()]).not.toContain(true);
    expect(foretoken.controlled).toBe(false);
  });
});

describe('a history that cannot be opened', () => {
  it.each([
    ['a folder that cannot be made', () => '/dev/null/history'],
    [
      'a file of something else',
      () => {
        const path = folder();
        writeFileSync(join(path, 'history.duckdb'), 'this is no database, whatever its name says\n'.repeat(100));
        return path;
      },
    ],
    [
      'a folder in the place of the file',
      () => {
        const path = folder();
        mkdirSync(join(path, 'history.duckdb'));
        return path;
      },
    ],
  ])('(%s) is refused with a code and leaves no thread behind', async (_, place) => {
    const begun = threads();
    await expect(Foretoken.open({ ratePerSec: 1, history: { path: place() } })).rejects.toMatchObject({
      name: 'ForetokenError',
      code: 'HISTORY_UNAVAILABLE',
    });
    expect([...begun.values()]).toEqual([false]);
  });

  it('because another table writes to it is refused, and free again when that one is closed', async () => {
    const path = folder();
    const { foretoken } = await openWith({ history: { path } });
    await expect(Foretoken.open({ ratePerSec: 1, history: { path } })).rejects.toMatchObject({
      code: 'HISTORY_UNAVAILABLE',
    });
    await foretoken.close();
    await openWith({ history: { path } });
  });
});

/** A run of so many steps in which `a` asked. */
async function earlierRun(path: string, steps: number): Promise<void> {
  const { foretoken } = await openWith({ history: { path } });
  const a = foretoken.addTarget('a');
  let seen = 0;
  await report(
    foretoken,
    () => a.tryAcquire(),
    () => ++seen >= steps,
  );
  await foretoken.close();
}

describe('a history on disk', () => {
  it('can be read after closing, and the forecasters of the next run go on from where they were', async () => {
    const path = folder();
    const first = await openWith({ history: { path } });
    expect(first.foretoken.historyLocation).toContain(path);
    const a = first.foretoken.addTarget('a');
    first.foretoken.addTarget('idle');
    let steps = 0;
    await report(
      first.foretoken,
      () => a.tryAcquire(),
      () => ++steps >= 8,
    );
    await first.foretoken.close();
    expect(first.events.filter(({ kind }) => kind === 'history')).toEqual([]);

    const store = await openDuckDbHistory({ path: join(path, 'history.duckdb') });
    const points = await store.series('a', 'step', 0, Number.POSITIVE_INFINITY);
    const forecasts = await store.forecasts('a', 0, Number.POSITIVE_INFINITY);
    const idle = await store.forecasts('idle', 0, Number.POSITIVE_INFINITY);
    await store.close();
    expect(points.length).toBeGreaterThanOrEqual(6);
    expect(points.reduce((sum, { demandTokens }) => sum + demandTokens, 0)).toBeGreaterThan(20);
    expect(forecasts.length).toBeGreaterThanOrEqual(3);
    for (const { horizonMs, engine, q50, q90, actual } of forecasts) {
      expect([horizonMs, engine]).toEqual([400, 'classical']);
      expect(q90).toBeGreaterThanOrEqual(q50);
      expect(Number.isFinite(actual)).toBe(true);
    }
    expect(idle).toEqual([]);

    const second = await openWith({ history: { path } });
    second.foretoken.addTarget('other');
    second.foretoken.addTarget('a');
    const warmed = await report(
      second.foretoken,
      () => {},
      () => true,
    );
    expect(warmed.demandTokens).toBe(0);
    const q90 = new Map(warmed.rows!.map(({ name, q90PerSec }) => [name, q90PerSec]));
    expect(q90.get('a')).toBeGreaterThan(1);
    expect(q90.get('other')).toBe(0);
    expect(second.events.filter(({ kind }) => kind === 'history')).toMatchObject([
      { message: expect.stringMatching(/^forecasters go on from where they were, with 1 of the 1 targets they knew/) },
    ]);
  });

  it('does where what forecasters knew cannot be taken up, and tells once that it cannot be kept', async () => {
    const path = folder();
    await earlierRun(path, 4);
    writeFileSync(join(path, 'forecaster-state.bin'), 'something else');
    mkdirSync(join(path, 'forecaster-state.bin.new'));

    const second = await openWith({ history: { path } });
    const again = second.foretoken.addTarget('a');
    await report(
      second.foretoken,
      () => again.tryAcquire(),
      ({ demandTokens }) => demandTokens > 0,
    );
    await second.foretoken.close();
    expect(second.events.filter(({ kind }) => kind === 'history')).toMatchObject([
      { message: expect.stringMatching(/forecaster-state.bin cannot be taken up: .*; the history must do/) },
      { message: expect.stringContaining('warmed') },
      { message: expect.stringContaining('what forecasters know not kept: EISDIR') },
    ]);
  });

  it('is what a run that ends before its first step leaves as it was', async () => {
    const path = folder();
    await earlierRun(path, 4);
    const before = readFileSync(join(path, 'forecaster-state.bin'));
    const second = await openWith({ history: { path }, stepMs: 5_000, horizonsMs: [5_000] });
    second.foretoken.addTarget('a');
    await second.foretoken.close();
    expect(readFileSync(join(path, 'forecaster-state.bin')).equals(before)).toBe(true);
  });

  it('warms targets that are added while steps go on', async () => {
    const path = folder();
    await earlierRun(path, 8);

    const second = await openWith({ history: { path } });
    second.foretoken.addTarget('other');
    await report(
      second.foretoken,
      () => {},
      () => true,
    );
    second.foretoken.addTarget('a');
    second.foretoken.addTarget('unheard of');
    const { rows } = await report(
      second.foretoken,
      () => {},
      ({ rows }) => rows?.some(({ name, q90PerSec }) => name === 'a' && q90PerSec > 0.01) ?? false,
    );
    expect(rows!.find(({ name }) => name === 'unheard of')?.q90PerSec).toBe(0);
    // Told once the step that took it over has gone.
    await vi.waitFor(() =>
      expect(second.events.filter(({ kind }) => kind === 'history')).toMatchObject([
        { message: expect.stringContaining('with 0 of the 1 targets they knew') },
        { message: 'forecasters warmed with the history of 1 added targets' },
      ]),
    );
  });

  it('opens again after its process was killed', async () => {
    const path = folder();
    const process_ = spawn(process.execPath, [child, 'run', path], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void process_.kill('SIGKILL'));
    const reader = createInterface({ input: process_.stdout });
    reader.on('line', (line) => {
      if (Number(line.split(' ')[0]) >= 4) process_.kill('SIGKILL');
    });
    await once(process_, 'exit');
    const { foretoken, events } = await openWith({ history: { path }, stepMs: 100 });
    const target = foretoken.addTarget('t7');
    await report(
      foretoken,
      () => target.tryAcquire(),
      ({ demandTokens }) => demandTokens > 0,
    );
    expect(events.filter(({ kind }) => kind === 'history')).toMatchObject([
      { message: expect.stringContaining('warmed') },
    ]);
  });
});

describe('a process with a busy controller', () => {
  const end = (mode: string, delayMs = 0) => {
    const path = folder();
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, mode, path, String(delayMs)], {
      encoding: 'utf8',
      timeout: 30_000,
      killSignal: 'SIGKILL',
    });
    return { status, signal, stdout, stderr };
  };

  it('ends by itself when nobody closed, with what it collected stored', async () => {
    const path = folder();
    const { status, signal, stderr } = spawnSync(process.execPath, [child, 'forget', path], {
      encoding: 'utf8',
      timeout: 30_000,
      killSignal: 'SIGKILL',
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const store = await openDuckDbHistory({ path: join(path, 'history.duckdb') });
    onTestFinished(() => store.close());
    expect((await store.series('t7', 'step', 0, Number.POSITIVE_INFINITY)).length).toBeGreaterThan(0);
  });

  it('ends when it has closed', () => {
    expect(end('close')).toEqual({ status: 0, signal: null, stdout: '', stderr: '' });
  });

  it.each([0, 37])('may exit at any time (%s ms into a step)', (delayMs) => {
    expect(end('exit', delayMs)).toEqual({ status: 3, signal: null, stdout: '', stderr: '' });
  });

  it.each([0, 300])('may exit while the controller starts (after %s ms)', (delayMs) => {
    expect(end('early', delayMs)).toEqual({ status: 3, signal: null, stdout: '', stderr: '' });
  });

  it('ends with code 1 and its own error when that is thrown', () => {
    const { status, signal, stderr } = end('throw');
    expect({ status, signal }).toEqual({ status: 1, signal: null });
    expect(stderr).toContain('thrown on purpose');
    expect(stderr).not.toMatch(/terminate called|Napi/);
  });

  it('goes on when a thread that opened a table ends itself', () => {
    expect(end('thread', 20)).toEqual({ status: 0, signal: null, stdout: '3\n', stderr: '' });
  });
});
