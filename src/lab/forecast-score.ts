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
  /** Sums of losses, `[value * factors + factor]`. */
  readonly #low = new Float64Array(baselineNames.length * q50Factors.length);
  readonly #high = new Float64Array(baselineNames.length * q90Factors.length);

  /** @param busy per target, 1 where coverage counts */
  constructor(forecasters: number, busy: Uint8Array) {
    this.#busy = busy;
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
    for (let target = 0; target < actual.length; target++) {
      const came = actual[target]!;
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
