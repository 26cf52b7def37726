import { beforeAll, describe, expect, it } from 'vitest';
import { shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { PreparedSeries } from '../../src/learn/dataset.js';
import { type LstmWeights, readWeights } from '../../src/learn/model.js';
import { Random } from '../../src/learn/random.js';
import { type RefineRequest, refine } from '../../src/learn/refine.js';
import { Refiner } from '../../src/learn/refiner.js';
import { Scorer } from '../../src/learn/score.js';

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

const request = (demand: RefineRequest['demand'], trainingSteps: number): RefineRequest => ({
  weights: champion,
  demand,
  stepMs: 1000,
  horizonSteps: [5, 30],
  trainingSteps,
  seed: 1,
});

describe('refinement', () => {
  it('forecasts a learnable rhythm better on steps it has not seen', async () => {
    const { rows, data } = relay(1200);
    const { weights } = await refine(request({ rows, steps: 900, data: data.slice(0, 900 * rows) }, 200));
    const prepared = new PreparedSeries({ name: 'relay', stepMs: 1000, rows, steps: 1200, data });
    await using scorer = await Scorer.open(champion.shape);
    const shipped = await scorer.score(champion, prepared, [5, 30], 900);
    const refined = await scorer.score(weights, prepared, [5, 30], 900);
    refined.forEach(({ score }, h) => void expect(score).toBeLessThan(0.97 * shipped[h]!.score));
  });

  it('does not train on a history of a few minutes, nor on silence', async () => {
    for (const demand of [relay(170), { rows: 2, steps: 400, data: new Float32Array(800) }])
      expect(await refine(request(demand, 100))).toEqual({ weights: champion, trainingSteps: 0 });
  });

  it('learns most of the horizons that are asked for', async () => {
    const [near, far] = await Promise.all(
      [[1], [60]].map((horizonSteps) => refine({ ...request(relay(600), 60), horizonSteps })),
    );
    const prepared = new PreparedSeries({ name: 'relay', stepMs: 1000, ...relay(600) });
    await using scorer = await Scorer.open(champion.shape);
    const scores = [near!, far!].map(({ weights }) => scorer.score(weights, prepared, [1, 60], 300));
    const [ofNear, ofFar] = await Promise.all(scores);
    expect(ofNear![0]!.score).toBeLessThan(ofFar![0]!.score);
    expect(ofFar![1]!.score).toBeLessThan(ofNear![1]!.score);
  });

  it('passes over a history a few times, over a short one fewer, however much it might train', async () => {
    expect((await refine(request(relay(900), 1000))).trainingSteps).toBe(Math.ceil((6 * 6 * 900) / (64 * 32)));
    expect((await refine(request(relay(200), 1000))).trainingSteps).toBe(Math.ceil((2 * 6 * 200) / (64 * 32)));
  });

  it('gives the same weights for the same seed, in this thread and in one of its own', async () => {
    await using refiner = new Refiner();
    const here = await refine(request(relay(600), 20));
    const there = await refiner.run(request(relay(600), 20));
    expect(there.weights.values).toEqual(here.weights.values);
  });

  it('ends soon when it is closed, with a code', async () => {
    const refiner = new Refiner();
    const outcome = refiner.run(request(relay(9000), 100_000)).then(
      () => 'finished',
      (error: { code: string }) => error.code,
    );
    await refiner.close();
    expect(['CLOSED', 'WORKER_FAILED']).toContain(await outcome);
    await expect(refiner.run(request(relay(900), 1))).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
