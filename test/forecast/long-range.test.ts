import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type EngineEvent, type EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { LongRange, mostFitted } from '../../src/forecast/long-range.js';
import { fittedKinds } from '../../src/forecast/names.js';
import { installWithout } from './install.js';
import { flawOf, poisson } from './series.js';

const minute = 60_000;
/** Steps of half a minute: a bin each. */
const stepMs = 30_000;
const rhythm = (step: number, row: number) => (row + 1) * (40 + 30 * Math.sin(step / 6));

function openLongRange(deterministic = true, kinds = fittedKinds as LongRange['kinds']) {
  const events: string[] = [];
  const longRange = new LongRange({
    kinds,
    stepMs,
    horizonsMs: [stepMs, 5 * minute],
    deterministic,
    onEvent: (message) => events.push(message),
  });
  onTestFinished(() => longRange.close());
  return { longRange, events };
}

async function openEngine(options: Partial<EngineOptions> = {}) {
  const events: EngineEvent[] = [];
  const engine = await ForecastEngine.open({
    rows: 40,
    stepMs,
    horizonsMs: [stepMs, 5 * minute],
    refine: false,
    deterministic: true,
    onEvent: (event) => events.push(event),
    ...options,
  });
  onTestFinished(() => engine.close());
  return { engine, events };
}

/** Names of what made each row's forecast for the last horizon, and the forecasts. */
async function run(engine: ForecastEngine, series: number[][]) {
  const made: { names: string[]; quantiles: Float32Array }[] = [];
  for (const demand of series) {
    const frame = await engine.step(Float64Array.from(demand), demand.length);
    expect(flawOf(frame)).toBeUndefined();
    const horizons = frame.horizonsMs.length;
    made.push({
      names: demand.map((_, row) => frame.engines[frame.engine[(row + 1) * horizons - 1]!]!),
      quantiles: frame.quantiles.slice(0, demand.length * horizons * quantileCount),
    });
  }
  return made;
}

async function killThreads(longRange: LongRange): Promise<void> {
  const { pool } = longRange as unknown as { pool: { threads: { terminate(): Promise<number> }[] } };
  await pool.threads[0]!.terminate();
}

describe('forecasters that are fitted', () => {
  it.each(fittedKinds)('(%s) forecast long horizons of busy rows, and classical ones do the rest', async (kind) => {
    const { engine, events } = await openEngine({ engine: kind });
    const made = await run(engine, poisson(60, mostFitted + 4, 5, rhythm));
    const last = made.at(-1)!.names;
    expect(made[20]!.names.every((name) => name === 'classical')).toBe(true);
    expect(last.filter((name) => name === kind)).toHaveLength(mostFitted);
    expect(last.slice(0, 4).every((name) => name === 'classical')).toBe(true);
    expect(engine.fittingMs[kind]).toBeGreaterThan(0);
    expect(events).toEqual([]);
  });

  it('give the same forecasts in every run on a virtual clock', async () => {
    const series = poisson(75, 3, 8, rhythm);
    const first = await run((await openEngine()).engine, series);
    expect(await run((await openEngine()).engine, series)).toEqual(first);
  });

  it('are no part of an engine without long horizons', async () => {
    const { engine } = await openEngine({ engine: 'ets', stepMs: 1000, horizonsMs: [1000, 30_000] });
    expect(engine.fittingMs).toEqual({});
    const made = await run(engine, poisson(40, 2, 5, rhythm));
    expect(made.at(-1)!.names).toEqual(['classical', 'classical']);
  });

  it('get the weight in the mixture where they are better', async () => {
    // A rhythm of an hour, in steps of 10 s: longer than the classical forecasters can see.
    const series = poisson(1900, 2, 6, (step) => 300 + 280 * Math.sin((2 * Math.PI * step) / 360));
    const { engine } = await openEngine({ stepMs: 10_000, horizonsMs: [10 * minute] });
    const made = await run(engine, series);
    const names = made.slice(1600).flatMap((each) => each.names);
    expect(names.filter((name) => name === 'prophet' || name === 'ets').length / names.length).toBeGreaterThan(0.9);
  });

  it('do not keep a step waiting in real time', async () => {
    const { longRange } = openLongRange(false, ['ets']);
    let waited = 0;
    for (const demand of poisson(31, 3, 5, rhythm)) {
      let settled = false;
      const step = longRange.observe(demand, 3).then(() => {
        settled = true;
      });
      await Promise.resolve();
      await Promise.resolve();
      if (!settled) waited++;
      await step;
    }
    expect(waited).toBe(0);
    expect(longRange.rows).toEqual([]);
    // Few enough that the thread is not given up as hung.
    for (let tries = 0; tries < 38 && longRange.rows.length === 0; tries++) {
      await sleep(1000);
      await longRange.observe([1, 1, 1], 3);
    }
    expect(longRange.rows).toEqual([0, 1, 2]);
  });

  it('forget a row that was given to another target, also while they are being fitted', async () => {
    const { longRange } = openLongRange();
    const series = poisson(60, 3, 5, rhythm);
    for (const demand of series.slice(0, 30)) await longRange.observe(demand, 3);
    longRange.reset(1);
    for (const demand of series.slice(30, 45)) await longRange.observe(demand, 3);
    expect(longRange.rows).toEqual([0, 2]);
    longRange.reset(0);
    expect(longRange.rows).toEqual([2]);
  });
});

