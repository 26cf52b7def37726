import { ewmaFeature } from '../forecast/features.js';
import type { Lesson } from './curriculum.js';
import { type LstmWeights, type ModelShape, warmSteps } from './model.js';
import { bestBaselines, Scorer } from './score.js';
import { initialWeights, rateAt, Trainer } from './trainer.js';

export interface TrainProgress {
  step: number;
  steps: number;
  /** Mean training loss since the last report. */
  loss: number;
  /**
   * Pinball loss on the watched steps over that of the best fixed EWMA, mean over lessons and horizons: below 1 is
   * better than what hindsight would have chosen there.
   */
  validation: number;
  best: boolean;
}

export interface TrainOptions {
  lessons: readonly Lesson[];
  shape: ModelShape;
  /** Most training steps. */
  steps: number;
  seed: number;
  /** Where to start from. Default: random weights. */
  initial?: LstmWeights;
  /** Learning rate at its height. Default 4e-3. */
  rate?: number;
  /** Steps between two validations. Default a sixteenth of all, so that patience ends no training that only has to slow down. */
  every?: number;
  /** Validations without getting better after which training stops. Default 5. */
  patience?: number;
  onProgress?: (progress: TrainProgress) => void;
  /** After each training step. */
  onStep?: (step: number) => void;
}

export interface TrainResult {
  weights: LstmWeights;
  validation: number;
  curve: { step: number; loss: number; validation: number }[];
}

/** Horizons watched, steps. */
const watched = [1, 5, 30, 150];

/** Trains; returns the weights of the best validation, and its course. The same options give the same weights. */
export async function train(options: TrainOptions): Promise<TrainResult> {
  const {
    lessons,
    shape,
    steps,
    seed,
    rate = 4e-3,
    every = Math.ceil(steps / 16),
    patience = 5,
    onProgress,
    onStep,
  } = options;
  await using scorer = await Scorer.open(shape);
  const validate = validator(scorer, lessons);
  await using trainer = await Trainer.open({
    sources: lessons.map(({ prepared, trainEnd, weight }) => ({ prepared, endStep: trainEnd, weight })),
    initial: options.initial ?? initialWeights(shape, seed, ewmaFeature),
    seed: seed + 1,
  });
  let best = { weights: trainer.weights(), validation: Number.POSITIVE_INFINITY };
  const curve: TrainResult['curve'] = [];
  let sinceBest = 0;
  let loss = 0;
  while (trainer.steps < steps && sinceBest < patience) {
    loss += await trainer.step(rateAt(trainer.steps, steps, rate));
    onStep?.(trainer.steps);
    if (trainer.steps % every !== 0 && trainer.steps < steps) continue;
    const candidate = { weights: trainer.weights(), validation: 0 };
    candidate.validation = await validate(candidate.weights);
    const isBest = candidate.validation < best.validation;
    sinceBest = isBest ? 0 : sinceBest + 1;
    if (isBest) best = candidate;
    const since = trainer.steps % every || every;
    curve.push({ step: trainer.steps, loss: loss / since, validation: candidate.validation });
    onProgress?.({ step: trainer.steps, steps, loss: loss / since, validation: candidate.validation, best: isBest });
    loss = 0;
  }
  return { ...best, curve };
}

function validator(scorer: Scorer, lessons: readonly Lesson[]): (weights: LstmWeights) => Promise<number> {
  const judged = lessons.flatMap((lesson) => {
    const { prepared, trainEnd, validateEnd } = lesson;
    const horizons = watched.filter((horizon) => horizon <= (validateEnd - trainEnd) / 3);
    const baselines = bestBaselines(prepared, horizons, trainEnd, validateEnd);
    // A lesson that is silent while watched says nothing.
    return baselines.every((baseline) => baseline > 0) && horizons.length > 0
      ? [{ ...lesson, horizons, baselines }]
      : [];
  });
  return async (weights) => {
    let total = 0;
    for (const { prepared, trainEnd, validateEnd, horizons, baselines } of judged) {
      const start = Math.max(0, trainEnd - warmSteps);
      const scores = await scorer.score(weights, prepared, horizons, trainEnd, validateEnd, start);
      total += scores.reduce((sum, { score }, i) => sum + score / baselines[i]!, 0) / scores.length;
    }
    return total / Math.max(1, judged.length);
  };
}
