import { PreparedSeries } from './dataset.js';
import { placeHorizons } from './horizons.js';
import type { LstmWeights } from './model.js';
import { rateAt, Trainer } from './trainer.js';

export interface RefineRequest {
  /** Where training starts: the shipped model. */
  weights: LstmWeights;
  /** Recent demand, `data[step · rows + row]`, tokens a step, oldest first. */
  demand: { rows: number; steps: number; data: Float32Array };
  stepMs: number;
  /** Horizons that are asked for, steps; may be fractions. */
  horizonSteps: readonly number[];
  trainingSteps: number;
  seed: number;
}

export interface RefineResult {
  /** The challenger; what was asked to start from, if there was nothing to learn from. */
  weights: LstmWeights;
  /** Training steps done. */
  trainingSteps: number;
}

/** Fewer steps of history hold too few windows: one of four minutes would be learnt by heart. */
export const minSteps = 280;
const peakRate = 1e-3;
/** How much horizons count that nobody asks for. Without them the state forgets what it is for. */
const unaskedWeight = 0.2;

/**
 * Trains the shipped model further on recent history. It always starts from there: what was refined again and again
 * drifts, and remembers most the first minutes, which were all it had. Nothing of the history is kept back to judge by,
 * because what comes next judges better (see `LiveWatch`) and the newest third of a history teaches most. Deterministic
 * for its request. Blocks its thread for seconds: the background calls it through `Refiner`.
 */
export async function refine(request: RefineRequest): Promise<RefineResult> {
  const { weights, demand, stepMs, horizonSteps, trainingSteps, seed } = request;
  const unchanged = { weights, trainingSteps: 0 };
  if (demand.steps < minSteps || trainingSteps < 1) return unchanged;
  const prepared = new PreparedSeries({ name: 'history', stepMs, ...demand });
  if (prepared.mean === 0) return unchanged;
  await using trainer = await Trainer.open({
    sources: [{ prepared, endStep: demand.steps, weight: 1 }],
    initial: weights,
    seed,
    batch: 32,
    weighting: { horizons: horizonWeights(horizonSteps, weights.shape.horizons), power: 1, most: 30 },
  });
  while (trainer.steps < trainingSteps) await trainer.step(rateAt(trainer.steps, trainingSteps, peakRate));
  return { weights: trainer.weights(), trainingSteps: trainer.steps };
}

/** 1 for the horizons of the grid that those asked for are made of. */
function horizonWeights(horizonSteps: readonly number[], grid: readonly number[]): number[] {
  const weights = grid.map(() => unaskedWeight);
  for (const { low, high, share } of placeHorizons(horizonSteps, grid)) {
    if (share < 1) weights[low] = 1;
    if (share > 0) weights[high] = 1;
  }
  return weights;
}
