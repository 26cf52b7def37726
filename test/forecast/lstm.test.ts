import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Piscina } from 'piscina';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { forgetAfterSteps } from '../../src/forecast/features.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { lookMs, mostFirstLooks, mostLooks } from '../../src/forecast/inference-worker.js';
import { LstmForecaster, type LstmOptions, shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { readWeights } from '../../src/learn/model.js';
import { Random } from '../../src/learn/random.js';
import { sequenceModel } from '../../src/learn/sequence-graph.js';
import { carry } from './carry.js';
import { sabotage } from './sabotage.js';

const open: LstmForecaster[] = [];
const openForecaster = async (options: Partial<LstmOptions> = {}) => {
  const forecaster = await LstmForecaster.open({
    rows: 8,
    stepMs: 1000,
    horizonsMs: [5000, 30_000],
    deadlineMs: Number.POSITIVE_INFINITY,
    ...options,
  });
  open.push(forecaster);
  return forecaster;
};
afterEach(async () => {
  for (const forecaster of open.splice(0)) await forecaster.close();
});

/** Demand of one step: rows differ in rate by powers of ten. */
const demandOf = (random: Random, rows: number) =>
  Float64Array.from({ length: rows }, (_, row) => random.poisson(2) * 10 ** row);

async function run(forecaster: LstmForecaster, steps: number, rows = 4, seed = 1): Promise<Float32Array> {
  const random = new Random(seed);
  let quantiles = new Float32Array();
  for (let i = 0; i < steps; i++) {
    const frame = await forecaster.step(demandOf(random, rows), rows);
    quantiles = frame.quantiles.slice(0, rows * frame.horizonsMs.length * quantileCount);
  }
  return quantiles;
}

describe('the LSTM forecaster', () => {
  it('gives finite quantiles that ascend, for rows of any scale', async () => {
    const quantiles = await run(await openForecaster(), 20);
    expect(quantiles.length).toBe(4 * 2 * quantileCount);
    for (let i = 0; i < quantiles.length; i++) {
      expect(quantiles[i]).toBeGreaterThan(0);
      expect(Number.isFinite(quantiles[i])).toBe(true);
      if (i % quantileCount > 0) expect(quantiles[i]).toBeGreaterThanOrEqual(quantiles[i - 1]!);
    }
  });

  it('forecasts the same for the same demand', async () => {
    expect(await run(await openForecaster(), 20)).toEqual(await run(await openForecaster(), 20));
  });

  it('scales its forecast with the demand', async () => {
    const forecaster = await openForecaster();
    const random = new Random(4);
    let frame = await forecaster.step(new Float64Array(2), 2);
    for (let i = 0; i < 50; i++) {
      const count = random.poisson(3);
      frame = await forecaster.step(Float64Array.of(count, count * 65_536), 2);
    }
    for (let i = 0; i < 2 * quantileCount; i++)
      expect(frame.quantiles[2 * quantileCount + i]! / frame.quantiles[i]!).toBeCloseTo(65_536, -3);
  });

  it('forecasts nothing for a row that never asked', async () => {
    const forecaster = await openForecaster();
    const frame = await forecaster.step(Float64Array.of(0, 5), 2);
    expect([...frame.quantiles.slice(0, 2 * quantileCount)]).toEqual(new Array(2 * quantileCount).fill(0));
    expect(frame.quantiles[2 * quantileCount]).toBeGreaterThan(0);
  });

  it('forecasts a horizon the same whichever others are asked for', async () => {
    const all = [500, 1000, 2000, 5000, 8000, 10_000, 30_000, 45_000, 60_000, 150_000, 300_000, 900_000];
    const expected = await run(await openForecaster({ horizonsMs: all }), 20);
    for (const horizonsMs of [[5000], [900_000], [500, 300_000], [8000, 45_000], [30_000, 5000]]) {
      const quantiles = await run(await openForecaster({ horizonsMs }), 20);
      for (let row = 0; row < 4; row++)
        for (const [h, horizon] of horizonsMs.entries())
          for (let q = 0; q < quantileCount; q++) {
            const other = expected[(row * all.length + all.indexOf(horizon)) * quantileCount + q]!;
            const own = quantiles[(row * horizonsMs.length + h) * quantileCount + q]!;
            expect(own / other).toBeCloseTo(1, 5);
          }
    }
  });

  it('refuses a graph that cannot be asked for some horizons only', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'foretoken-model-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const weights = await readWeights(weightsPathOf(shippedModelPath));
    const modelPath = join(folder, 'other.onnx');
    await writeFile(modelPath, sequenceModel(weights.shape));
    await expect(openForecaster({ modelPath, weights })).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
      message: expect.stringContaining(modelPath),
    });
  });

  it('says which file is missing or corrupt', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'foretoken-model-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const missing = join(folder, 'none.onnx');
    await expect(openForecaster({ modelPath: missing })).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
      message: expect.stringContaining(folder),
    });
    await writeFile(missing, 'not a model');
    await writeFile(join(folder, 'none.weights.bin'), 'not weights');
    await expect(openForecaster({ modelPath: missing })).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
      message: expect.stringContaining('none.weights.bin'),
    });
  });

  it('forgets a row that was reset, and only that', async () => {
    const forecaster = await openForecaster();
    const fresh = await openForecaster();
    await run(forecaster, 30);
    forecaster.reset(1);
    const after = await forecaster.step(Float64Array.of(2, 20, 200, 2000), 4);
    const first = await fresh.step(Float64Array.of(0, 20, 0, 0), 4);
    const width = 2 * quantileCount;
    const [rows, news] = [after, first].map(({ quantiles }) => quantiles.slice(0, 4 * width)) as [
      Float32Array,
      Float32Array,
    ];
    // The forecast of a row knows of the others by the total alone, so it is close and not the same.
    expect(rows[width]! / news[width]!).toBeGreaterThan(0.3);
    expect(rows[width]! / news[width]!).toBeLessThan(3);
    expect(rows[0]).toBeGreaterThan(0);
  });

  it('forecasts nothing for a row once it is forgotten or reset', async () => {
    const forecaster = await openForecaster();
    await run(forecaster, 5);
    forecaster.reset(1);
    const saidOf = (quantiles: Float32Array) =>
      [0, 1, 2, 3].map((row) => quantiles.slice(row * 2 * quantileCount, (row + 1) * 2 * quantileCount).some(Boolean));
    expect(saidOf((await forecaster.step(new Float64Array(4), 4)).quantiles)).toEqual([true, false, true, true]);
    for (let i = 0; i < forgetAfterSteps; i++) await forecaster.step(Float64Array.of(1, 0, 0, 2), 4);
    expect(saidOf((await forecaster.step(new Float64Array(4), 4)).quantiles)).toEqual([true, false, false, true]);
  });

  it('swaps weights while it runs and keeps its state', async () => {
    const weights = await readWeights(weightsPathOf(shippedModelPath));
    const doubled = { ...weights, values: weights.values.map((value) => value * 1.02) };
    const swapped = await openForecaster();
    const plain = await openForecaster();
    expect(await run(swapped, 20)).toEqual(await run(plain, 20));
    swapped.setWeights(doubled);
    expect(await run(swapped, 1, 4, 5)).not.toEqual(await run(plain, 1, 4, 5));
    swapped.setWeights(weights);
    await run(swapped, 40, 4, 6);
    await run(plain, 40, 4, 6);
    const [a, b] = [await run(swapped, 1, 4, 7), await run(plain, 1, 4, 7)];
    a.forEach((value, i) => void expect(value / b[i]!).toBeCloseTo(1, 1));
    expect(() => swapped.setWeights({ ...weights, values: weights.values.slice(1) })).toThrow(/parameters/);
    expect(() => swapped.setWeights({ ...weights, featureVersion: 99 })).toThrow(/features/);
  });

  it('runs a second set of weights beside the first, from the same state', async () => {
    const weights = await readWeights(weightsPathOf(shippedModelPath));
    const forecaster = await openForecaster();
    const plain = await openForecaster();
    await run(forecaster, 20);
    await run(plain, 20);
    expect(forecaster.addModel('refined', weights)).toBe(1);
    expect(forecaster.models).toEqual(['lstm', 'refined']);
    const demand = Float64Array.of(1, 2, 3, 4);
    const [first, second] = (await forecaster.stepAll(demand, 4)).map((frame) => frame.quantiles.slice(0, 40));
    expect(second).toEqual(first);
    expect(first).toEqual((await plain.step(demand, 4)).quantiles.slice(0, 40));
  });

  it('counts what is no demand as none', async () => {
    const forecaster = await openForecaster();
    const bad = Float64Array.of(Number.NaN, -4, Number.POSITIVE_INFINITY, 3);
    for (let i = 0; i < 5; i++) {
      const { quantiles } = await forecaster.step(bad, 4);
      expect(quantiles.every(Number.isFinite)).toBe(true);
    }
  });

  it('refuses bad options and arguments with a code, and steps once closed', async () => {
    for (const options of [
      { rows: 0 },
      { rows: 1.5 },
      { stepMs: Number.NaN },
      { horizonsMs: [] },
      { horizonsMs: [-1] },
    ])
      await expect(openForecaster(options)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    const forecaster = await openForecaster();
    await expect(forecaster.step(new Float64Array(9), 9)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(() => forecaster.reset(8)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    await forecaster.close();
    await expect(forecaster.step(new Float64Array(1), 1)).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

describe('a worker of the LSTM that fails', () => {
  /** Of a forecaster that is at rest. */
  const killWorker = async (harmed: ReturnType<typeof sabotage>) => {
    const pool = harmed.runs.mock.contexts.at(-1) as Piscina;
    await pool.threads[0]!.terminate();
  };
  /** So many looks in which nothing moves come due; the first may find that something did. */
  const lookOn = async (looks: number) => {
    for (let i = 0; i <= looks; i++) await vi.advanceTimersByTimeAsync(lookMs);
  };
  const fakeLooks = () => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });

  it('is replaced when it dies, and the state goes on', async () => {
    const harmed = sabotage();
    const plain = await openForecaster();
    const forecaster = await openForecaster();
    await run(plain, 15);
    await run(forecaster, 15);
    await killWorker(harmed);
    const quantiles = await run(forecaster, 5, 4, 2);
    expect(quantiles).toEqual(await run(plain, 5, 4, 2));
  });

  it.each(['hang', 'block', 'block-second'] as const)(
    'is given up when it does not answer (%s), and the state goes on',
    async (how) => {
      const harmed = sabotage();
      const plain = await openForecaster();
      const forecaster = await openForecaster();
      const weights = await readWeights(weightsPathOf(shippedModelPath));
      for (const each of [plain, forecaster]) each.addModel('refined', weights);
      await run(plain, 15);
      await run(forecaster, 15);
      harmed.harm(how);
      fakeLooks();
      const demand = Float64Array.of(5, 50, 0, 5000);
      const step = forecaster.step(demand, 4);

      const failing = expect(step).rejects.toMatchObject({
        code: 'WORKER_FAILED',
        message: expect.stringContaining('hangs'),
      });
      await harmed.suffered();
      await lookOn(mostLooks);
      await failing;
      // A thread is not ended while the runtime works in it: that would abort the process.
      expect(harmed.ended).toHaveBeenCalledTimes(how === 'hang' ? 1 : 0);
      await plain.step(demand, 4);
      expect(await run(forecaster, 5, 4, 2)).toEqual(await run(plain, 5, 4, 2));
      // What comes back late changes nothing.
      harmed.letGo();
      await vi.waitFor(() => expect(harmed.ended).toHaveBeenCalledTimes(1), 10_000);
      expect(await run(forecaster, 5, 4, 3)).toEqual(await run(plain, 5, 4, 3));
    },
  );

  it('is not waited for by closing when it hangs, nor ended in the runtime', async () => {
    const harmed = sabotage();
    const forecaster = await openForecaster();
    harmed.harm('block');
    const step = forecaster.step(Float64Array.of(5), 1).catch(() => {});
    await harmed.suffered();
    await forecaster.close();
    expect(harmed.ended).not.toHaveBeenCalled();
    harmed.letGo();
    await step;
    await vi.waitFor(() => expect(harmed.ended).toHaveBeenCalledTimes(1), 10_000);
  });

  it.each(['hang', 'block-open', 'throw', 'exit'] as const)(
    'is tried again with the steps when opening meets a %s',
    async (how) => {
      const harmed = sabotage();
      harmed.harm(how);
      fakeLooks();
      const opening = openForecaster({ deadlineMs: 60_000, retries: true });
      await harmed.suffered();
      await lookOn(mostFirstLooks);
      const forecaster = await opening;
      expect(forecaster.failure).toMatchObject({ code: 'WORKER_FAILED' });
      const plain = await openForecaster();
      expect(await run(forecaster, 5)).toEqual(await run(plain, 5));
      expect(forecaster.failure).toBeUndefined();
      harmed.letGo();
    },
  );

  it('is an error of opening unless it is to be tried again', async () => {
    sabotage().harm('throw');
    await expect(openForecaster()).rejects.toMatchObject({ code: 'WORKER_FAILED' });
  });

  it('is left alone for ever longer when it fails again and again, and steps are given up meanwhile', async () => {
    const harmed = sabotage();
    const forecaster = await openForecaster();
    await run(forecaster, 15);
    harmed.harm('throw', true);
    harmed.runs.mockClear();
    const real = performance.now.bind(performance);
    let laterMs = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => real() + laterMs);
    const fails = async () =>
      expect(forecaster.step(Float64Array.of(1, 2, 3, 4), 4)).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    for (const [pauseMs, tasks] of [
      [0, 1],
      [0, 2],
      [0, 2],
      [9_000, 2],
      [1_000, 3],
      [10_000, 3],
      [10_000, 4],
    ] as const) {
      laterMs += pauseMs;
      await fails();
      expect(harmed.runs).toHaveBeenCalledTimes(tasks);
    }
    // Nothing writes to its memory now: what it knows can be kept.
    expect(forecaster.isIdle).toBe(true);
    forecaster.reset(2);
    harmed.heal('throw');
    const heir = await openForecaster();
    await carry(forecaster, heir, [0, 1, 2, 3], [0, 1, 2, 3]);
    laterMs += 300_000;
    for (const each of [heir, forecaster]) {
      const { quantiles } = await each.step(new Float64Array(4), 4);
      const width = 2 * quantileCount;
      expect([1, 2].map((row) => quantiles.slice(row * width, (row + 1) * width).some(Boolean))).toEqual([true, false]);
    }
    expect(forecaster.failure).toBeUndefined();
  });

  it('makes the step it was late for fail with a code, and makes it up with the next', async () => {
    const late = await openForecaster({ deadlineMs: 50 });
    const plain = await openForecaster();
    const random = new Random(2);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    for (let i = 0; i < 5; i++) {
      const demand = demandOf(random, 4);
      await plain.step(demand, 4);
      const step = late.step(demand, 4);
      vi.advanceTimersByTime(50);
      await expect(step).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    }
    // No time passes now, so whatever is still to be made up is in time.
    expect(await run(late, 5, 4, 3)).toEqual(await run(plain, 5, 4, 3));
    expect(late.isIdle).toBe(true);
  });
});
