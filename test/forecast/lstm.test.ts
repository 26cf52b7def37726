import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { LstmForecaster, type LstmOptions } from '../../src/forecast/lstm.js';
import { Random } from '../../src/learn/random.js';

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

  it('says which file is missing or corrupt', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'foretoken-model-'));
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
});
