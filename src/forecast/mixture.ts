import { type ForecastFrame, quantileCount, quantileLevels } from './forecaster.js';
import { Periods } from './period.js';

/** Spans of the moving averages, steps; 1 is the last value. */
export const ewmaSpans = [1, 2, 5, 10, 30, 60, 300] as const;
const seasonalBase = ewmaSpans.length;
const baseCount = seasonalBase + 1;
/** What a base is multiplied by to stand for a quantile, per level. */
const factors: readonly (readonly number[])[] = [
  [0, 0.5, 1],
  [0, 0.5, 1, 1.5],
  [0.5, 1, 1.25, 1.5, 2, 3],
  [1, 1.5, 2, 3, 5],
  [1.5, 2, 3, 5, 8],
];

/** Weight falls by e for every 1/10 by which a member's loss exceeds the best one's. */
const learningRate = 10;
/** A loss counts half after 138 scored forecasts. */
const decay = 0.995;
/** Own losses count as much as those of all rows together once a row has this many. */
const ownTrust = 20;
/** Forecasts of a horizon that may be open at once; longer horizons are scored every so many steps. */
const mostPending = 10;
/**
 * In a large table a row's weights are set anew with every so many scored forecasts only, rows in turn: losses
 * move by half a per cent a time, and the exponentials are half of the cost.
 */
const weighEvery = (rows: number): number => (rows > 1024 ? 4 : 1);

interface Level {
  /** First member of this level within a horizon's block of members. */
  from: number;
  count: number;
  base: Uint8Array;
  factor: Float64Array;
}

interface Open {
  /** Steps seen when it was made. */
  step: number;
  rows: number;
  total: Float64Array;
  bases: Float32Array;
  externals: (Float32Array | undefined)[];
  quantiles: Float32Array;
  engine: Uint8Array;
}

interface Horizon {
  steps: number;
  /** Scored every so many steps. */
  every: number;
  open: Open[];
  spare: Open[];
  pooled: Float64Array;
  /** Parts by the losses of all rows alone: those of a row that has not been scored yet. */
  common: Float32Array;
}

/** A forecast whose horizon has passed, row by row; arrays hold until the next call. */
export interface Resolved {
  horizon: number;
  /** Steps since it was made. */
  steps: number;
  rows: number;
  quantiles: Float32Array;
  engine: Uint8Array;
  /** Mean demand per second that came. */
  actual: Float64Array;
}

/**
 * A mixture per row, horizon and quantile level over moving averages times fixed factors, the demand one
 * period earlier, and the quantiles of other forecasters. Weights fall exponentially with the discounted
 * pinball loss, relative to the best member, half by the row's own losses and half by those of all rows
 * (Herbster & Warmuth's exponential weights with discounting). The pinball loss is least where a level covers
 * what it should, so the weights calibrate too. Tracking coverage on top of that (Gibbs & Candès, Adaptive
 * Conformal Inference, 2021) was tried and made most forecasts worse, by up to a tenth: horizons overlap, so that
 * one surprise moves a row's level many times.
 *
 * About 4 KiB per row ever used and horizon.
 */
export class Mixture {
  readonly #stepS: number;
  readonly #horizons: Horizon[];
  readonly #externals: number;
  readonly #levels: Level[] = [];
  readonly #members: number;
  readonly #periods = new Periods();
  readonly #useSeasonal: boolean;
  #steps = 0;
  #rows = 0;
  #average = new Float64Array(0);
  #total = new Float64Array(0);
  /** Mean demand rate of a row, to make losses of rows comparable. */
  #scale = new Float64Array(0);
  #since = new Uint32Array(0);
  #lastActive = new Int32Array(0);
  #own = new Float32Array(0);
  #ownCount = new Float32Array(0);
  /**
   * Part of each base (its factors folded in) and of each external in a level's forecast, per row, horizon
   * and level: `[...bases, ...externals, part of the classical members]`.
   */
  #part = new Float32Array(0);
  #actual = new Float64Array(0);
  readonly #pool: Float64Array;
  #base = new Float32Array(0);
  readonly #excess: Float64Array;
  /** By which part each member's pooled loss exceeds the best one's of its level, for the horizon at hand. */
  readonly #pooledExcess: Float64Array;
  readonly #parts: number;

