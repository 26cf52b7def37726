import { grown } from '../grown.js';
import { type ForecastFrame, quantileCount, quantileLevels } from './forecaster.js';
import type { LongRange } from './long-range.js';
import type { StateWalk } from './state-walk.js';

/** What the quantiles of a kind are multiplied by, as they may be too narrow or too wide. */
const factors = [0.8, 1, 1.25] as const;
/** Weight of what is blended into, before anything is known; the kinds share the rest. */
const priorOfMixture = 0.8;
/** Weight falls by e for every 1/10 by which a member's loss exceeds the best one's, as in the mixture. */
const learningRate = 10;
/** Losses count half after 230 forecasts scored. */
const decay = 0.997;
/** Horizons that have passed, one after the other, after which losses are believed half. */
const trust = 4;
/** Forecasts of a horizon that may be open at once. */
const mostOpen = 10;

/** Losses of a row's members at one horizon, `[level * members + member]`. */
interface Record {
  loss: Float64Array;
  scored: number;
}

interface Open {
  step: number;
  rows: readonly number[];
  totals: Float64Array;
  /** Per row, level and member. */
  said: Float32Array;
}

interface Horizon {
  /** Index in frames. */
  index: number;
  steps: number;
  every: number;
  open: Open[];
  records: Map<number, Record>;
}

/**
 * Blends forecasts of few rows into those of a mixture for all: a mixture of its own, so that rows without pay
 * nothing. Its members are what is in the frame, and each kind times fixed factors; weights follow the discounted
 * pinball loss, half a row's own, half that of all rows together.
 */
export class Blend {
  readonly #longRange: LongRange;
  readonly #stepS: number;
  readonly #horizons: Horizon[];
  readonly #members: number;
  readonly #said: Float32Array;
  readonly #given: Float32Array;
  readonly #beyond: Float64Array;
  #totals = new Float64Array(0);
  #since = new Float64Array(0);
  #steps = 0;

