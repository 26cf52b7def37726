import { type DemandSeries, PreparedSeries } from './dataset.js';
import { placeHorizons } from './horizons.js';
import type { LstmWeights } from './model.js';
import { rateAt, Trainer } from './trainer.js';

export interface RefineRequest {
  /** Where training starts: the refined model that serves, or the shipped one if there is none. */
  weights: LstmWeights;
  /** Recent demand, oldest first. */
  demand: Pick<DemandSeries, 'rows' | 'steps' | 'data' | 'places'>;
  stepMs: number;
  /** Horizons that are asked for, steps; may be fractions. */
  horizonSteps: readonly number[];
  /** Most training steps. */
  trainingSteps: number;
  seed: number;
}

export interface RefineResult {
  /** The challenger; what was asked to start from, if there was nothing to learn from. */
  weights: LstmWeights;
  /** Training steps done. */
  trainingSteps: number;
}

/** Fewer steps of history hold too few windows. */
const minSteps = 180;
const window = 64;
const batch = 32;
/**
 * More passes over a history would learn it by heart; each refinement goes on from the last, which has seen most of it. Of a
 * short one fewer: where all targets burst at once, its moments are few however many targets there are.
 */
const mostPasses = 6;
const stepsPerPass = 100;
const peakRate = 2e-3;
/** Moments are drawn in proportion to how late they are: what comes next is most like the newest. */
const recency = 1;
/** How much horizons count that nobody asks for. Without them the state forgets what it is for. */
const unaskedWeight = 0.2;

/**
 * Trains the model that serves further on recent history, a little each time, so that what is learnt adds up: always to
 * start from the shipped model teaches less than half as much of traffic that it has never seen. What limits it is not how
 * much it trains but how soon it knows single bursts by heart. Nothing of the history is kept back to judge by, because
 * what comes next judges better (see `LiveWatch`) and the newest third of a history teaches most. Deterministic for its
 * request. Blocks its thread for seconds: the background calls it through `Refiner`.
 */
export async function refine(request: RefineRequest): Promise<RefineResult> {
  const { weights, demand, stepMs, horizonSteps, seed } = request;
  const passes = Math.min(mostPasses, demand.steps / stepsPerPass);
  const enough = Math.ceil((passes * demand.rows * demand.steps) / (window * batch));
  const trainingSteps = Math.min(request.trainingSteps, enough);
  const unchanged = { weights, trainingSteps: 0 };
  if (demand.steps < minSteps || trainingSteps < 1) return unchanged;
  const prepared = new PreparedSeries({ name: 'history', stepMs, ...demand });
  if (prepared.mean === 0) return unchanged;
  await using trainer = await Trainer.open({
    sources: [{ prepared, endStep: demand.steps, weight: 1 }],
    initial: weights,
    seed,
    window,
    batch,
    weighting: { horizons: horizonWeights(horizonSteps, weights.shape.horizons), power: 1, most: 30 },
    recency,
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
