import { grown } from '../grown.js';
import { Calibration } from './calibration.js';
import { Combination, standIns } from './combination.js';
import { type ForecastFrame, quantileCount } from './forecaster.js';
import { awakeNow, type Draw, Sleepers } from './sleepers.js';
import type { StateWalk } from './state-walk.js';
import { baseCount, Streams } from './streams.js';
import { ownRate, Weights } from './weights.js';

export { ewmaSpans } from './streams.js';

/** Forecasts of a horizon that may be open at once; longer horizons are scored every so many steps. */
const mostPending = 10;
/**
 * In a table of more rows each is scored in every fourth step only, a quarter of them at a time: spans that begin so
 * close to one another tell much the same.
 */
const manyRows = 1024;
const turnsOf = (rows: number): number => (rows > manyRows ? 4 : 1);
/** More rows than any table has. */
const mostRows = 2 ** 31;
/** Rows that count among all rows in one scoring. */
const mostPooled = 512;
/** The rows that count so in one turn or another. */
const drawOf = (rows: number): Draw => {
  const first = turnsOf(rows);
  return { every: first * Math.ceil(rows / first / mostPooled), first };
};
/** The first row whose turn it is in a step. */
const firstOf = (step: number, every: number, turns: number): number => Math.floor(step / every) % turns;
/** The rows that count among all in one turn, in order. */
class Pooled {
  readonly #first: number;
  readonly #every: number;
  readonly count: number;

  constructor(rows: number, first: number) {
    this.#first = first;
    this.#every = drawOf(rows).every;
    this.count = Math.max(0, Math.ceil((rows - first) / this.#every));
  }

  /** The row's place among them; −1: it is none of them. */
  indexOf(row: number): number {
    const beyond = row - this.#first;
    return beyond >= 0 && beyond % this.#every === 0 ? beyond / this.#every : -1;
  }
}
/**
 * A row that had demand in this part of the recent steps is steady, others are sparse. Each kind is calibrated by its own:
 * sparse rows burst out of silence, their quantiles are far more often too low, and what mends them would widen those of all.
 * A row calibrates if so many steps with demand are to be expected within the horizon: to cover silence is no merit.
 */
const leastActivity = 0.1;
/** Kinds of rows that are calibrated apart; see `leastActivity`. */
const steady = 0;
const sparse = 1;
const neither = 255;

/** Forecasts that wait for what comes. Arrays have an entry for every row; those of the turn that are awake are filled. */
interface Open {
  /** Steps seen when they were made. */
  step: number;
  rows: number;
  turns: number;
  /** First row of the turn. */
  first: number;
  total: Float64Array;
  context: Uint8Array;
  /** The kind of row it calibrates; `neither` if it is too young or had demand too rarely. */
  kind: Uint8Array;
  bases: Float32Array;
  externals: (Float32Array | undefined)[];
  /** What was combined for the rows that count among all, as in `Combination`. */
  said: Float32Array;
  /** Quantiles before calibration. */
  raw: Float32Array;
  quantiles: Float32Array;
  engine: Uint8Array;
}

interface Horizon {
  steps: number;
  /** Scored every so many steps. */
  every: number;
  weights: Weights;
  /** Of the weights' forecasts with the externals' own, if there are any. */
  combination: Combination | undefined;
  open: Open[];
  spare: Open[];
}

/**
 * Forecasts whose horizon has passed, of the rows listed, ascending; other rows' entries are left over from earlier.
 * Arrays hold until the next call.
 */
export interface Resolved {
  horizon: number;
  /** Steps since they were made. */
  steps: number;
  rows: readonly number[];
  quantiles: Float32Array;
  engine: Uint8Array;
  /** Mean demand per second that came. */
  actual: Float64Array;
}

/**
 * A mixture per row, horizon and quantile level: moving averages, the demand one period earlier and Holt-Winters,
 * times fixed factors, and the quantiles of other forecasters, weighted by `Weights`, set against the other forecasters
 * by `Combination` and corrected by `Calibration`.
 *
 * About 3 KiB per row ever used and horizon.
 *
 * Rows that nobody asks under sleep, see `Sleepers`: nothing is forecast for them, and a step costs each a look at whether
 * it is asked for. What a row has learnt stays; when it wakes, its averages and losses fade at once by what they would have
 * faded step by step, and its forecasts that would be open were of nothing. From then on it is forecast as if it had never
 * slept: within a hundredth in the first minute, within a ten-thousandth later. Forecasts of rows that stay awake are the same
 * to the bit, as long as the table does not grow while they sleep, and within a millionth where it does.
 */
export class Mixture {
  readonly #stepS: number;
  readonly #horizons: Horizon[];
  readonly #externals: number;
  readonly #streams: Streams;
  readonly #sleepers: Sleepers;
  /** Of steady and of sparse rows. */
  readonly #calibrations: readonly [Calibration, Calibration];
  #base = new Float32Array(0);
  #raw = new Float32Array(0);
  #context = new Uint8Array(0);
  #actual = new Float64Array(0);
  /** What is combined for the rows that count among all, one after another. */
  #said = new Float32Array(0);
  readonly #values = new Float64Array(quantileCount);
  readonly #classical = new Float64Array(quantileCount);

  constructor(options: {
    stepMs: number;
    horizonsMs: readonly number[];
    externals: number;
    seasonal?: boolean;
    /** See `Sleepers`. Default true. */
    sleeps?: boolean;
  }) {
    this.#stepS = options.stepMs / 1000;
    this.#externals = options.externals;
    this.#streams = new Streams(options.stepMs, options.seasonal ?? true);
    this.#horizons = options.horizonsMs.map((horizonMs) => {
      const steps = Math.max(1, Math.round(horizonMs / options.stepMs));
      const every = Math.max(1, Math.ceil(steps / mostPending));
      const combination = options.externals > 0 ? new Combination(options.externals, steps, every) : undefined;
      return { steps, every, weights: new Weights(options.externals), combination, open: [], spare: [] };
    });
    const steps = this.#horizons.map((horizon) => horizon.steps);
    this.#calibrations = [new Calibration(steps), new Calibration(steps)];
    this.#sleepers = new Sleepers(Math.max(...steps), options.sleeps ?? true);
  }

