import { pinball } from '../learn/pinball.js';
import { baselineNames, q50Factors, q90Factors } from './baselines.js';

export interface ForecastScore {
  /** Pinball loss at 0.5 plus at 0.9, relative to the mean demand rate of a target; null where nothing was scored. */
  score: number | null;
  /** 1 − score ÷ score of the best baselines; null where they leave nothing to gain. */
  gain: number | null;
  /** Part of the forecasts of busy targets with demand ≤ q90; null where no target is busy. */
  coverage90: number | null;
}

/** The best of the baselines, q50 and q90 chosen apart, with hindsight. */
export interface BestBaselines {
  q50: string;
  q90: string;
  /** Of the two together, as `ForecastScore.score`. */
  score: number | null;
}

/** Losses of forecasters and baselines at one horizon. */
export class HorizonScore {
  /** Moments scored. */
  steps = 0;
  readonly #busy: Uint8Array;
  /** Sums of both losses over targets and steps, per forecaster. */
  readonly #loss: Float64Array;
  readonly #covered: Float64Array;
  #watched = 0;
  /** Moments after which nothing came over the horizon, per target. */
  readonly #silent: Float64Array;
  /** Part that the first forecaster covered in each span of a horizon's length, one after the other, and of the one under way. */
  readonly #spans: number[] = [];
  readonly #span = { moments: 0, watched: 0, covered: 0 };
  /** Sums of losses, `[value * factors + factor]`. */
  readonly #low = new Float64Array(baselineNames.length * q50Factors.length);
  readonly #high = new Float64Array(baselineNames.length * q90Factors.length);

  /**
   * @param busy per target, 1 where coverage counts
   * @param horizonSteps moments from one to the next whose horizons do not overlap
   */
  constructor(
    forecasters: number,
    busy: Uint8Array,
    private readonly horizonSteps: number,
  ) {
    this.#busy = busy;
    this.#silent = new Float64Array(busy.length);
    this.#loss = new Float64Array(forecasters);
    this.#covered = new Float64Array(forecasters);
  }

  /**
   * Scores one moment's forecasts, all in tokens/s.
   * @param forecasts per forecaster, q50 and q90 of each target in turn
   * @param baselines `[target * baselineNames.length + value]`
   */
  add(actual: Float64Array, forecasts: readonly Float64Array[], baselines: Float64Array): void {
    this.steps++;
    const coveredBefore = this.#covered[0] ?? 0;
    const watchedBefore = this.#watched;
    for (let target = 0; target < actual.length; target++) {
      const came = actual[target]!;
      if (came === 0) this.#silent[target]!++;
      this.#watched += this.#busy[target]!;
      forecasts.forEach((pairs, f) => {
        const high = pairs[2 * target + 1]!;
        this.#loss[f]! += pinball(0.5, came, pairs[2 * target]!) + pinball(0.9, came, high);
        if (came <= high) this.#covered[f]! += this.#busy[target]!;
      });
      for (let v = 0; v < baselineNames.length; v++) {
        const value = baselines[target * baselineNames.length + v]!;
        for (let k = 0; k < q50Factors.length; k++)
          this.#low[v * q50Factors.length + k]! += pinball(0.5, came, q50Factors[k]! * value);
        for (let k = 0; k < q90Factors.length; k++)
          this.#high[v * q90Factors.length + k]! += pinball(0.9, came, q90Factors[k]! * value);
      }
    }
    const span = this.#span;
    span.moments++;
    span.watched += this.#watched - watchedBefore;
    span.covered += (this.#covered[0] ?? 0) - coveredBefore;
    if (span.moments < this.horizonSteps) return;
    if (span.watched > 0) this.#spans.push(span.covered / span.watched);
    span.moments = span.watched = span.covered = 0;
  }

  /**
   * The least part a calibrated 0.9 quantile can cover: no quantile is below nothing, so a target that is silent for more
   * than nine tenths of all horizons is covered in all of those. Null where no target is busy.
   */
  leastCoverage90(): number | null {
    let least = 0;
    this.#silent.forEach((silent, target) => {
      least += this.#busy[target]! * Math.max(0.9 * this.steps, silent);
    });
    return this.#watched > 0 ? least / this.#watched : null;
  }

  /**
   * Standard error of the first forecaster's coverage: what happens over horizons that overlap, or to targets at once, is
   * one surprise, so it is that of the mean over spans which do not overlap. Null of fewer than two.
   */
  coverage90Error(): number | null {
    const spans = this.#spans;
    if (spans.length < 2) return null;
    const mean = spans.reduce((sum, part) => sum + part, 0) / spans.length;
    const squares = spans.reduce((sum, part) => sum + (part - mean) ** 2, 0);
    return Math.sqrt(squares / (spans.length - 1) / spans.length);
  }

  /** @param meanRate tokens/s of a target */
  result(forecaster: number, meanRate: number): ForecastScore {
    const loss = this.#loss[forecaster]!;
    const best = Math.min(...this.#low) + Math.min(...this.#high);
    return {
      score: this.#relative(loss, meanRate),
      gain: best > 0 ? 1 - loss / best : null,
      coverage90: this.#watched > 0 ? this.#covered[forecaster]! / this.#watched : null,
    };
  }

  bestBaselines(meanRate: number): BestBaselines {
    const low = Math.min(...this.#low);
    const high = Math.min(...this.#high);
    return {
      q50: nameOf(this.#low.indexOf(low), q50Factors),
      q90: nameOf(this.#high.indexOf(high), q90Factors),
      score: this.#relative(low + high, meanRate),
    };
  }

  #relative(loss: number, meanRate: number): number | null {
    const forecasts = this.steps * this.#busy.length;
    return forecasts > 0 && meanRate > 0 ? loss / forecasts / meanRate : null;
  }
}

const nameOf = (candidate: number, factors: readonly number[]): string =>
  `${baselineNames[Math.floor(candidate / factors.length)]} × ${factors[candidate % factors.length]}`;
