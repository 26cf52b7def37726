import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readState } from '../../src/control/state-file.js';
import { Foretoken, type ForetokenEvent, type ForetokenOptions, type StepReport } from '../../src/index.js';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-adaptive-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function openWith(options: Partial<ForetokenOptions>) {
  const events: ForetokenEvent[] = [];
  const foretoken = await Foretoken.open({
    engine: 'ewma',
    stepMs: 200,
    tickMs: 50,
    horizonsMs: [400],
    onEvent: (event) => events.push(event),
    ...options,
  });
  onTestFinished(() => foretoken.close());
  return { foretoken, events };
}

const adaptive = { rate: 'adaptive', minRatePerSec: 10, maxRatePerSec: 100_000, burst: 20 } as const;

/** The first report that fits; others pass. */
const report = (foretoken: Foretoken, fits: (report: StepReport) => boolean): Promise<StepReport> =>
  new Promise((resolve) => {
    foretoken.watch(
      (step) => {
        if (fits(step)) resolve(step);
      },
      { rows: true },
    );
  });

describe('a rate that is to be found', () => {
  it('is refused without bounds, with bounds that are none, and with reservations above the lower one', async () => {
    const refused = (options: ForetokenOptions) => expect(Foretoken.open(options)).rejects;
    await refused({ rate: 'adaptive' }).toMatchObject({ code: 'INVALID_OPTION', message: /minRatePerSec/ });
    await refused({ rate: 'adaptive', minRatePerSec: 10, maxRatePerSec: 5 }).toMatchObject({
      message: /maxRatePerSec/,
    });
    await refused({ ...adaptive, ratePerSec: 5 }).toMatchObject({ message: /^ratePerSec/ });
    await refused({ ratePerSec: 5, minRatePerSec: 1 }).toMatchObject({ message: /^minRatePerSec/ });
    const { foretoken } = await openWith(adaptive);
    foretoken.addTarget('a', { reservation: 8 });
    expect(() => foretoken.addTarget('b', { reservation: 3 })).toThrow(
      /at most 10 tokens\/s together, which the resource serves at least, got 11/,
    );
    foretoken.addTarget('b', { reservation: 2 });
  });

  /** One file, written and synced by one request at a time, as a disk's queue is. */
  it('settles at what files on a disk take, and lower when each request writes far more', async () => {
    const { foretoken, events } = await openWith({ ...adaptive, ratePerSec: 50_000 });
    const target = foretoken.addTarget('writer');
    const file = await open(join(folder(), 'data'), 'w');
    let bytes = Buffer.alloc(4096, 1);
    let writes = 1;
    let queue: Promise<void> = Promise.resolve();
    let done = 0;
    let ended = false;
    const offer = setInterval(() => {
      // No more than a second's worth waits: a disk has a queue, and memory an end.
      for (let i = 0; i < 200 && target.tryAcquire(); i++) {
        const began = performance.now();
        queue = queue.then(async () => {
          if (ended) return;
          for (let w = 0; w < writes; w++) {
            await file.write(bytes, 0, bytes.length, 0);
            await file.sync();
          }
          done++;
          target.complete({ writeBytes: bytes.length, durationMs: performance.now() - began });
        });
      }
    }, 5);
    const light = await report(
      foretoken,
      ({ limit, ratePerSec }) => limit !== 'overloaded' && limit !== 'unproven' && ratePerSec < 50_000,
    );
    expect(light.ratePerSec).toBeGreaterThanOrEqual(10);
    bytes = Buffer.alloc(262_144, 1);
    writes = 8;
    const heavy = await report(foretoken, ({ ratePerSec }) => ratePerSec < light.ratePerSec / 2);
    expect(heavy.ratePerSec).toBeGreaterThanOrEqual(10);
    ended = true;
    clearInterval(offer);
    await queue;
    await file.close();
    expect(done).toBeGreaterThan(0);
    expect(events.filter(({ kind }) => kind === 'limit').length).toBeGreaterThan(0);
    expect(events.filter(({ kind }) => kind === 'controller')).toEqual([]);
  }, 60_000);

  it('is found by whichever process controls a table of a name', async () => {
    const name = `adaptive-${process.pid}`;
    const { foretoken } = await openWith({ ...adaptive, name });
    const target = foretoken.addTarget('a', { throttlingCost: 100 });
    const timer = setInterval(() => {
      for (let i = 0; i < 20; i++) if (target.tryAcquire()) target.complete({ durationMs: 1 });
    }, 10);
    onTestFinished(() => clearInterval(timer));
    const risen = await report(foretoken, ({ ratePerSec }) => ratePerSec > 1100);
    expect(risen.limit).toMatch(/probing|unused/);
    // Another opens it with the same options, whatever the rate has become.
    const second = await openWith({ ...adaptive, name });
    second.foretoken.target('a');
  });
});

describe('what a controller has learnt', () => {
  it('is there again after a restart', async () => {
    const history = { path: folder() };
    const first = await openWith({ ...adaptive, history });
    const target = first.foretoken.addTarget('a');
    const timer = setInterval(() => {
      for (let i = 0; i < 20; i++) if (target.tryAcquire()) target.complete({ durationMs: 1 });
    }, 10);
    onTestFinished(() => clearInterval(timer));
    const before = await report(first.foretoken, ({ ratePerSec }) => ratePerSec > 1100);
    clearInterval(timer);
    await first.foretoken.close();

    const second = await openWith({ ...adaptive, history });
    const after = await report(second.foretoken, () => true);
    expect(after.ratePerSec).toBeGreaterThanOrEqual(0.9 * before.ratePerSec);
    await second.foretoken.close();

    // Begun anew, and told, once each, that it was and that it cannot be kept.
    writeFileSync(join(history.path, 'controller-state.jsonl'), 'something else');
    mkdirSync(join(history.path, 'controller-state.jsonl.new'));
    const third = await openWith({ ...adaptive, history });
    expect((await report(third.foretoken, () => true)).ratePerSec).toBeCloseTo(1000, 3);
    await third.foretoken.close();
    const told = third.events.map(({ message }) => message);
    expect(told.filter((message) => message.includes('begun anew'))).toHaveLength(1);
    expect(told.filter((message) => message.includes('state not kept'))).toHaveLength(1);
  }, 60_000);

  it('is kept every ten seconds, so that a kill loses no more', async () => {
    const path = folder();
    const child = fileURLToPath(new URL('./child.js', import.meta.url));
    const running = spawn(process.execPath, [child, 'run', path], { stdio: ['ignore', 'ignore', 'inherit'] });
    onTestFinished(() => void running.kill('SIGKILL'));
    const files = ['controller-state.jsonl', 'forecaster-state.bin'].map((name) => join(path, name));
    while (!files.every(existsSync)) await new Promise((resolve) => setTimeout(resolve, 100));
    running.kill('SIGKILL');
    await once(running, 'exit');
    expect(await readState(files[0]!)).toMatchObject({ stepMs: 100 });
    const { foretoken, events } = await openWith({
      ratePerSec: 100_000,
      engine: 'auto',
      stepMs: 100,
      horizonsMs: [500],
      history: { path },
    });
    foretoken.addTargets(Array.from({ length: 500 }, (_, i) => ({ name: `t${i}` })));
    await report(foretoken, () => true);
    expect(events.map(({ message }) => message)).toContainEqual(
      expect.stringContaining('with 500 of the 500 targets they knew'),
    );
  }, 60_000);
});
