import { quantileCount, quantileLevels } from '../forecast/forecaster.js';
import type { StateWalk } from '../forecast/state-walk.js';
import { grown } from '../grown.js';
import { type Comparison, compare } from './gate.js';
import { pinball } from './pinball.js';

/** Rows watched at most, evenly spread: enough to tell two models apart, and a step stays cheap. */
const mostRows = 512;
/** Forecasts of a horizon that may be open at once; longer horizons are scored every so many steps. */
const mostOpen = 10;
/** Steps a block; losses of neighbouring blocks hardly hang together. */
const blockSteps = 30;
/** Blocks that count: the last half hour of 1 s steps. */
const mostBlocks = 60;
/** Fewer blocks prove nothing. */
const leastBlocks = 6;
/** Ways from what the shipped model says to what the refined one says that are scored. */
const mixes = [0, 0.5, 1] as const;
/** Loss this many steps ago counts e times less when mixes are weighed. */
const memorySteps = 500;
/** A mix counts e times less for each of so much loss, as a part of the least of all. */
const tolerance = 0.02;
const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);

/** What two models said at a step, of the rows watched. */
interface Open {
  step: number;
  every: number;
  totals: Float64Array;
  /** Per model, q50 and q90 of each watched row in turn. */
  said: [Float32Array, Float32Array];
}

interface Horizon {
  steps: number;
  every: number;
  open: Open[];
  /** Discounted loss of each mix. */
  losses: Float64Array;
  /** Loss of each mix in the block under way. */
  now: Float64Array;
  /** Losses of blocks, per mix. */
  past: number[][];
}

/**
 * Two models run side by side and are scored on what really comes: the one that ships and the one that was refined, or
 * that and its challenger. What was learnt by heart or holds no longer shows, and no history has to be kept from training
 * for it.
 */
export class LiveWatch {
  readonly #stepS: number;
  readonly #horizons: Horizon[];
  #totals = new Float64Array(0);
  #steps = 0;