  constructor(longRange: LongRange, stepMs: number, horizonsMs: readonly number[]) {
    this.#longRange = longRange;
    this.#stepS = stepMs / 1000;
    this.#members = 1 + longRange.kinds.length * factors.length;
    this.#said = new Float32Array(quantileCount * this.#members);
    this.#given = new Float32Array(quantileCount);
    this.#beyond = new Float64Array(this.#members);
    this.#horizons = longRange.horizons.map((index) => {
      const steps = Math.max(1, Math.round(horizonsMs[index]! / stepMs));
      return { index, steps, every: Math.ceil(steps / mostOpen), open: [], records: new Map() };
    });
  }

  /** Takes in a step's demand and scores what has become due. */
  observe(demand: ArrayLike<number>, rows: number): void {
    this.#steps++;
    if (rows > this.#totals.length) {
      this.#totals = grown(this.#totals, 2 * rows);
      this.#since = grown(this.#since, 2 * rows);
    }
    for (let row = 0; row < rows; row++) this.#totals[row]! += demand[row]!;
    for (const horizon of this.#horizons)
      while (horizon.open.length > 0 && this.#steps - horizon.open[0]!.step >= horizon.steps)
        this.#score(horizon, horizon.open.shift()!);
  }

  reset(row: number): void {
    if (row < this.#since.length) this.#since[row] = this.#steps;
    for (const { records } of this.#horizons) records.delete(row);
  }

  /** See `StateWalk`; what is put back is put into a new one with the same horizons and kinds. */
  walk(walk: StateWalk): void {
    this.#steps = walk.number(this.#steps);
    if (this.#totals.length < walk.size) {
      this.#totals = grown(this.#totals, walk.size);
      this.#since = grown(this.#since, walk.size);
    }
    // What is open of rows that do not come back is no longer scored.
    if (walk.isLoading) this.#since.fill(this.#steps);
    walk.rows(this.#totals, 1);
    walk.rows(this.#since, 1);
    for (const { records, open: list } of this.#horizons) {
      walk.map(records, (record) => ({
        loss: walk.list(record?.loss ?? []),
        scored: walk.number(record?.scored ?? 0),
      }));
      const opened = walk.count(list.length, mostOpen + 1);
      for (let i = 0; i < opened; i++) {
        const { step = 0, rows = [], totals = [], said = [] } = list[i] ?? {};
        list[i] = {
          step: walk.number(step),
          rows: [...walk.list(rows)],
          totals: walk.list(totals),
          said: Float32Array.from(walk.list(said)),
        };
      }
      // Forecasts that are open belong to the numbers of their rows.
      if (!walk.inPlace) list.length = 0;
    }
  }

  /**
   * Blends into one horizon of a frame.
   * @param engines index of the first kind among the frame's engines
   */
  amend(frame: ForecastFrame, index: number, engines: number): void {
    const h = this.#horizons.findIndex((horizon) => horizon.index === index);
    if (h < 0) return;
    const horizon = this.#horizons[h]!;
    const rows = this.#longRange.rows.filter((row) => row < frame.rows);
    const width = this.#said.length;
    const isHeld = this.#steps % horizon.every === 0 && rows.length > 0;
    const held = new Float32Array(isHeld ? rows.length * width : 0);
    rows.forEach((row, i) => {
      const place = row * frame.horizonsMs.length + index;
      this.#ask(h, row, frame.quantiles, place * quantileCount);
      if (isHeld) held.set(this.#said, i * width);
      const heaviest = this.#mix(horizon, row, frame.quantiles, place * quantileCount);
      if (heaviest >= 0) frame.engine[place] = engines + heaviest;
    });
    if (isHeld)
      horizon.open.push({
        step: this.#steps,
        rows,
        totals: Float64Array.from(rows, (row) => this.#totals[row]!),
        said: held,
      });
  }

  /** Fills `said` with what each member forecasts; NaN where it has nothing. */
  #ask(h: number, row: number, mixed: Float32Array, at: number): void {
    const members = this.#members;
    for (let q = 0; q < quantileCount; q++) this.#said[q * members] = mixed[at + q]!;
    for (let k = 0; k < this.#longRange.kinds.length; k++) {
      const has = this.#longRange.write(k, h, row, this.#given, 0);
      for (let q = 0; q < quantileCount; q++)
        factors.forEach((factor, f) => {
          this.#said[q * members + 1 + k * factors.length + f] = has ? factor * this.#given[q]! : Number.NaN;
        });
    }
  }

  /** @returns the kind that did most of it; −1 where the mixture did */
  #mix(horizon: Horizon, row: number, quantiles: Float32Array, at: number): number {
    const members = this.#members;
    const shares = new Float64Array(this.#longRange.kinds.length);
    let previous = 0;
    for (let q = 0; q < quantileCount; q++) {
      const weights = this.#weigh(horizon, row, q);
      let sum = 0;
      let all = 0;
      for (let m = 0; m < members; m++) {
        const value = this.#said[q * members + m]!;
        if (Number.isNaN(value)) continue;
        sum += weights[m]! * value;
        all += weights[m]!;
      }
      for (let m = 1; m < members; m++)
        if (!Number.isNaN(this.#said[q * members + m]!))
          shares[Math.floor((m - 1) / factors.length)]! += weights[m]! / all;
      // The mixture never lacks, but beside members that are far better its weight is nothing: if they lack now, it is all there is.
      previous = Math.max(previous, all > 0 ? sum / all : this.#said[q * members]!);
      quantiles[at + q] = previous;
    }
    const most = shares.indexOf(Math.max(...shares));
    return shares.reduce((a, b) => a + b, 0) > quantileCount / 2 ? most : -1;
  }

  /** Weights of a level's members, not summing to 1. */
  #weigh({ records, steps, every }: Horizon, row: number, q: number): Float64Array {
    const members = this.#members;
    const first = q * members;
    const beyond = this.#beyond.fill(0);
    const own = records.get(row);
    const ownPart = own ? 0.5 : 0;
    // Overlapping horizons tell little more than one.
    let passed = 0;
    if (records.size > 0) {
      const pooled = new Float64Array(members);
      for (const { loss, scored } of records.values()) {
        passed += (scored * every) / steps;
        const scale = loss[first]!;
        if (scale > 0) for (let m = 0; m < members; m++) pooled[m]! += loss[first + m]! / scale;
      }
      addExcess(pooled, 0, members, 1 - ownPart, beyond);
      if (own) addExcess(own.loss, first, members, ownPart, beyond);
      passed /= records.size;
    }
    const belief = learningRate * (passed / (passed + trust));
    const share = (1 - priorOfMixture) / (members - 1);
    for (let m = 0; m < members; m++) beyond[m] = (m === 0 ? priorOfMixture : share) * Math.exp(-belief * beyond[m]!);
    return beyond;
  }

  #score(horizon: Horizon, open: Open): void {
    const members = this.#members;
    const seconds = (this.#steps - open.step) * this.#stepS;
    open.rows.forEach((row, i) => {
      if (this.#since[row]! >= open.step) return;
      const actual = (this.#totals[row]! - open.totals[i]!) / seconds;
      let record = horizon.records.get(row);
      if (!record) {
        record = { loss: new Float64Array(quantileCount * members), scored: 0 };
        horizon.records.set(row, record);
      }
      record.scored++;
      const rate = Math.max(1 - decay, 1 / record.scored);
      for (let q = 0; q < quantileCount; q++)
        for (let m = 0; m < members; m++) {
          const at = q * members + m;
          const said = open.said[i * quantileCount * members + at]!;
          // Whoever said nothing is taken to have said what the mixture did.
          const miss = actual - (Number.isNaN(said) ? open.said[i * quantileCount * members + q * members]! : said);
          const loss = (quantileLevels[q]! - 0.5) * miss + 0.5 * Math.abs(miss);
          record.loss[at]! += rate * (loss - record.loss[at]!);
        }
    });
  }
}

/** Adds a part of what each loss is above the least, relative to it. */
function addExcess(losses: Float64Array, from: number, members: number, part: number, to: Float64Array): void {
  let best = Number.POSITIVE_INFINITY;
  for (let m = 0; m < members; m++) best = Math.min(best, losses[from + m]!);
  for (let m = 0; m < members; m++)
    to[m]! += part * (best > 0 ? losses[from + m]! / best - 1 : losses[from + m]! > 0 ? 2 : 0);
}