describe('forecasters that cannot be fitted', () => {
  it('are one event each, and come back by themselves (a thread that dies)', async () => {
    const { longRange, events } = openLongRange();
    const series = poisson(200, 3, 5, rhythm);
    for (const demand of series.slice(0, 30)) await longRange.observe(demand, 3);
    await killThreads(longRange);
    for (const demand of series.slice(30, 33)) await longRange.observe(demand, 3);
    expect(events).toEqual([
      expect.stringContaining('no new forecasts by ETS for now'),
      expect.stringContaining('no new forecasts by Prophet for now'),
    ]);
    for (const demand of series.slice(33, 60)) await longRange.observe(demand, 3);
    expect(events.slice(2)).toEqual(['ETS forecasts again', 'Prophet forecasts again']);
    expect(longRange.rows).toEqual([0, 1, 2]);
  });

  it('are one event, and come back by themselves (a thread that hangs)', async () => {
    const { longRange, events } = openLongRange(false, ['ets']);
    // So many bins pass at once that the thread, which keeps to its budget, cannot be done.
    for (const demand of poisson(75, 3, 5, rhythm)) await longRange.observe(demand, 3);
    expect(events).toEqual(['no new forecasts by ETS for now: fitting did not end in time']);
    for (let tries = 0; tries < 38 && longRange.rows.length === 0; tries++) {
      await sleep(1000);
      await longRange.observe([1, 1, 1], 3);
    }
    expect(events.slice(1)).toEqual(['ETS forecasts again']);
  });

  it('are one event, and the others go on (a module that cannot be loaded)', async () => {
    const place = mkdtempSync(join(tmpdir(), 'foretoken-fit-'));
    onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    installWithout('@bsull/augurs-prophet-wasmstan', place);
    const script = `
      import { ForecastEngine } from './dist/forecast/engine.js';
      const events = [];
      const engine = await ForecastEngine.open({
        rows: 2, stepMs: 30_000, horizonsMs: [300_000], engine: process.argv[2], deterministic: true,
        onEvent: ({ message }) => events.push(message),
      });
      let frame;
      for (let i = 0; i < 60; i++) frame = await engine.step(Float64Array.of(90 + (i % 7), 0), 2);
      console.log(JSON.stringify({ events, median: frame.quantiles[0], name: frame.engines[frame.engine[0]] }));
      await engine.close();`;
    writeFileSync(join(place, 'run.mjs'), script);
    const outcomeOf = async (engine: string) => {
      const { stdout } = await promisify(execFile)(process.execPath, [join(place, 'run.mjs'), engine], { cwd: place });
      return JSON.parse(stdout) as { events: string[]; median: number; name: string };
    };
    const prophet = await outcomeOf('prophet');
    expect(prophet).toMatchObject({
      events: [expect.stringMatching(/^no new forecasts by Prophet for now: .*no such module here/)],
      name: 'classical',
    });
    expect(prophet.median).toBeGreaterThan(1);
    expect(await outcomeOf('ets')).toMatchObject({ events: [], name: 'ets' });
  });
});