  constructor(options: { stepMs: number; horizonsMs: readonly number[]; externals: number; seasonal?: boolean }) {
    this.#stepS = options.stepMs / 1000;
    this.#externals = options.externals;
    this.#useSeasonal = options.seasonal ?? true;
    let from = 0;
    for (let q = 0; q < quantileCount; q++) {
      const base: number[] = [];
      const factor: number[] = [];
      for (let b = 0; b < baseCount; b++)
        for (const f of factors[q]!) {
          // One member that always says nothing is enough.
          if (f === 0 && b > 0) continue;
          base.push(b);
          factor.push(f);
        }
      const count = base.length + this.#externals;
      this.#levels.push({ from, count, base: Uint8Array.from(base), factor: Float64Array.from(factor) });
      from += count;
    }
    this.#members = from;
    this.#parts = baseCount + this.#externals + 1;
    this.#pool = new Float64Array(this.#members);
    this.#excess = new Float64Array(Math.max(...this.#levels.map((level) => level.count)));
    this.#pooledExcess = new Float64Array(this.#members);
    this.#horizons = options.horizonsMs.map((horizonMs) => {
      const steps = Math.max(1, Math.round(horizonMs / options.stepMs));
      return {
        steps,
        every: Math.max(1, Math.ceil(steps / mostPending)),
        open: [],
        spare: [],
        pooled: new Float64Array(this.#members),
        common: new Float32Array(quantileCount * this.#parts),
      };
    });
    for (const horizon of this.#horizons) this.#weighPooled(horizon);
  }

  reset(row: number): void {
    if (row >= this.#since.length) return;
    const blocks = this.#horizons.length * this.#members;
    this.#average.fill(0, row * ewmaSpans.length, (row + 1) * ewmaSpans.length);
    this.#own.fill(0, row * blocks, (row + 1) * blocks);
    this.#ownCount.fill(0, row * this.#horizons.length, (row + 1) * this.#horizons.length);
    this.#scale[row] = 0;
    this.#since[row] = this.#steps;
    this.#lastActive[row] = -1;
    this.#periods.reset(row);
  }

  /** Takes in a step's demand, tokens per row, and scores what has become due. */
  observe(demand: ArrayLike<number>, rows: number, onResolved?: (resolved: Resolved) => void): void {
    this.#grow(rows);
    this.#rows = Math.max(this.#rows, rows);
    this.#steps++;
    for (let row = 0; row < rows; row++) {
      const value = demand[row]!;
      this.#total[row]! += value;
      if (value > 0) this.#lastActive[row] = this.#steps;
      else if (this.#lastActive[row]! < 0) continue;
      const rate = value / this.#stepS;
      const age = this.#steps - this.#since[row]!;
      const at = row * ewmaSpans.length;
      for (let s = 0; s < ewmaSpans.length; s++)
        // While a row is younger than a span, its average is the plain one: it would else take a span to start.
        this.#average[at + s]! += Math.max(2 / (ewmaSpans[s]! + 1), 1 / age) * (rate - this.#average[at + s]!);
      this.#scale[row]! += Math.max(1 / 600, 1 / age) * (rate - this.#scale[row]!);
    }
    if (this.#useSeasonal) this.#periods.observe(demand, rows);
    this.#horizons.forEach((horizon, h) => {
      while (horizon.open.length > 0 && this.#steps - horizon.open[0]!.step >= horizon.steps) {
        const open = horizon.open.shift()!;
        this.#score(horizon, h, open, onResolved);
        horizon.spare.push(open);
      }
    });
  }

  /**
   * Fills a frame from the end of the last observed step.
   * @param externals quantiles of other forecasters in the frame's layout; undefined where one has none now
   */
  predict(rows: number, externals: readonly (Float32Array | undefined)[], frame: ForecastFrame): void {
    const { quantiles, engine } = frame;
    frame.rows = rows;
    const count = this.#horizons.length;
    this.#horizons.forEach((horizon, h) => {
      const values = this.#bases(horizon, rows);
      for (let row = 0; row < rows; row++) {
        const at = (row * count + h) * quantileCount;
        if (this.#lastActive[row]! < 0) {
          quantiles.fill(0, at, at + quantileCount);
          engine[row * count + h] = 0;
          continue;
        }
        this.#mix(h, row, values, externals, quantiles, at, engine, row * count + h);
      }
      // Horizons take turns, so that no step pays for all of them.
      if ((this.#steps + h) % horizon.every === 0) this.#hold(horizon, h, rows, values, externals, frame);
    });
  }

  /** Discounted mean loss of each kind of member over all rows: moving averages, period, others; per horizon. */
  scores(): { horizonSteps: number; classical: number; seasonal: number; externals: number[] }[] {
    return this.#horizons.map((horizon) => {
      const best = { classical: 0, seasonal: 0, externals: new Array<number>(this.#externals).fill(0) };
      for (const level of this.#levels) {
        let classical = Number.POSITIVE_INFINITY;
        let seasonal = Number.POSITIVE_INFINITY;
        for (let m = 0; m < level.base.length; m++) {
          const loss = horizon.pooled[level.from + m]!;
          if (level.base[m] === seasonalBase) seasonal = Math.min(seasonal, loss);
          else classical = Math.min(classical, loss);
        }
        best.classical += classical;
        best.seasonal += seasonal;
        for (let e = 0; e < this.#externals; e++)
          best.externals[e]! += horizon.pooled[level.from + level.base.length + e]!;
      }
      return { horizonSteps: horizon.steps, ...best };
    });
  }

  /** Rate each base stands for, per row: averages, then the demand one period earlier. */
  #bases(horizon: Horizon, rows: number): Float32Array {
    if (this.#base.length < rows * baseCount) this.#base = new Float32Array(rows * baseCount * 2);
    const base = this.#base;
    for (let row = 0; row < rows; row++) {
      const from = row * ewmaSpans.length;
      for (let s = 0; s < ewmaSpans.length; s++) base[row * baseCount + s] = this.#average[from + s]!;
      const seasonal = this.#useSeasonal ? this.#periods.seasonal(row, horizon.steps) : Number.NaN;
      base[row * baseCount + seasonalBase] = Number.isNaN(seasonal)
        ? this.#average[from + seasonalBase - 1]!
        : seasonal / this.#stepS;
    }
    return base;
  }

  #mix(
    h: number,
    row: number,
    values: Float32Array,
    externals: readonly (Float32Array | undefined)[],
    quantiles: Float32Array,
    at: number,
    engine: Uint8Array,
    engineAt: number,
  ): void {
    const own = row * this.#horizons.length + h;
    const fresh = this.#ownCount[own] === 0;
    const part = fresh ? this.#horizons[h]!.common : this.#part;
    const parts = this.#parts;
    const first = fresh ? 0 : own * quantileCount * parts;
    const base = row * baseCount;
    let previous = 0;
    let externalPart = 0;
    let heaviest = 0;
    let heaviestExternal = 0;
    for (let q = 0; q < quantileCount; q++) {
      const from = first + q * parts;
      let sum = 0;
      for (let b = 0; b < baseCount; b++) sum += part[from + b]! * values[base + b]!;
      let present = part[from + parts - 1]!;
      for (let e = 0; e < this.#externals; e++) {
        const external = externals[e];
        if (!external) continue;
        const share = part[from + baseCount + e]!;
        sum += share * external[at + q]!;
        present += share;
        externalPart += share;
        if (share > heaviest) {
          heaviest = share;
          heaviestExternal = e;
        }
      }
      // Where the members with all the weight are absent, the last value stands in.
      const value = present > 1e-6 ? sum / present : values[base]!;
      if (value > previous) previous = value;
      quantiles[at + q] = previous;
    }
    engine[engineAt] = externalPart > quantileCount / 2 ? 1 + heaviestExternal : 0;
  }

  #hold(
    horizon: Horizon,
    h: number,
    rows: number,
    values: Float32Array,
    externals: readonly (Float32Array | undefined)[],
    frame: ForecastFrame,
  ): void {
    const count = this.#horizons.length;
    let open = horizon.spare.pop();
    if (!open || open.total.length < rows)
      open = {
        step: 0,
        rows: 0,
        total: new Float64Array(this.#total.length),
        bases: new Float32Array(this.#total.length * baseCount),
        externals: Array.from({ length: this.#externals }, () => undefined),
        quantiles: new Float32Array(this.#total.length * quantileCount),
        engine: new Uint8Array(this.#total.length),
      };
    open.step = this.#steps;
    open.rows = rows;
    open.total.set(this.#total.subarray(0, rows));
    open.bases.set(values.subarray(0, rows * baseCount));
    for (let row = 0; row < rows; row++) {
      open.engine[row] = frame.engine[row * count + h]!;
      for (let q = 0; q < quantileCount; q++)
        open.quantiles[row * quantileCount + q] = frame.quantiles[(row * count + h) * quantileCount + q]!;
    }
    for (let e = 0; e < this.#externals; e++) {
      const external = externals[e];
      if (!external) {
        open.externals[e] = undefined;
        continue;
      }
      const kept = open.externals[e] ?? new Float32Array(this.#total.length * quantileCount);
      for (let row = 0; row < rows; row++)
        for (let q = 0; q < quantileCount; q++)
          kept[row * quantileCount + q] = external[(row * count + h) * quantileCount + q]!;
      open.externals[e] = kept;
    }
    horizon.open.push(open);
  }

  #score(horizon: Horizon, h: number, open: Open, onResolved?: (resolved: Resolved) => void): void {
    const seconds = (this.#steps - open.step) * this.#stepS;
    const count = this.#horizons.length;
    const { pooled } = horizon;
    const own = this.#own;
    const { bases } = open;
    const pool = this.#pool.fill(0);
    let pooledRows = 0;
    if (this.#actual.length < open.rows) this.#actual = new Float64Array(open.rows * 2);
    for (let row = 0; row < open.rows; row++) {
      const actual = (this.#total[row]! - open.total[row]!) / seconds;
      this.#actual[row] = actual;
      // A row that was given to another target meanwhile, or never had any demand, teaches nothing.
      if (this.#lastActive[row]! < 0 || this.#since[row]! > open.step) continue;
      const block = (row * count + h) * this.#members;
      const scale = this.#scale[row]!;
      const perScale = scale > 0 ? 1 / scale : 0;
      if (scale > 0) pooledRows++;
      const rowBases = row * baseCount;
      for (let q = 0; q < quantileCount; q++) {
        // The pinball loss at τ of a miss is (τ − ½)·miss + ½·|miss|: without a branch, which would be a coin toss.
        const lean = quantileLevels[q]! - 0.5;
        const { from, base, factor } = this.#levels[q]!;
        const classicalMembers = base.length;
        let classical = 0;
        let at = block + from;
        for (let m = 0; m < classicalMembers; m++, at++) {
          const miss = actual - factor[m]! * bases[rowBases + base[m]!]!;
          const loss = lean * miss + 0.5 * Math.abs(miss);
          classical += loss;
          const before = own[at]!;
          own[at] = before + (1 - decay) * (loss - before);
          pool[from + m]! += loss * perScale;
        }
        for (let e = 0; e < this.#externals; e++, at++) {
          const external = open.externals[e];
          // Whoever had no forecast counts as a middling one: neither punished for it nor preferred.
          let loss = classical / classicalMembers;
          if (external) {
            const miss = actual - external[row * quantileCount + q]!;
            loss = lean * miss + 0.5 * Math.abs(miss);
          }
          const before = own[at]!;
          own[at] = before + (1 - decay) * (loss - before);
          pool[from + classicalMembers + e]! += loss * perScale;
        }
      }
      this.#ownCount[row * count + h]!++;
    }
    if (pooledRows > 0)
      for (let m = 0; m < this.#members; m++) pooled[m]! += poolRate * (pool[m]! / pooledRows - pooled[m]!);
    const turns = weighEvery(open.rows);
    const turn = Math.floor(this.#steps / horizon.every) % turns;
    this.#weighPooled(horizon);
    for (let row = 0; row < open.rows; row++) {
      if (this.#lastActive[row]! < 0 || this.#since[row]! > open.step) continue;
      // The first few weigh at once: they change everything.
      const place = row * count + h;
      const seen = this.#ownCount[place]!;
      if (row % turns === turn || seen < 2 * turns)
        this.#weigh(place * this.#members, seen, this.#part, place * quantileCount * this.#parts);
    }
    onResolved?.({
      horizon: h,
      steps: this.#steps - open.step,
      rows: open.rows,
      quantiles: open.quantiles,
      engine: open.engine,
      actual: this.#actual,
    });
  }

  /** What of the weights is the same for every row; call before `#weigh` of a horizon's rows. */
  #weighPooled({ pooled, common }: Horizon): void {
    for (const { from, count } of this.#levels) {
      let best = Number.POSITIVE_INFINITY;
      for (let m = from; m < from + count; m++) if (pooled[m]! < best) best = pooled[m]!;
      for (let m = from; m < from + count; m++) this.#pooledExcess[m] = relative(pooled[m]!, best);
    }
    this.#weigh(0, 0, common, 0);
  }

  /**
   * @param block where the row's own losses begin
   * @param seen how often the row has been scored
   * @param part where the parts go, from `to` on
   */
  #weigh(block: number, seen: number, part: Float32Array, to: number): void {
    const ownPart = (0.5 * seen) / (seen + ownTrust);
    const pooledPart = 1 - ownPart;
    const own = this.#own;
    const parts = this.#parts;
    const excess = this.#excess;
    const pooledExcess = this.#pooledExcess;
    for (let q = 0; q < quantileCount; q++) {
      const { from, count: members, base, factor } = this.#levels[q]!;
      let best = Number.POSITIVE_INFINITY;
      if (seen > 0) for (let m = block + from; m < block + from + members; m++) if (own[m]! < best) best = own[m]!;
      const perBest = best > 0 ? 1 / best : 0;
      let least = Number.POSITIVE_INFINITY;
      for (let m = 0; m < members; m++) {
        let beyond = pooledPart * pooledExcess[from + m]!;
        if (seen > 0) {
          const loss = own[block + from + m]!;
          beyond += ownPart * (best > 0 ? loss * perBest - 1 : relative(loss, best));
        }
        excess[m] = beyond;
        if (beyond < least) least = beyond;
      }
      const at = to + q * parts;
      for (let i = 0; i < parts; i++) part[at + i] = 0;
      let all = 0;
      let classical = 0;
      for (let m = 0; m < members; m++) {
        const beyond = learningRate * (excess[m]! - least);
        if (beyond > mostBeyond) continue;
        const weight = expOfMinus(beyond);
        all += weight;
        if (m < base.length) {
          classical += weight;
          part[at + base[m]!]! += weight * factor[m]!;
        } else part[at + baseCount + m - base.length]! += weight;
      }
      part[at + parts - 1] = classical;
      const perAll = 1 / all;
      for (let i = 0; i < parts; i++) part[at + i]! *= perAll;
    }
  }

  #grow(rows: number): void {
    const had = this.#since.length;
    if (rows <= had) return;
    const size = Math.max(rows, had * 2);
    const blocks = this.#horizons.length * this.#members;
    this.#average = grown(this.#average, size * ewmaSpans.length);
    this.#total = grown(this.#total, size);
    this.#scale = grown(this.#scale, size);
    this.#own = grown(this.#own, size * blocks);
    this.#part = grown(this.#part, size * this.#horizons.length * quantileCount * this.#parts);
    this.#ownCount = grown(this.#ownCount, size * this.#horizons.length);
    const since = new Uint32Array(size).fill(this.#steps);
    since.set(this.#since);
    this.#since = since;
    const active = new Int32Array(size).fill(-1);
    active.set(this.#lastActive);
    this.#lastActive = active;
    if (this.#useSeasonal) this.#periods.grow(size);
  }
}

/** How fast the losses of all rows are averaged, per step. */
const poolRate = 0.02;

/** By which part a loss exceeds the best; where the best is perfect, any loss is far off. */
const relative = (loss: number, best: number): number => (best > 0 ? loss / best - 1 : loss > 0 ? 2 : 0);

/** e to the minus this: beyond it a member says nothing. */
const mostBeyond = 12;
/**
 * e^-x for x from 0 to 12, within 5e-4 of itself at the far end and 1e-7 below 2: Taylor's cubic at x/128, squared
 * seven times. A third of what `Math.exp` costs, and weights are most of a step's exponentials.
 */
function expOfMinus(x: number): number {
  const z = x / 128;
  let value = 1 - z * (1 - z * (0.5 - z * (1 / 6)));
  value *= value;
  value *= value;
  value *= value;
  value *= value;
  value *= value;
  value *= value;
  return value * value;
}

function grown<T extends Float64Array | Float32Array>(array: T, size: number): T {
  const bigger = new (array.constructor as new (size: number) => T)(size);
  bigger.set(array as never);
  return bigger;
}
