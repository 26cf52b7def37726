import type { PreparedSeries } from './dataset.js';
import { type LstmWeights, warmSteps } from './model.js';
import { pinball } from './pinball.js';
import type { Scorer, Visit } from './score.js';

/** Horizons that are judged, in steps; those that do not fit are left out. All count alike. */
const judgedHorizons = [1, 5, 30, 60];
/** A stretch is cut into blocks of at least so many steps, and at most so many blocks. */
const leastBlockSteps = 12;
const mostBlocks = 24;
/** A challenger must save so much of the champion's loss. */
const margin = 0.01;

/** Loss per horizon and block of time. */
export type Losses = readonly Float64Array[];

/** How far a challenger's losses are below a champion's. */
export interface Comparison {
  /** Part of the champion's loss that is saved; negative if there is more loss instead. */
  gain: number;
  /** Standard error of that part over the blocks. */
  error: number;
  /** By more than the margin, and more than chance gives in one case of twenty. */
  wins: boolean;
}

/** Compares block by block: losses of neighbouring steps hang together, those of blocks hardly. */
export function compare(champion: Losses, challenger: Losses): Comparison {
  const blocks = champion[0]?.length ?? 0;
  const saved = new Float64Array(blocks);
  let horizons = 0;
  champion.forEach((losses, k) => {
    const unit = losses.reduce((sum, loss) => sum + loss, 0) / blocks;
    if (!(unit > 0)) return;
    horizons++;
    for (let i = 0; i < blocks; i++) saved[i]! += (losses[i]! - challenger[k]![i]!) / unit;
  });
  if (horizons === 0 || blocks < 2) return { gain: 0, error: Number.POSITIVE_INFINITY, wins: false };
  const gain = saved.reduce((sum, value) => sum + value, 0) / blocks / horizons;
  const squares = saved.reduce((sum, value) => sum + (value / horizons - gain) ** 2, 0);
  const error = Math.sqrt(squares / (blocks - 1) / blocks);
  return { gain, error, wins: gain > margin && gain > oneInTwenty(blocks - 1) * error };
}

/** About the 95th percentile of Student's t: 2.3 at 3 degrees of freedom, 1.8 at 11, 1.65 at many. */
const oneInTwenty = (degrees: number): number => 1.645 + 2 / degrees;

/** Measures weights on a stretch of history that nobody learns from. */
export class Judge {
  readonly #scorer: Scorer;
  readonly #prepared: PreparedSeries;
  readonly #fromStep: number;
  readonly #horizons: readonly number[];
  readonly #blocks: number;
  readonly #unit: Float64Array;

  /** @param fromStep the stretch goes from here to the end of the series */
  constructor(scorer: Scorer, prepared: PreparedSeries, fromStep: number) {
    this.#scorer = scorer;
    this.#prepared = prepared;
    this.#fromStep = fromStep;
    const steps = prepared.series.steps - fromStep;
    this.#horizons = judgedHorizons.filter((horizon) => horizon <= steps / 3);
    this.#blocks = 2 * Math.floor(Math.min(mostBlocks, steps / leastBlockSteps) / 2);
    // Nearly as tokens count, the largest row a little less: it would else decide alone.
    this.#unit = prepared.rowMean.map((mean) => prepared.mean * (mean / prepared.mean) ** 0.25);
  }

  /** Blocks take turns: every other one is for choosing among candidates, those between for judging the chosen. */
  async losses(weights: LstmWeights): Promise<{ choosing: Losses; judging: Losses }> {
    const prepared = this.#prepared;
    const fromStep = this.#fromStep;
    const { steps } = prepared.series;
    const losses = this.#horizons.map(() => new Float64Array(this.#blocks));
    const visit: Visit = (row, step, k, q50, q90) => {
      const horizon = this.#horizons[k]!;
      if (step + horizon >= steps || !(prepared.rowMean[row]! > 0)) return;
      const actual = prepared.ahead(row, step, horizon);
      const block = Math.floor(((step - fromStep) * this.#blocks) / (steps - fromStep));
      losses[k]![block]! += (pinball(0.5, actual, q50) + pinball(0.9, actual, q90)) / this.#unit[row]!;
    };
    const start = Math.max(0, fromStep - warmSteps);
    await this.#scorer.forecast(weights, prepared, this.#horizons, fromStep, steps, visit, start);
    const everyOther = (first: number) => losses.map((blocks) => blocks.filter((_, i) => i % 2 === first));
    return { choosing: everyOther(0), judging: everyOther(1) };
  }
}
