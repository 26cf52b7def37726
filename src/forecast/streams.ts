import { grown } from '../grown.js';
import { Periods } from './period.js';
import type { StateWalk } from './state-walk.js';

/** Spans of the moving averages, steps; 1 is the last value. */
export const ewmaSpans = [1, 2, 5, 10, 30, 60, 300] as const;
export const seasonalBase = ewmaSpans.length;
export const holtWintersBase = seasonalBase + 1;
/** Values a forecast can start from: averages, the demand one period earlier, Holt-Winters. */
export const baseCount = holtWintersBase + 1;

/** What a row has just done: nothing; no more than usual; more. Forecasters are trusted by what they did in each. */
export const contexts = 3;
/** Usual is the average of this index. */
const usual = 4;

/** Holt-Winters' smoothing of level and trend per step, and the damping that keeps a trend from running away. */
const levelRate = 0.3;
const trendRate = 0.1;
const damping = 0.98;

/**
 * What is known of each row's demand from the stream alone: averages, level and trend, rhythm. About 2.3 KiB a row
 * ever used. Rates in tokens/s.
 */
export class Streams {
  readonly #stepS: number;
  readonly #periods = new Periods();
  readonly #useSeasonal: boolean;
  /** Steps seen. */
  steps = 0;
  /** Tokens in all, per row. */
  total = new Float64Array(0);
  /** Mean demand rate, to make losses of rows comparable. */
  scale = new Float64Array(0);
  /** Step at which the row was given to whoever has it. */
  since = new Uint32Array(0);
  /** Step of the last demand; −1: none yet, and nothing is forecast. */
  lastActive = new Int32Array(0);
  /** Part of the recent steps with demand, per row. */
  activity = new Float32Array(0);
  #average = new Float64Array(0);
  #level = new Float64Array(0);
  #trend = new Float64Array(0);

  constructor(stepMs: number, useSeasonal = true) {
    this.#stepS = stepMs / 1000;
    this.#useSeasonal = useSeasonal;
  }

  /** Rows there is room for. */
  get size(): number {
    return this.total.length;
  }

