import { beforeAll, describe, expect, it } from 'vitest';
import { shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { type LstmWeights, readWeights } from '../../src/learn/model.js';
import { Random } from '../../src/learn/random.js';
import { type RefineRequest, refine } from '../../src/learn/refine.js';
import { Refiner } from '../../src/learn/refiner.js';

let champion: LstmWeights;
beforeAll(async () => {
  champion = await readWeights(weightsPathOf(shippedModelPath));
});

/** Rows that follow one another: what a row asks for, the next asks for three steps later, ten times as much. */
function relay(steps: number): RefineRequest['demand'] {
  const random = new Random(5);
  const rows = 6;
  const data = new Float32Array(steps * rows);
  for (let step = 0; step < steps; step++)
    for (let row = 0; row < rows; row++) {
      const on = (step + 3 * row) % 37 < 3 || (step + 3 * row) % 23 === 0;
      data[step * rows + row] = random.poisson(on ? 40 : 0.2) * (row + 1);
    }
  return { rows, steps, data };
}

/** The same demand step after step until most of it has passed, then rare bursts: what was learnt no longer holds. */
function changed(steps: number, seed: number): RefineRequest['demand'] {
  const random = new Random(seed);
  const rows = 8;
  const data = new Float32Array(steps * rows);
  for (let step = 0; step < steps; step++)
    for (let row = 0; row < rows; row++)
      data[step * rows + row] = step < 0.66 * steps ? 10 : random.uniform() < 0.1 ? 30 * random.pareto(1.5) : 0;
  return { rows, steps, data };
}

const request = (demand: RefineRequest['demand'], trainingSteps: number): RefineRequest => ({
  weights: champion,
  demand,
  stepMs: 1000,
  trainingSteps,
  seed: 1,
});

describe('refinement', () => {
  it('promotes a challenger that forecasts a learnable rhythm better on steps it has not seen', async () => {
    const result = await refine(request(relay(900), 200));
    expect(result.promoted).toBe(true);
    expect(result.gain).toBeGreaterThan(0.03);
    expect(result.gain).toBeGreaterThan(1.6 * result.error);
    expect(result.weights.values).not.toEqual(champion.values);
  });

  it('keeps the champion if what came later is of another kind than what was learnt', async () => {
    const result = await refine(request(changed(400, 3), 100));
    expect(result.promoted).toBe(false);
    expect(result.weights).toBe(champion);
    expect(result.trainingSteps).toBeGreaterThan(0);
  });

  it('does not train on a history of four minutes, nor on silence', async () => {
    for (const demand of [changed(240, 3), { rows: 2, steps: 400, data: new Float32Array(800) }])
      expect(await refine(request(demand, 100))).toMatchObject({ promoted: false, trainingSteps: 0 });
  });

  it('gives the same weights for the same seed, in this thread and in one of its own', async () => {
    await using refiner = new Refiner();
    const here = await refine(request(relay(600), 50));
    const there = await refiner.run(request(relay(600), 50));
    expect(there.gain).toBe(here.gain);
    expect(there.weights.values).toEqual(here.weights.values);
  });

  it('ends soon when it is closed, with a code', async () => {
    const refiner = new Refiner();
    const outcome = refiner.run(request(relay(900), 100_000)).then(
      () => 'finished',
      (error: { code: string }) => error.code,
    );
    await refiner.close();
    expect(['CLOSED', 'WORKER_FAILED']).toContain(await outcome);
    await expect(refiner.run(request(relay(900), 1))).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
