import type { Lesson } from './curriculum.js';
import type { LstmWeights } from './model.js';
import { bestBaselines, Scorer } from './score.js';

export interface UnseenScore {
  name: string;
  horizonMs: number;
  /** Pinball at 0.5 plus at 0.9, over the mean demand of a row. */
  score: number;
  /** That of the best EWMA, last value or value one period earlier, chosen with hindsight for each level. */
  baseline: number;
  coverage90: number;
  /** For people. */
  text: string;
}

const horizonsMs = [5_000, 30_000, 300_000];

/** Scores weights on what lies behind the part of each lesson that was learnt from or watched. */
export async function scoreUnseen(
  weights: LstmWeights,
  lessons: readonly Pick<Lesson, 'name' | 'prepared' | 'validateEnd'>[],
): Promise<UnseenScore[]> {
  await using scorer = await Scorer.open(weights.shape);
  const results: UnseenScore[] = [];
  for (const { name, prepared, validateEnd } of lessons) {
    const { steps, stepMs } = prepared.series;
    const fitting = horizonsMs.filter((ms) => ms >= stepMs && ms / stepMs < (steps - validateEnd) / 2);
    const horizons = fitting.map((ms) => ms / stepMs);
    const scores = await scorer.score(weights, prepared, horizons, validateEnd);
    const baselines = bestBaselines(prepared, horizons, validateEnd, steps, true);
    scores.forEach(({ score, coverage90 }, i) => {
      const baseline = baselines[i]!;
      if (baseline === 0) return;
      const seconds = `${fitting[i]! / 1000} s`.padStart(5);
      const gain = `${(100 * (1 - score / baseline)).toFixed(1)} %`.padStart(8);
      const text = `${name.padEnd(36)} ${seconds}  pinball ${score.toFixed(3)}  baseline ${baseline.toFixed(3)}  gain ${gain}  coverage90 ${coverage90.toFixed(2)}`;
      results.push({ name, horizonMs: fitting[i]!, score, baseline, coverage90, text });
    });
  }
  return results;
}
