import { generatedLessons } from './curriculum.js';
import { type DemandSeries, PreparedSeries } from './dataset.js';
import { compare, Judge } from './gate.js';
import type { LstmWeights } from './model.js';
import { Scorer } from './score.js';
import { rateAt, Trainer } from './trainer.js';

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
  promoted: boolean;
  /** Part of the champion's loss that the challenger saved on the steps kept for judging; NaN if nothing was judged. */
  gain: number;
  /** Standard error of the gain. */
  error: number;
  /** Training steps done: early stopping may leave some of the budget. */
  trainingSteps: number;
}

/** The older part of the history is learnt from; the newer is for choosing and judging, in turn. */
const trainPart = 0.65;
/** With fewer steps too few blocks are left to judge by. */
export const minSteps = 280;
/** Training stops after so many looks without getting better. */
const stepsBetweenLooks = 25;
const patience = 4;
const peakRate = 1e-3;
/**
 * Generated workloads that are learnt from along with the history, drawn half as often: minutes of history alone
 * would be learnt by heart (on one of 14 minutes that cost half of the accuracy; with these it gained).
 */
const rehearsed = 4;
const rehearsedSteps = 800;
const rehearsedWeight = 0.5;
/**
 * Ways from the champion towards what training reached that are tried. Half way is often better than all the way,
 * and forgets less of what was learnt elsewhere (Wortsman et al., Robust fine-tuning, 2022).
 */
const shares = [1, 0.5];

/**
 * Trains the champion further on the older part of recent history and lets the best of what came of it compete with
 * the champion on the newer. Deterministic for its request. Blocks its thread for seconds: the background calls it
 * through `Refiner`.
 */
export async function refine(request: RefineRequest): Promise<RefineResult> {
  const { weights, demand, stepMs, trainingSteps, seed } = request;
  const unchanged = { weights, promoted: false, gain: Number.NaN, error: Number.NaN, trainingSteps: 0 };
  if (demand.steps < minSteps || trainingSteps < 1) return unchanged;
  const series: DemandSeries = { name: 'history', stepMs, ...demand };
  const prepared = new PreparedSeries(series);
  if (prepared.mean === 0) return unchanged;
  const trainEnd = Math.floor(demand.steps * trainPart);

  await using scorer = await Scorer.open(weights.shape);
  const judge = new Judge(scorer, prepared, trainEnd);
  const rehearsal = generatedLessons(rehearsed, [stepMs], seed, rehearsedSteps);
  await using trainer = await Trainer.open({
    sources: [
      { prepared, endStep: trainEnd, weight: 1 },
      ...rehearsal.map((lesson) => ({
        prepared: lesson.prepared,
        endStep: rehearsedSteps,
        weight: rehearsedWeight / rehearsed,
      })),
    ],
    initial: weights,
    seed,
    batch: 32,
  });
  const champion = await judge.losses(weights);
  let challenger = { weights, losses: champion, gain: 0 };
  let sinceBest = 0;
  while (trainer.steps < trainingSteps && sinceBest < patience) {
    await trainer.step(rateAt(trainer.steps, trainingSteps, peakRate));
    if (trainer.steps % stepsBetweenLooks !== 0 && trainer.steps < trainingSteps) continue;
    sinceBest++;
    for (const share of shares) {
      const candidate = partOfTheWay(weights, trainer.weights(), share);
      const losses = await judge.losses(candidate);
      const { gain } = compare(champion.choosing, losses.choosing);
      if (gain <= challenger.gain) continue;
      challenger = { weights: candidate, losses, gain };
      sinceBest = 0;
    }
  }
  const { gain, error, wins } = compare(champion.judging, challenger.losses.judging);
  return {
    weights: wins ? challenger.weights : weights,
    promoted: wins,
    gain,
    error,
    trainingSteps: trainer.steps,
  };
}

const partOfTheWay = (from: LstmWeights, to: LstmWeights, share: number): LstmWeights => ({
  ...to,
  values: from.values.map((value, i) => value + share * (to.values[i]! - value)),
});
