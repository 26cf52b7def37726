import type { StateWalk } from '../forecast/state-walk.js';
import type { LstmWeights } from './model.js';
import { LiveWatch } from './watch.js';

/** Steps that a challenger runs beside the champion before one of them is chosen, if no other challenger comes sooner. */
const mostSteps = 240;
/** A challenger is chosen after fewer, from these on, if it saves more than this part of the loss: it would grow old. */
const leastSteps = 60;
const clearGain = 0.01;

/**
 * A refined model runs beside what serves, unheard, on steps that neither has seen. Models serve mixed with the one that
 * ships, so each is judged by the best mix with that.
 */
export class Trial {
  readonly weights: LstmWeights;
  /** Of the shipped model and the challenger. */
  readonly challenger: LiveWatch;
  /** Of the shipped model and the refined one that serves, or the shipped alone. */
  readonly #champion: LiveWatch;
  /** Steps taken in so far. */
  steps = 0;

  constructor(weights: LstmWeights, options: { stepMs: number; horizonsMs: readonly number[] }) {
    this.weights = weights;
    this.challenger = new LiveWatch(options);
    this.#champion = new LiveWatch(options);
  }

  /** Takes in a step: see `LiveWatch`. */
  step(
    demand: ArrayLike<number>,
    rows: number,
    shipped: Float32Array,
    champion: Float32Array,
    challenger: Float32Array,
  ): void {
    this.steps++;
    this.#champion.step(demand, rows, shipped, champion);
    this.challenger.step(demand, rows, shipped, challenger);
  }

  /** See `StateWalk`. */
  walk(walk: StateWalk): void {
    this.steps = walk.number(this.steps);
    this.#champion.walk(walk);
    this.challenger.walk(walk);
  }

  get isOver(): boolean {
    return this.steps >= mostSteps || (this.steps >= leastSteps && this.gain() > clearGain);
  }

  /** Part of the loss of what serves that the challenger would have saved, mean over horizons; NaN if there was none. */
  gain(): number {
    const champion = this.#champion.bestLosses();
    const known = [...champion.keys()].filter((horizon) => champion[horizon]! > 0);
    const challenger = this.challenger.bestLosses();
    return known.reduce((sum, horizon) => sum + 1 - challenger[horizon]! / champion[horizon]!, 0) / known.length;
  }
}