  grow(size: number): void {
    this.total = grown(this.total, size);
    this.scale = grown(this.scale, size);
    this.activity = grown(this.activity, size);
    this.#average = grown(this.#average, size * ewmaSpans.length);
    this.#level = grown(this.#level, size);
    this.#trend = grown(this.#trend, size);
    const since = new Uint32Array(size).fill(this.steps);
    since.set(this.since);
    this.since = since;
    const active = new Int32Array(size).fill(-1);
    active.set(this.lastActive);
    this.lastActive = active;
    if (this.#useSeasonal) this.#periods.grow(size);
  }

  reset(row: number): void {
    if (row >= this.size) return;
    this.#average.fill(0, row * ewmaSpans.length, (row + 1) * ewmaSpans.length);
    this.#level[row] = 0;
    this.#trend[row] = 0;
    this.scale[row] = 0;
    this.activity[row] = 0;
    this.since[row] = this.steps;
    this.lastActive[row] = -1;
    this.#periods.reset(row);
  }

  /** Takes over what is known of another's row; the sum of its tokens goes on, as open forecasts count by it. */
  adopt(other: Streams, from: number, row: number): void {
    const spans = ewmaSpans.length;
    this.#average.set(other.#average.subarray(from * spans, (from + 1) * spans), row * spans);
    this.#level[row] = other.#level[from]!;
    this.#trend[row] = other.#trend[from]!;
    this.scale[row] = other.scale[from]!;
    const back = other.steps - this.steps;
    this.since[row] = Math.max(0, other.since[from]! - back);
    this.lastActive[row] = other.lastActive[from]! < 0 ? -1 : Math.max(0, other.lastActive[from]! - back);
    if (this.#useSeasonal) this.#periods.adopt(other.#periods, from, row);
  }

  /** See `StateWalk`; `steps` has been walked before there was room for the rows. */
  walk(walk: StateWalk): void {
    for (const values of [this.total, this.scale, this.since, this.lastActive, this.activity]) walk.rows(values, 1);
    walk.silentRows(this.since);
    walk.rows(this.#average, ewmaSpans.length);
    walk.rows(this.#level, 1);
    walk.rows(this.#trend, 1);
    if (this.#useSeasonal) this.#periods.walk(walk);
  }

  /**
   * Takes in a step's demand, tokens per row.
   * @param awake the rows that are to learn of it; the others have none
   */
  observe(demand: ArrayLike<number>, rows: number, awake: Uint32Array): void {
    this.steps++;
    for (let i = 0; i < awake.length; i++) {
      const row = awake[i]!;
      const value = demand[row]!;
      this.total[row]! += value;
      if (value > 0) this.lastActive[row] = this.steps;
      else if (this.lastActive[row]! < 0) continue;
      const rate = value / this.#stepS;
      const age = this.steps - this.since[row]!;
      const perAge = 1 / age;
      this.activity[row]! += Math.max(activityRate, perAge) * ((value > 0 ? 1 : 0) - this.activity[row]!);
      const at = row * ewmaSpans.length;
      for (let s = 0; s < ewmaSpans.length; s++)
        // While a row is younger than a span, its average is the plain one: it would else take a span to start.
        this.#average[at + s]! += Math.max(averageRates[s]!, perAge) * (rate - this.#average[at + s]!);
      this.scale[row]! += Math.max(scaleRate, perAge) * (rate - this.scale[row]!);
      const season = this.#useSeasonal ? this.#periods.seasonNow(row) / this.#stepS : 0;
      const expected = this.#level[row]! + damping * this.#trend[row]!;
      const surprise = rate - season - expected;
      this.#level[row] = expected + Math.max(levelRate, perAge) * surprise;
      this.#trend[row] = damping * this.#trend[row]! + levelRate * trendRate * surprise;
    }
    if (this.#useSeasonal) this.#periods.observe(demand, rows, awake);
  }

  /** Lets a row's means fade by steps without demand in which it was left out; all else was nothing already. */
  fade(row: number, steps: number): void {
    for (let s = 0; s < ewmaSpans.length; s++)
      this.#average[row * ewmaSpans.length + s]! *= (1 - averageRates[s]!) ** steps;
    this.scale[row]! *= (1 - scaleRate) ** steps;
  }

  /** 0, 1 or 2: see `contexts`. */
  contextOf(row: number): number {
    const last = this.#average[row * ewmaSpans.length]!;
    return last === 0 ? 0 : last > this.#average[row * ewmaSpans.length + usual]! ? 2 : 1;
  }

  /** Writes the rate each base forecasts for the mean of the next `ahead` steps, `baseCount` of them. */
  write(row: number, ahead: number, out: Float32Array, at: number): void {
    const from = row * ewmaSpans.length;
    for (let s = 0; s < ewmaSpans.length; s++) out[at + s] = this.#average[from + s]!;
    const seasonal = this.#useSeasonal ? this.#periods.seasonal(row, ahead) / this.#stepS : Number.NaN;
    const rhythmic = !Number.isNaN(seasonal);
    out[at + seasonalBase] = rhythmic ? seasonal : this.#average[from + ewmaSpans.length - 1]!;
    // Σ φ^k for k from 1 to n is near n for few steps and bounded by φ / (1 − φ): its mean over the horizon.
    const reach = Math.min((ahead + 1) / 2, damping / (1 - damping) / 2);
    const season = rhythmic ? seasonal - this.#periods.meanOfPeriod(row) / this.#stepS : 0;
    out[at + holtWintersBase] = Math.max(0, this.#level[row]! + reach * this.#trend[row]! + season);
  }
}

/** Per step: activity is averaged over a span of 300, a row's mean demand, by which losses are measured, over 600 steps. */
const activityRate = 2 / 301;
const scaleRate = 1 / 600;
const averageRates = ewmaSpans.map((span) => 2 / (span + 1));
