import { grown } from '../grown.js';
import type { StateWalk } from './state-walk.js';

/** Rows kept of each bin: the busiest in it. What else was asked for is taken for nothing. */
const mostRows = 256;

/**
 * Demand in bins of several steps, of the rows that were busiest in each. As large for a hundred thousand rows as for
 * 256: at most about 10 MB for 720 bins.
 */
export class BinnedDemand {
  readonly #stepsPerBin: number;
  readonly #most: number;
  readonly #bins: Map<number, number>[] = [];
  #sum = new Float64Array(0);
  #rows = 0;
  /** Steps of the bin under way. */
  #steps = 0;
  #count = 0;

  /** @param most bins kept */
  constructor(stepsPerBin: number, most: number) {
    this.#stepsPerBin = stepsPerBin;
    this.#most = most;
  }

  /** Bins seen in all. */
  get count(): number {
    return this.#count;
  }

  /** How much of the bin under way has passed, from 0 to below 1. */
  get begun(): number {
    return this.#steps / this.#stepsPerBin;
  }

  /** @returns whether a bin ended */
  observe(demand: ArrayLike<number>, rows: number): boolean {
    if (rows > this.#sum.length) this.#sum = grown(this.#sum, 2 * rows);
    this.#rows = Math.max(this.#rows, rows);
    for (let row = 0; row < rows; row++) this.#sum[row]! += demand[row]!;
    if (++this.#steps < this.#stepsPerBin) return false;
    const sums = this.#sum.subarray(0, this.#rows);
    const least = leastOfTop(sums);
    const bin = new Map<number, number>();
    for (let row = 0; row < sums.length && bin.size < mostRows; row++)
      if (sums[row]! >= least) bin.set(row, sums[row]!);
    if (this.#bins.length === this.#most) this.#bins.shift();
    this.#bins.push(bin);
    sums.fill(0);
    this.#steps = 0;
    this.#rows = 0;
    this.#count++;
    return true;
  }

  /** See `StateWalk`; what is put back is put into a new one with bins of the same length. */
  walk(walk: StateWalk): void {
    if (this.#sum.length < walk.size) this.#sum = grown(this.#sum, walk.size);
    walk.rows(this.#sum, 1);
    if (walk.isLoading) this.#rows = walk.size;
    this.#steps = walk.count(this.#steps, this.#stepsPerBin);
    this.#count = walk.number(this.#count);
    const count = walk.count(this.#bins.length, this.#most);
    for (let i = 0; i < count; i++) {
      const bin = this.#bins[i] ?? new Map<number, number>();
      this.#bins[i] = bin;
      walk.map(bin, (sum = 0) => walk.number(sum));
    }
  }

  reset(row: number): void {
    for (const bin of this.#bins) bin.delete(row);
    if (row < this.#sum.length) this.#sum[row] = 0;
  }

  /** Rows with the most demand in all bins kept, busiest first. */
  busiest(most: number): number[] {
    const sums = new Map<number, number>();
    for (const bin of this.#bins) for (const [row, sum] of bin) sums.set(row, (sums.get(row) ?? 0) + sum);
    return [...sums]
      .sort((a, b) => b[1] - a[1] || a[0] - b[0])
      .slice(0, most)
      .map(([row]) => row);
  }

  /** A row's demand from its first on, tokens a bin, oldest first. */
  series(row: number): Float64Array {
    const first = this.#bins.findIndex((bin) => bin.has(row));
    return first < 0 ? new Float64Array(0) : Float64Array.from(this.#bins.slice(first), (bin) => bin.get(row) ?? 0);
  }

  /** A row's demand in the bin that ended so many bins ago; 0: the last. */
  ago(row: number, bins: number): number {
    return this.#bins.at(-1 - bins)?.get(row) ?? 0;
  }
}

/** What the 256th busiest asked for; where fewer asked for anything, the least above nothing. */
function leastOfTop(sums: Float64Array): number {
  const asked = sums.filter((sum) => sum > 0);
  return asked.length > mostRows ? asked.sort()[asked.length - mostRows]! : Number.MIN_VALUE;
}