  constructor(options: { stepMs: number; horizonsMs: readonly number[] }) {
    this.#stepS = options.stepMs / 1000;
    this.#horizons = options.horizonsMs.map((horizonMs) => {
      const steps = Math.max(1, Math.round(horizonMs / options.stepMs));
      return {
        steps,
        every: Math.ceil(steps / mostOpen),
        open: [],
        losses: new Float64Array(mixes.length),
        now: new Float64Array(mixes.length),
        past: mixes.map(() => []),
      };
    });
  }

  /**
   * Another refined model runs from now on. What the one before did tells how far it is to be trusted at first, but is
   * no ground to withdraw it; forecasts that are open were the old one's.
   */
  restart(): void {
    for (const horizon of this.#horizons) {
      horizon.open = [];
      horizon.now.fill(0);
      horizon.past = mixes.map(() => []);
    }
    this.#steps = 0;
  }

  /**
   * Takes in a step.
   * @param demand tokens of the step that ended, per row
   * @param shipped,refined quantiles at its end, laid out as in a frame
   */
  step(demand: ArrayLike<number>, rows: number, shipped: Float32Array, refined: Float32Array): void {
    this.#steps++;
    if (this.#totals.length < rows) this.#totals = grown(this.#totals, rows * 2);
    for (let row = 0; row < rows; row++) this.#totals[row]! += demand[row]!;
    this.#horizons.forEach((horizon, h) => {
      while (horizon.open.length > 0 && this.#steps - horizon.open[0]!.step >= horizon.steps)
        this.#score(horizon, horizon.open.shift()!);
      if (this.#steps % horizon.every === 0) this.#hold(horizon, h, rows, shipped, refined);
      if (this.#steps % blockSteps === 0) closeBlock(horizon);
    });
  }

  /** See `StateWalk`; what is put back is put into a new one of the same horizons. */
  walk(walk: StateWalk): void {
    this.#steps = walk.number(this.#steps);
    if (this.#totals.length < walk.size) this.#totals = grown(this.#totals, walk.size);
    walk.rows(this.#totals, 1);
    for (const horizon of this.#horizons) {
      walk.whole(horizon.losses);
      walk.whole(horizon.now);
      horizon.past = horizon.past.map((losses) => [...walk.list(losses)]);
      const { open: list } = horizon;
      const count = walk.count(list.length, mostOpen + 1);
      for (let i = 0; i < count; i++) {
        const open = list[i];
        const length = walk.count(open?.totals.length ?? 0, mostRows);
        list[i] = {
          step: walk.number(open?.step ?? 0),
          every: walk.number(open?.every ?? 0),
          totals: open?.totals ?? new Float64Array(length),
          said: open?.said ?? [new Float32Array(2 * length), new Float32Array(2 * length)],
        };
        for (const values of [list[i]!.totals, ...list[i]!.said]) walk.whole(values);
      }
      walk.afterwards(() => {
        // Forecasts that are open belong to the numbers of their rows.
        if (!walk.inPlace) list.length = 0;
        // Rows nobody had any more begin anew.
        for (const { every, totals, said } of list)
          for (let i = 0; i < totals.length; i++) {
            if (walk.has(i * every)) continue;
            totals[i] = 0;
            for (const quantiles of said) quantiles.fill(0, 2 * i, 2 * i + 2);
          }
      });
    }
  }

  /**
   * How far to go from the shipped model's quantiles to those of the refined one, 0 to 1: the mean of the mixes, each
   * weighted by its recent loss. A mix is often better than either, as their errors differ.
   */
  refinedShare(horizon: number): number {
    const { losses } = this.#horizons[horizon]!;
    const least = Math.max(Number.MIN_VALUE, Math.min(...losses));
    let weights = 0;
    let share = 0;
    mixes.forEach((mix, m) => {
      const weight = Math.exp((1 - losses[m]! / least) / tolerance);
      weights += weight;
      share += weight * mix;
    });
    return share / weights;
  }

  /** Recent loss of the best mix at each horizon. */
  bestLosses(): number[] {
    return this.#horizons.map(({ losses }) => Math.min(...losses));
  }

  /**
   * How the shipped model fares against the mix half way to the refined one; where it wins, the refined one is of no
   * use and to be withdrawn.
   */
  verdict(): Comparison {
    const known = this.#horizons.filter((horizon) => horizon.past[0]!.length >= leastBlocks);
    const blocks = Math.min(...known.map((horizon) => horizon.past[0]!.length));
    const last = (mix: number) => known.map((horizon) => Float64Array.from(horizon.past[mix]!.slice(-blocks)));
    return compare(last(1), last(0));
  }

  #hold(horizon: Horizon, h: number, rows: number, shipped: Float32Array, refined: Float32Array): void {
    const every = Math.ceil(rows / mostRows);
    const count = Math.ceil(rows / every);
    const totals = new Float64Array(count);
    const said: Open['said'] = [new Float32Array(2 * count), new Float32Array(2 * count)];
    for (let i = 0; i < count; i++) {
      const at = (i * every * this.#horizons.length + h) * quantileCount;
      totals[i] = this.#totals[i * every]!;
      [shipped, refined].forEach((quantiles, model) => {
        said[model]![2 * i] = quantiles[at + q50]!;
        said[model]![2 * i + 1] = quantiles[at + q90]!;
      });
    }
    horizon.open.push({ step: this.#steps, every, totals, said });
  }

  #score(horizon: Horizon, open: Open): void {
    const seconds = horizon.steps * this.#stepS;
    const [shipped, refined] = open.said;
    const keep = Math.exp(-horizon.every / memorySteps);
    for (let m = 0; m < mixes.length; m++) {
      let loss = 0;
      const between = (i: number) => shipped[i]! + mixes[m]! * (refined[i]! - shipped[i]!);
      open.totals.forEach((before, i) => {
        const actual = (this.#totals[i * open.every]! - before) / seconds;
        loss += pinball(0.5, actual, between(2 * i)) + pinball(0.9, actual, between(2 * i + 1));
      });
      horizon.losses[m] = horizon.losses[m]! * keep + loss;
      horizon.now[m]! += loss;
    }
  }
}

function closeBlock(horizon: Horizon): void {
  horizon.past.forEach((losses, m) => {
    losses.push(horizon.now[m]!);
    if (losses.length > mostBlocks) losses.shift();
  });
  horizon.now.fill(0);
}
