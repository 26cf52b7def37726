import { type DemandSeries, PreparedSeries } from './dataset.js';
import type { LstmWeights } from './model.js';
import { pinball, Scorer } from './score.js';
import { rateAt, Trainer } from './trainer.js';

/**
 * What a training step is taken to cost, ms of one core, where a budget is given in time: measured at hidden
 * 48, windows of 64 steps and 32 rows.
 */
export const trainingStepCostMs = 6;

export interface RefineRequest {
  /** The champion: where training starts, and what the challenger must beat. */
  weights: LstmWeights;
  /** Recent demand, `data[step · rows + row]`, tokens a step, oldest first. */
  demand: { rows: number; steps: number; data: Float32Array };
  stepMs: number;
  /** Most training steps. */
  trainingSteps: number;
  seed: number;
}

export interface RefineResult {
  /** The challenger if it was promoted, else the champion. */
  weights: LstmWeights;
  /** Pinball losses on steps that neither has learnt from, over each row's mean demand; NaN if not scored. */
  challengerScore: number;
  championScore: number;
  promoted: boolean;
  /** Training steps done: early stopping may leave some of the budget. */
  trainingSteps: number;
}

/** Parts of the history by age: learnt from, watched to know when to stop, and kept for the last judgement. */
const trainPart = 0.6;
const validatePart = 0.2;
/** Fewer steps than this teach nothing that lasts. */
const minSteps = 120;
/** The challenger must be so much better over all, and better in most blocks of the judged time. */
const margin = 0.01;
const blocks = 5;
/** Training stops after so many looks without getting better. */
const stepsBetweenLooks = 25;
const patience = 4;
const peakRate = 1e-3;
/** Horizons that are judged, in steps; those that do not fit are left out. */
const judgedHorizons = [1, 5, 30, 60, 300];

/**
 * Trains the champion further on the older part of recent history and lets the two compete on the newest.
 * Deterministic for its request. Blocks its thread for seconds: the background calls it through `Refiner`.
 */
export async function refine(request: RefineRequest): Promise<RefineResult> {
  const { weights, demand, stepMs, trainingSteps, seed } = request;
  const unchanged: RefineResult = {
    weights,
    challengerScore: Number.NaN,
    championScore: Number.NaN,
    promoted: false,
    trainingSteps: 0,
  };
  if (demand.steps < minSteps || trainingSteps < 1) return unchanged;
  const series: DemandSeries = { name: 'history', stepMs, ...demand };
  const prepared = new PreparedSeries(series);
  if (prepared.mean === 0) return unchanged;
  const trainEnd = Math.floor(demand.steps * trainPart);
  const validateEnd = Math.floor(demand.steps * (trainPart + validatePart));

  await using scorer = await Scorer.open(weights.shape);
  const judge = new Judge(scorer, prepared);
  await using trainer = await Trainer.open({
    sources: [{ prepared, endStep: trainEnd, weight: 1 }],
    initial: weights,
    seed,
    batch: 32,
  });
  let challenger = weights;
  let bestLoss = sum(await judge.losses(weights, trainEnd, validateEnd));
  let sinceBest = 0;
  while (trainer.steps < trainingSteps && sinceBest < patience) {
    await trainer.step(rateAt(trainer.steps, trainingSteps, peakRate));
    if (trainer.steps % stepsBetweenLooks !== 0 && trainer.steps < trainingSteps) continue;
    const candidate = trainer.weights();
    const loss = sum(await judge.losses(candidate, trainEnd, validateEnd));
    if (loss < bestLoss) {
      bestLoss = loss;
      challenger = candidate;
      sinceBest = 0;
    } else sinceBest++;
  }
  const champion = await judge.losses(weights, validateEnd, demand.steps);
  const rival = challenger === weights ? champion : await judge.losses(challenger, validateEnd, demand.steps);
  const won = rival.filter((loss, block) => loss < champion[block]!).length;
  const promoted = sum(rival) < (1 - margin) * sum(champion) && won > blocks / 2;
  return {
    weights: promoted ? challenger : weights,
    challengerScore: sum(rival),
    championScore: sum(champion),
    promoted,
    trainingSteps: trainer.steps,
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Measures weights on a stretch of the history. */
class Judge {
  readonly #scorer: Scorer;
  readonly #prepared: PreparedSeries;
  readonly #unit: Float64Array;

  constructor(scorer: Scorer, prepared: PreparedSeries) {
    this.#scorer = scorer;
    this.#prepared = prepared;
    // Half way between every row alike and every token alike: neither the idle nor the largest row decides alone.
    this.#unit = prepared.rowMean.map((mean) => Math.sqrt(mean * prepared.mean));
  }

  /** Losses in `blocks` equal stretches of [fromStep, toStep); they add up to the mean over forecasts. */
  async losses(weights: LstmWeights, fromStep: number, toStep: number): Promise<number[]> {
    const prepared = this.#prepared;
    const longest = (toStep - fromStep) / 2;
    const horizons = judgedHorizons.filter((horizon) => horizon <= longest);
    const losses = new Array<number>(blocks).fill(0);
    let count = 0;
    await this.#scorer.forecast(weights, prepared, horizons, fromStep, toStep, (row, step, k, q50, q90) => {
      const horizon = horizons[k]!;
      if (step + horizon >= toStep || this.#unit[row] === 0) return;
      const actual = prepared.ahead(row, step, horizon);
      const block = Math.floor(((step - fromStep) * blocks) / (toStep - fromStep));
      losses[block]! += (pinball(0.5, actual, q50) + pinball(0.9, actual, q90)) / this.#unit[row]!;
      count++;
    });
    return losses.map((loss) => loss / Math.max(1, count));
  }
}
