import { Periods } from '../forecast/period.js';

const spans = [5, 10, 30, 60, 300] as const;

/** Values that a baseline can go by, in the order of `values`. */
export const baselineNames: readonly string[] = ['last', ...spans.map((span) => `ewma-${span}`), 'period'];
const kinds = baselineNames.length;

/** What a value is multiplied by to stand for a quantile. */
export const q50Factors = [0.5, 1] as const;
export const q90Factors = [1, 1.5, 2, 3] as const;

/** What people forecast with who have no model, target by target. */
export class Baselines {
  readonly #targets: number;
  readonly #stepS: number;
  readonly #last: Float64Array;
  /** Weighted sums; divided by `#weight` they are means whose weights add up to 1 from the first step on. */
  readonly #sums: Float64Array;
  readonly #weight = new Float64Array(spans.length);
  readonly #periods = new Periods();

  constructor(targets: number, stepMs: number) {
    this.#targets = targets;
    this.#stepS = stepMs / 1000;
    this.#last = new Float64Array(targets);
    this.#sums = new Float64Array(targets * spans.length);
  }

  /** @param demand tokens asked for in the step that just ended, per target */
  observe(demand: Float64Array): void {
    this.#last.set(demand);
    spans.forEach((span, s) => {
      const share = 2 / (span + 1);
      this.#weight[s]! += share * (1 - this.#weight[s]!);
      for (let target = 0; target < this.#targets; target++) {
        const at = target * spans.length + s;
        this.#sums[at]! += share * (demand[target]! - this.#sums[at]!);
      }
    });
    this.#periods.observe(demand, this.#targets);
  }

  /**
   * Each value of each target, tokens/s: `[target * baselineNames.length + value]`. A target without a rhythm
   * goes by its last value.
   * @param steps length of the horizon: the rhythm's value is the mean of as many steps one period earlier
   */
  values(steps: number): Float64Array {
    const out = new Float64Array(this.#targets * kinds);
    for (let target = 0; target < this.#targets; target++) {
      const at = target * kinds;
      out[at] = this.#last[target]! / this.#stepS;
      for (let s = 0; s < spans.length; s++)
        out[at + 1 + s] = this.#sums[target * spans.length + s]! / this.#weight[s]! / this.#stepS;
      const seasonal = this.#periods.seasonal(target, steps);
      out[at + kinds - 1] = Number.isNaN(seasonal) ? out[at]! : seasonal / this.#stepS;
    }
    return out;
  }
}
