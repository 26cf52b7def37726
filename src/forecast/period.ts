import { grown } from '../grown.js';
import { autocorrelate } from './autocorrelation.js';
import type { StateWalk } from './state-walk.js';

/** Steps of demand kept per row: two turns of the longest period that can be found. */
export const ringSteps = 512;
const shortest = 3;
const longest = ringSteps / 2;
/** Steps a row must have been seen before its rhythm is judged. */
const leastSeen = 32;
/** Autocorrelation at the period that counts as a rhythm; white noise over 512 steps stays below 0.15. */
const leastCorrelation = 0.3;
/** Rows judged anew per step: one costs about 0.1 ms, so all of 10,000 take 10 minutes of 1 s steps. */
const rowsPerStep = 16;

/**
 * Finds each row's period by autocorrelation over a ring of recent demand, a few rows a step in turn. The
 * shortest lag within 10 % of the highest peak is taken, so that a multiple is not mistaken for the period.
 */
export class Periods {
  #ring = new Float32Array(0);
  #period = new Uint16Array(0);
  #seen = new Uint32Array(0);
  /** Demand of the last whole period, per row that has one. */
  #sum = new Float64Array(0);
  #next = 0;
  #at = 0;
  readonly #own = new Float64Array(ringSteps);
  readonly #correlation = new Float64Array(longest + 1);

  grow(rows: number): void {
    if (rows <= this.#period.length) return;
    this.#ring = grown(this.#ring, rows * ringSteps);
    this.#period = grown(this.#period, rows);
    this.#seen = grown(this.#seen, rows);
    this.#sum = grown(this.#sum, rows);
  }

  reset(row: number): void {
    if (row >= this.#period.length) return;
    this.#ring.fill(0, row * ringSteps, (row + 1) * ringSteps);
    this.#period[row] = 0;
    this.#seen[row] = 0;
    this.#sum[row] = 0;
  }

  /** Takes over what is known of another's row. */
  adopt(other: Periods, from: number, row: number): void {
    for (let back = 0; back < ringSteps; back++)
      this.#ring[row * ringSteps + ((this.#at - back + ringSteps) % ringSteps)] = other.#ago(from, back);
    this.#period[row] = other.#period[from]!;
    this.#seen[row] = other.#seen[from]!;
    this.#sum[row] = other.#sum[from]!;
  }

  walk(walk: StateWalk): void {
    this.#next = walk.number(this.#next);
    this.#at = walk.count(this.#at, ringSteps - 1);
    walk.rows(this.#ring, ringSteps);
    walk.rows(this.#period, 1);
    walk.rows(this.#seen, 1);
    walk.rows(this.#sum, 1);
  }

  /** @param awake the rows to look at, where others have had no demand for the whole ring. Default: all */
  observe(demand: ArrayLike<number>, rows: number, awake?: Uint32Array): void {
    if (rows > this.#period.length) this.grow(rows * 2);
    this.#at = (this.#at + 1) % ringSteps;
    const count = awake ? awake.length : rows;
    for (let i = 0; i < count; i++) {
      const row = awake ? awake[i]! : i;
      // A row without any demand so far has nothing but zeros: it costs no more than this question.
      if (this.#seen[row] === 0 && !(demand[row]! > 0)) continue;
      const period = this.#period[row]!;
      if (period > 0) this.#sum[row]! += demand[row]! - this.#ago(row, period);
      this.#ring[row * ringSteps + this.#at] = demand[row]!;
      this.#seen[row]!++;
    }
    for (let i = 0; i < Math.min(rowsPerStep, rows); i++) {
      this.#next = (this.#next + 1) % rows;
      if (this.#seen[this.#next]! >= leastSeen) this.#judge(this.#next);
    }
  }

  /** Steps; 0: none found. */
  periodOf(row: number): number {
    return this.#period[row] ?? 0;
  }

  /** Mean demand per step over the last period; 0 without one. */
  meanOfPeriod(row: number): number {
    const period = this.#period[row] ?? 0;
    return period > 0 ? this.#sum[row]! / period : 0;
  }

  /** By how much the step that comes should exceed the mean, if it is as one period earlier; 0 without a period. */
  seasonNow(row: number): number {
    const period = this.#period[row] ?? 0;
    return period > 0
      ? this.#ring[row * ringSteps + ((this.#at + 1 - period + ringSteps) % ringSteps)]! - this.meanOfPeriod(row)
      : 0;
  }

  /** Mean demand per step over the next `steps`, as they were one period (or the least multiple) earlier. */
  seasonal(row: number, steps: number): number {
    const period = this.#period[row] ?? 0;
    if (period === 0) return Number.NaN;
    const back = period * Math.ceil(steps / period);
    if (back > Math.min(ringSteps - 1, this.#seen[row]!)) return Number.NaN;
    let sum = 0;
    const base = row * ringSteps;
    const first = (this.#at - back + 1 + ringSteps) % ringSteps;
    const unbroken = Math.min(steps, ringSteps - first);
    for (let i = 0; i < unbroken; i++) sum += this.#ring[base + first + i]!;
    for (let i = 0; i < steps - unbroken; i++) sum += this.#ring[base + i]!;
    return sum / steps;
  }

  /** Demand so many steps before the one at `#at`. */
  #ago(row: number, steps: number): number {
    return this.#ring[row * ringSteps + ((this.#at - steps + ringSteps) % ringSteps)]!;
  }

  #judge(row: number): void {
    const period = this.#find(row);
    this.#period[row] = period;
    let sum = 0;
    for (let back = 0; back < period; back++) sum += this.#ago(row, back);
    this.#sum[row] = sum;
  }

  #find(row: number): number {
    const length = Math.min(ringSteps, this.#seen[row]!);
    const own = this.#own;
    const base = row * ringSteps;
    let mean = 0;
    for (let i = 0; i < length; i++) {
      // A square root tames bursts: one huge one would otherwise outshout the rhythm.
      const value = Math.sqrt(this.#ring[base + ((this.#at - length + 1 + i + ringSteps) % ringSteps)]!);
      own[i] = value;
      mean += value / length;
    }
    return strongestPeriod(own.subarray(0, length), mean, this.#correlation);
  }
}

/**
 * The shortest lag within 10 % of the highest peak of the autocorrelation; 0: no rhythm. Overwrites the values.
 * @param correlation room for so many lags
 */
export function strongestPeriod(values: Float64Array, mean: number, correlation: Float64Array): number {
  const { length } = values;
  let variance = 0;
  let most = 0;
  for (let i = 0; i < length; i++) {
    most = Math.max(most, values[i]!);
    values[i]! -= mean;
    variance += values[i]! * values[i]!;
  }
  if (!(variance > 1e-9 * most * most)) return 0;
  const limit = Math.min(correlation.length - 1, Math.floor(length / 2));
  autocorrelate(values, length, 1, limit, correlation);
  let peak = 0;
  for (let lag = 1; lag <= limit; lag++) {
    correlation[lag] = (correlation[lag]! / variance) * (length / (length - lag));
    if (lag >= shortest) peak = Math.max(peak, correlation[lag]!);
  }
  if (peak < leastCorrelation) return 0;
  for (let lag = shortest; lag < limit; lag++)
    if (
      correlation[lag]! >= 0.9 * peak &&
      correlation[lag]! >= correlation[lag - 1]! &&
      correlation[lag]! >= correlation[lag + 1]!
    )
      return lag;
  return 0;
}
