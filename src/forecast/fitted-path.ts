import { quantileCount } from './forecaster.js';
import type { StateWalk } from './state-walk.js';

/** How far ahead a fit looks, and how wrong it was; plain data, so that it may pass between threads. */
export interface Fit {
  /** Square roots of the demand of the bins that come, first the one after the last it was fitted to. */
  points: Float64Array;
  /**
   * `reach[j]`: by which part of a bin's surprise the forecast of the bin j later changes; `reach[0]` is not used.
   * Empty: what comes changes nothing.
   */
  reach: Float64Array;
  /**
   * `spread[horizon * quantileCount + level]`: quantiles of what the root of a horizon's mean demand was beyond the
   * root of its forecast.
   */
  spread: Float64Array;
}

/**
 * The forecast path of a fit, moved on as time passes. Exponential smoothing is linear in its surprises, so a
 * surprise e moves the forecast of the bin j later by c_j·e, whatever the state is (Hyndman, Koehler, Ord & Snyder,
 * Forecasting with Exponential Smoothing, 2008, ch. 3): a fit keeps up with what comes, exactly, without being
 * fitted again.
 */
export class FittedPath {
  readonly #points: Float64Array;
  readonly #reach: Float64Array;
  readonly #spread: Float64Array;
  /** Sums of demand up to each bin. */
  readonly #sums: Float64Array;
  #known = 0;

  constructor({ points, reach, spread }: Fit) {
    this.#points = points.slice();
    this.#reach = reach;
    this.#spread = spread;
    this.#sums = new Float64Array(points.length + 1);
    this.#sumUp();
  }

  /** See `StateWalk`. @returns the path, or the one that was written down */
  static walk(walk: StateWalk, path: FittedPath | undefined): FittedPath {
    const points = walk.list(path ? path.#points : []);
    const reach = walk.list(path ? path.#reach : []);
    const spread = walk.list(path ? path.#spread : []);
    const known = walk.count(path ? path.#known : 0, points.length);
    if (path) return path;
    const put = new FittedPath({ points, reach, spread });
    put.#known = known;
    return put;
  }

  /** Bins still ahead. */
  get length(): number {
    return this.#points.length - this.#known;
  }

  /** The points of those bins. */
  ahead(): Float64Array {
    return this.#points.slice(this.#known);
  }

  /** Takes in the root of the demand of the next bin. */
  advance(root: number): void {
    if (this.length === 0) return;
    const points = this.#points;
    const surprise = root - points[this.#known]!;
    const last = Math.min(points.length - this.#known, this.#reach.length) - 1;
    for (let j = 1; j <= last; j++) points[this.#known + j]! += this.#reach[j]! * surprise;
    this.#known++;
    if (last >= 1) this.#sumUp();
  }

  /**
   * Mean demand of a bin over a stretch of time ahead.
   * @param from bins from the end of the last one taken in
   * @param bins length, above 0
   * @returns NaN where the path does not reach so far
   */
  mean(from: number, bins: number): number {
    if (from + bins > this.length) return Number.NaN;
    return (this.#sumTo(from + bins) - this.#sumTo(from)) / bins;
  }

  /** Quantiles of the mean demand of a bin; NaN where the path does not reach so far. */
  write(horizon: number, from: number, bins: number, out: Float32Array, at: number): void {
    const root = Math.sqrt(this.mean(from, bins));
    for (let q = 0; q < quantileCount; q++) {
      const value = Math.max(0, root + this.#spread[horizon * quantileCount + q]!);
      out[at + q] = value * value;
    }
  }

  #sumTo(bins: number): number {
    const whole = Math.floor(bins);
    const low = this.#sums[this.#known + whole]!;
    if (bins === whole) return low;
    return low + (bins - whole) * (this.#sums[this.#known + whole + 1]! - low);
  }

  #sumUp(): void {
    for (let i = this.#known; i < this.#points.length; i++) {
      const root = Math.max(0, this.#points[i]!);
      this.#sums[i + 1] = this.#sums[i]! + root * root;
    }
  }
}