  reset(row: number): void {
    if (row >= this.#streams.size) return;
    this.#streams.reset(row);
    for (const { weights } of this.#horizons) weights.reset(row);
    for (const calibration of this.#calibrations) calibration.reset(row);
  }

  /** Takes over what another of the same horizons and members knows of a row. Between steps. */
  adopt(other: Mixture, from: number, row: number): void {
    if (from >= other.#streams.size) return;
    this.#grow(row + 1);
    if (this.#sleepers.asleepSince[row]! >= 0) this.#openNothing(row);
    this.#sleepers.asleepSince[row] = awakeNow;
    this.#streams.adopt(other.#streams, from, row);
    this.#horizons.forEach(({ weights }, h) => void weights.adopt(other.#horizons[h]!.weights, from, row));
  }

  /** Whether a row has ever been asked under. */
  knows(row: number): boolean {
    return row < this.#streams.size && this.#streams.lastActive[row]! >= 0;
  }

  /** See `StateWalk`. Between steps; what is put back is put into a new one of the same horizons and members. */
  walk(walk: StateWalk): void {
    this.#streams.steps = walk.number(this.#streams.steps);
    this.#grow(walk.size);
    this.#streams.walk(walk);
    this.#sleepers.walk(walk);
    for (const calibration of this.#calibrations) calibration.walk(walk);
    for (const horizon of this.#horizons) {
      horizon.weights.walk(walk);
      horizon.combination?.walk(walk);
      this.#walkOpen(walk, horizon);
    }
  }

  /** Forecasts that are open belong to the numbers of their rows: where some have others now, they are given up. */
  #walkOpen(walk: StateWalk, horizon: Horizon): void {
    const { open: list, combination } = horizon;
    const count = walk.count(list.length, mostPending + 1);
    const length = quantileCount * (combination?.members ?? 0);
    for (let i = 0; i < count; i++) {
      const open = this.#roomy(list[i] ?? this.#newOpen());
      list[i] = open;
      open.step = walk.number(open.step);
      open.rows = walk.count(open.rows, mostRows);
      open.turns = walk.count(open.turns, turnsOf(mostRows));
      open.first = walk.count(open.first, open.turns);
      const turn = { every: open.turns, first: open.first };
      const said = new Pooled(open.rows, open.first).count * length;
      if (open.said.length < said) open.said = new Float32Array(said);
      walk.whole(open.said.subarray(0, said));
      for (const values of [open.total, open.context, open.kind, open.engine]) walk.rows(values, 1, turn);
      walk.rows(open.bases, baseCount, turn);
      for (const values of [open.raw, open.quantiles]) walk.rows(values, quantileCount, turn);
      for (let e = 0; e < this.#externals; e++) {
        const has = walk.number(open.externals[e] ? 1 : 0) === 1;
        const external = has ? (open.externals[e] ?? new Float32Array(open.raw.length)) : undefined;
        open.externals[e] = external;
        if (external) walk.rows(external, quantileCount, turn);
      }
    }
    walk.afterwards(() => {
      if (!walk.inPlace) list.length = 0;
    });
  }

  /**
   * Takes in a step's demand, tokens per row, and scores what has become due.
   * @param kept rows that stay awake, because `amend` changes what is forecast for them; ascending
   */
  observe(
    demand: ArrayLike<number>,
    rows: number,
    onResolved?: (resolved: Resolved) => void,
    kept: readonly number[] = [],
  ): void {
    this.#grow(rows);
    const { steps, lastActive } = this.#streams;
    this.#sleepers.rouse(steps + 1, demand, rows, lastActive, drawOf(rows), kept, (row, since) => {
      this.#openNothing(row);
      if (lastActive[row]! >= 0) this.#catchUp(row, since, turnsOf(rows));
    });
    this.#streams.observe(demand, rows, this.#sleepers.awake);
    this.#horizons.forEach((horizon, h) => {
      while (horizon.open.length > 0 && this.#streams.steps - horizon.open[0]!.step >= horizon.steps) {
        const open = horizon.open.shift()!;
        this.#score(h, open, onResolved);
        horizon.spare.push(open);
      }
    });
  }

  /**
   * Fills a frame from the end of the last observed step.
   * @param externals quantiles of other forecasters in the frame's layout; undefined, or NaN for a row, where one
   * has none now
   * @param frame the one of the step before, or zeros: places of rows that sleep are left as they are
   * @param amend told when a horizon of the frame is filled; what it changes is what is resolved later
   */
  predict(
    rows: number,
    externals: readonly (Float32Array | undefined)[],
    frame: ForecastFrame,
    amend?: (horizon: number) => void,
  ): void {
    frame.rows = rows;
    const { lastActive } = this.#streams;
    const given = Array.from({ length: this.#externals }, (_, e) => externals[e]);
    const { awake } = this.#sleepers;
    for (const row of awake) if (lastActive[row]! >= 0) this.#context[row] = this.#streams.contextOf(row);
    this.#horizons.forEach((horizon, h) => {
      this.#mix(h, rows, given, frame);
      amend?.(h);
      // Horizons take turns, so that no step pays for all of them.
      if ((this.#streams.steps + h) % horizon.every === 0) this.#hold(horizon, h, rows, given, frame);
    });
  }

  /** Discounted mean loss over all rows of the best moving average, of the period, of each external; per horizon. */
  scores(): { horizonSteps: number; classical: number; seasonal: number; externals: number[] }[] {
    return this.#horizons.map(({ steps, weights }) => ({ horizonSteps: steps, ...weights.scores() }));
  }

  /** Forecasts of all rows at one horizon; `engine` tells what did most: 0 the classical forecasters, 1 and up an external. */
  #mix(h: number, rows: number, externals: readonly (Float32Array | undefined)[], frame: ForecastFrame): void {
    const { quantiles, engine } = frame;
    const horizons = this.#horizons.length;
    const { steps: ahead, every, weights, combination } = this.#horizons[h]!;
    const streams = this.#streams;
    const { lastActive, activity } = streams;
    const excesses = this.#calibrations.map((calibration) => calibration.excess);
    const bases = this.#base;
    const raw = this.#raw;
    const values = this.#values;
    const patient = rows > manyRows;
    const pooled = new Pooled(rows, firstOf(streams.steps, every, turnsOf(rows)));
    const length = quantileCount * (combination?.members ?? 0);
    const needed = pooled.count * length;
    if (this.#said.length < needed) this.#said = new Float32Array(needed);
    const said = this.#said;
    const verdicts = combination?.verdicts(externals);
    const heard = standIns(externals);
    const { awake, asleepSince } = this.#sleepers;
    for (let i = 0; i < awake.length; i++) {
      const row = awake[i]!;
      const place = row * horizons + h;
      const at = place * quantileCount;
      const index = combination ? pooled.indexOf(row) : -1;
      if (lastActive[row]! < 0 || asleepSince[row]! >= 0) {
        for (let q = 0; q < quantileCount; q++) quantiles[at + q] = 0;
        if (index >= 0) said.fill(0, index * length, (index + 1) * length);
        engine[place] = 0;
        continue;
      }
      const base = row * baseCount;
      streams.write(row, ahead, bases, base);
      const most = weights.mix(row, this.#context[row]!, patient, bases, base, externals, at, values, this.#classical);
      engine[place] = verdicts ? verdicts[most]! : most;
      if (combination) {
        if (index >= 0) combination.gather(values, this.#classical, heard, at, said, index * length);
        combination.combine(values, this.#classical, heard, at);
      }
      const rawAt = row * quantileCount;
      const excess = excesses[kindOf(activity[row]!)]!;
      let previous = 0;
      let corrected = 0;
      for (let q = 0; q < quantileCount; q++) {
        const value = values[q]!;
        if (value > previous) previous = value;
        raw[rawAt + q] = previous;
        const calibrated = previous + previous * excess[at + q]!;
        if (calibrated > corrected) corrected = calibrated;
        quantiles[at + q] = corrected;
      }
    }
  }

  #hold(
    horizon: Horizon,
    h: number,
    rows: number,
    externals: readonly (Float32Array | undefined)[],
    frame: ForecastFrame,
  ): void {
    const count = this.#horizons.length;
    const { size, steps, total, since, activity } = this.#streams;
    const leastAge = this.#calibrations[steady].leastAge(h);
    const least = leastActivity / horizon.steps;
    let open = horizon.spare.pop();
    if (!open || open.total.length < size) open = this.#newOpen();
    open.step = steps;
    open.rows = rows;
    open.turns = turnsOf(rows);
    open.first = firstOf(steps, horizon.every, open.turns);
    const length = quantileCount * (horizon.combination?.members ?? 0);
    const pooled = new Pooled(rows, open.first).count * length;
    if (open.said.length < pooled) open.said = new Float32Array(pooled);
    open.said.set(this.#said.subarray(0, pooled));
    open.externals = externals.map(
      (external, e) => external && (open.externals[e] ?? new Float32Array(size * quantileCount)),
    );
    const { awake } = this.#sleepers;
    for (let i = 0; i < awake.length; i++) {
      const row = awake[i]!;
      if (row % open.turns !== open.first) continue;
      open.total[row] = total[row]!;
      open.context[row] = this.#context[row]!;
      const calibrates = steps - since[row]! > leastAge && activity[row]! >= least;
      open.kind[row] = calibrates ? kindOf(activity[row]!) : neither;
      open.engine[row] = frame.engine[row * count + h]!;
      for (let b = row * baseCount; b < (row + 1) * baseCount; b++) open.bases[b] = this.#base[b]!;
      const to = row * quantileCount;
      const from = (row * count + h) * quantileCount;
      for (let q = 0; q < quantileCount; q++) {
        open.raw[to + q] = this.#raw[to + q]!;
        open.quantiles[to + q] = frame.quantiles[from + q]!;
      }
      for (let e = 0; e < externals.length; e++) {
        const external = externals[e];
        const kept = open.externals[e];
        if (!external || !kept) continue;
        for (let q = 0; q < quantileCount; q++) kept[to + q] = external[from + q]!;
      }
    }
    horizon.open.push(open);
  }

  /** Forecasts that were made before the table grew, with room for the rows there are. */
  #roomy(open: Open): Open {
    const { size } = this.#streams;
    if (open.total.length >= size) return open;
    return {
      ...open,
      total: grown(open.total, size),
      context: grown(open.context, size),
      kind: grown(open.kind, size),
      bases: grown(open.bases, size * baseCount),
      externals: open.externals.map((external) => external && grown(external, size * quantileCount)),
      raw: grown(open.raw, size * quantileCount),
      quantiles: grown(open.quantiles, size * quantileCount),
      engine: grown(open.engine, size),
    };
  }

  #newOpen(): Open {
    const { size } = this.#streams;
    return {
      step: 0,
      rows: 0,
      turns: 1,
      first: 0,
      total: new Float64Array(size),
      context: new Uint8Array(size),
      kind: new Uint8Array(size),
      bases: new Float32Array(size * baseCount),
      externals: [],
      said: new Float32Array(0),
      raw: new Float32Array(size * quantileCount),
      quantiles: new Float32Array(size * quantileCount),
      engine: new Uint8Array(size),
    };
  }

  #score(h: number, open: Open, onResolved?: (resolved: Resolved) => void): void {
    const { steps, total, scale, since, lastActive } = this.#streams;
    const seconds = (steps - open.step) * this.#stepS;
    const { rows, first, turns } = open;
    const { every, weights, combination } = this.#horizons[h]!;
    const rate = ownRate(turns);
    const pooled = new Pooled(rows, first);
    const length = quantileCount * (combination?.members ?? 0);
    const resolved: number[] = [];
    const { awake } = this.#sleepers;
    for (let i = 0; i < awake.length; i++) {
      const row = awake[i]!;
      if (row >= rows) break;
      if (row % turns !== first) continue;
      resolved.push(row);
      const actual = (total[row]! - open.total[row]!) / seconds;
      this.#actual[row] = actual;
      // A row that was given to another target meanwhile, or never had any demand, teaches nothing.
      if (lastActive[row]! < 0 || since[row]! >= open.step) continue;
      const index = pooled.indexOf(row);
      if (index >= 0) combination?.score(actual, scale[row]!, open.said, index * length, open.raw, row * quantileCount);
      weights.score(
        row,
        open.context[row]!,
        actual,
        scale[row]!,
        open.bases,
        row * baseCount,
        open.externals,
        row * quantileCount,
        rate,
        index >= 0,
      );
      this.#calibrations[open.kind[row]!]?.score(h, row, actual, open.raw, row * quantileCount, every * turns, steps);
    }
    weights.endScoring();
    combination?.endScoring();
    for (const calibration of this.#calibrations) calibration.endScoring(h, every, steps);
    onResolved?.({
      horizon: h,
      steps: steps - open.step,
      rows: resolved,
      quantiles: open.quantiles,
      engine: open.engine,
      actual: this.#actual,
    });
  }

  /** A row that slept has open forecasts too: nothing, of each. */
  #openNothing(row: number): void {
    for (const { open, combination } of this.#horizons)
      for (const forecasts of open) {
        if (row >= forecasts.rows || row % forecasts.turns !== forecasts.first) continue;
        forecasts.total[row] = this.#streams.total[row]!;
        forecasts.context[row] = 0;
        forecasts.kind[row] = neither;
        forecasts.engine[row] = 0;
        forecasts.bases.fill(0, row * baseCount, (row + 1) * baseCount);
        for (const quantiles of [forecasts.raw, forecasts.quantiles, ...forecasts.externals])
          quantiles?.fill(0, row * quantileCount, (row + 1) * quantileCount);
        const index = new Pooled(forecasts.rows, forecasts.first).indexOf(row);
        const length = quantileCount * (combination?.members ?? 0);
        if (index >= 0) forecasts.said.fill(0, index * length, (index + 1) * length);
      }
  }

  /** Lets what a row knows fade by the steps it slept, from one to the last that was. */
  #catchUp(row: number, since: number, turns: number): void {
    const { steps } = this.#streams;
    this.#streams.fade(row, steps - since);
    this.#horizons.forEach(({ steps: ahead, every, weights }, h) => {
      // Forecasts are made in steps that are a multiple of `every` and `offset`, those of a row in every so manyth of them,
      // and scored a horizon later: see `predict` and `#hold`.
      const offset = (every - (h % every)) % every;
      const turnBy = (step: number): number => Math.floor((step - ahead - offset) / every);
      const scoringsBy = (step: number): number => Math.floor((turnBy(step) - (row % turns)) / turns);
      const now = scoringsBy(steps);
      weights.fade(row, now - scoringsBy(since), turns, turnBy(steps) - now * turns - (row % turns));
    });
  }

  #grow(rows: number): void {
    const had = this.#streams.size;
    if (rows <= had) return;
    const size = Math.max(rows, had * 2);
    this.#sleepers.grow(size, this.#streams.steps);
    this.#streams.grow(size);
    for (const { weights } of this.#horizons) weights.grow(size);
    for (const calibration of this.#calibrations) calibration.grow(size);
    this.#base = new Float32Array(size * baseCount);
    this.#raw = new Float32Array(size * quantileCount);
    this.#context = new Uint8Array(size);
    this.#actual = new Float64Array(size);
  }
}

const kindOf = (activity: number): typeof steady | typeof sparse => (activity >= leastActivity ? steady : sparse);
