import { grown } from '../grown.js';
import { forgetAfterSteps } from './features.js';
import type { StateWalk } from './state-walk.js';

/**
 * Steps without demand, beyond the longest horizon, after which a row sleeps. By then the LSTM has forgotten it, and the
 * slowest of the averages that forecasts start from is below a millionth of what it was.
 */
export const sleepAfterSteps = 2 * forgetAfterSteps;

/** In place of the step since when a row sleeps. */
export const awakeNow = -1;

/** Which rows teach all others: those whose number leaves less than `first` when divided by `every`. */
export interface Draw {
  every: number;
  first: number;
}

/**
 * Decides which rows take part in a step. A row sleeps when nobody ever asked under it, or nobody has for so long that
 * what is forecast for it is nothing; its next demand wakes it. Rows that teach all others stay awake, so that no
 * forecast of another changes when one sleeps; so do those that somebody else still has a forecast for.
 */
export class Sleepers {
  readonly #idleSteps: number;
  readonly #longest: number;
  /** Step up to which the state of a row that sleeps goes; `awakeNow`: it is awake. */
  asleepSince = new Int32Array(0);
  #awake = new Uint32Array(0);
  #count = 0;
  #every = 0;
  #drawnAt = 0;

  /**
   * @param longest steps of the longest horizon
   * @param sleeps false: only rows under which nobody ever asked
   */
  constructor(longest: number, sleeps: boolean) {
    this.#longest = longest;
    this.#idleSteps = sleeps ? sleepAfterSteps + longest : Number.POSITIVE_INFINITY;
  }

  /** Rows that take part in this step, ascending. Those that have just fallen asleep are among them, for the last time. */
  get awake(): Uint32Array {
    return this.#awake.subarray(0, this.#count);
  }

  grow(size: number, step: number): void {
    const since = new Int32Array(size).fill(step);
    since.set(this.asleepSince);
    this.asleepSince = since;
    this.#awake = grown(this.#awake, size);
  }

  walk(walk: StateWalk): void {
    this.#every = walk.number(this.#every);
    this.#drawnAt = walk.number(this.#drawnAt);
    walk.rows(this.asleepSince, 1);
  }

  /**
   * Finds the rows that take part in a step.
   * @param step it
   * @param lastActive step of each row's last demand before it; −1: none
   * @param kept rows that others have forecasts for, ascending
   * @param woken told of a row that wakes, and of the step up to which its state goes
   */
  rouse(
    step: number,
    demand: ArrayLike<number>,
    rows: number,
    lastActive: Int32Array,
    { every, first }: Draw,
    kept: readonly number[],
    woken: (row: number, since: number) => void,
  ): void {
    const since = this.asleepSince;
    const isRedrawn = every !== this.#every;
    if (isRedrawn) this.#drawnAt = step;
    this.#every = every;
    // Forecasts made while others were drawn teach too: until they are scored, whoever is awake stays so.
    const maySleep = step - this.#drawnAt > this.#longest;
    const longAgo = step - this.#idleSteps;
    let count = 0;
    let k = 0;
    for (let row = 0; row < rows; row++) {
      while (k < kept.length && kept[k]! < row) k++;
      const slept = since[row]!;
      const last = lastActive[row]!;
      if (slept >= 0) {
        const isDrawn = isRedrawn && last >= 0 && row % every < first;
        if (!(demand[row]! > 0) && !isDrawn && kept[k] !== row) continue;
        since[row] = awakeNow;
        woken(row, slept);
      } else if (
        !(demand[row]! > 0) &&
        kept[k] !== row &&
        (last < 0 || (last < longAgo && maySleep && row % every >= first))
      )
        since[row] = step;
      this.#awake[count++] = row;
    }
    this.#count = count;
  }
}
