import { quantileCount } from '../forecast/forecaster.js';
import { grown } from '../grown.js';

/** Steps: a forecast says what comes next, this what is to be reckoned with for a while. */
const span = 30;

/** Moving averages of each slot's forecast quantiles, tokens a step. */
export class UsualQuantiles {
  /** By slot and level: `[slot * quantileCount + level]`. */
  #mean = new Float64Array(0);
  #known = new Uint8Array(0);

  /** Takes in the quantiles of a step, `quantiles[from + level]`; those of the first are all there is to average. */
  take(slot: number, quantiles: ArrayLike<number>, from: number): void {
    const share = this.#known[slot] ? 2 / (span + 1) : 1;
    this.#known[slot] = 1;
    for (let level = 0, at = slot * quantileCount; level < quantileCount; level++, at++)
      this.#mean[at]! += share * (quantiles[from + level]! - this.#mean[at]!);
  }

  at(slot: number, level: number): number {
    return this.#mean[slot * quantileCount + level]!;
  }

  reset(slot: number): void {
    if (slot < this.#known.length) this.#known[slot] = 0;
  }

  grow(slots: number): void {
    this.#mean = grown(this.#mean, slots * quantileCount);
    this.#known = grown(this.#known, slots);
  }
}
