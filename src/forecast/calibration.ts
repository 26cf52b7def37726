import { grown } from '../grown.js';
import { quantileCount, quantileLevels } from './forecaster.js';
import type { StateWalk } from './state-walk.js';

/** Log ratios of what came to a quantile are counted in so many equal bins, from e^−2.5 to e^2.5 times it. */
const bins = 128;
const reach = 2.5;
const middle = bins / 2;
/** No quantile is more than doubled or halved: what few horizons that came together call for, the next ones take back. */
const mostLog = Math.LN2;
/** Lowest level that is corrected. A median often stands at no demand at all, where any multiple of it is the same. */
const lowest = 1;
/**
 * Levels from here on are left as they are. They are missed so rarely that the pool is decided by the calm, and a tail
 * drawn in for all takes from the few who burst: among traces of requests one throttled twice as much with it.
 */
const above = quantileLevels.indexOf(0.9) + 1;
/**
 * Coverage counts as met within these parts of what may lie above: 0.9 is met from 0.895 to 0.92. To fall short denies
 * requests; to cover more than was said only keeps some tokens that are lent.
 */
const shortfall = 0.05;
const surplus = 0.2;
/** Horizons after which past coverage counts e times less, and the part of all time so far it is at most. */
const memoryHorizons = 100;
const memoryPart = 0.5;
/** Horizons in which coverage is taken to have been met before anything was seen. */
const priorHorizons = 2;
/**
 * Of a correction half is made after so many horizons, more later: the first few hold one surprise or two, and most of what
 * they call for is chance.
 */
const halfTrust = 20;
/** A row's own coverage counts as much as that of all rows together after so many horizons. */
const ownTrust = 3;
/** Younger rows teach nothing: their forecasts were still being learnt. Steps beyond the horizon. */
const youngSteps = 64;

/** Coverage of all rows together at one horizon. */
interface Pool {
  /** Weight of each log ratio seen, `[level * (bins + 1) + bin]`; bin i holds what is at most at its upper end. */
  ratios: Float64Array;
  /** Weight of all together, in horizons. */
  horizons: number;
  /** Horizons seen since the beginning. */
  seen: number;
  /** Coverage, and the log of the factor that brings it as near as it must be; per level. */
  coverage: Float64Array;
  log: Float64Array;
  // Counts of the scoring under way.
  counts: Float64Array;
  rows: number;
}

/**
 * Corrects upper quantiles that cover less or more than they say, by a factor: the one nearest to 1 with which all
 * rows that are scored here together would have met the level, as nearly as it must be, over the recent past (split
 * conformal prediction with forgetting), or as much of that factor as the evidence is worth, n / (n + k) (Bühlmann's
 * credibility). A row that met the level by itself is left alone; others take of it in proportion to their own shortfall.
 *
 * Evidence is counted in horizons, not in forecasts: forecasts of spans that overlap see the same surprise. Following
 * each surprise as it comes (Gibbs & Candès, Adaptive Conformal Inference, 2021) was tried instead, pooled and per row,
 * and cost up to a tenth of the accuracy.
 */
export class Calibration {
  readonly #horizons: number;
  readonly #steps: readonly number[];
  readonly #pools: Pool[];
  /** Weight of forecasts that covered, `[(row * horizons + horizon) * levels + level]`, and of all, in horizons. */
  #covered = new Float32Array(0);
  #seen = new Float32Array(0);
  /** What is added to each quantile, as a part of it. */
  #excess = new Float32Array(0);

  /** @param steps of each horizon */
  constructor(steps: readonly number[]) {
    this.#horizons = steps.length;
    this.#steps = steps;
    this.#pools = steps.map(() => ({
      ratios: new Float64Array(quantileCount * (bins + 1)),
      horizons: 0,
      seen: 0,
      coverage: Float64Array.from(quantileLevels),
      log: new Float64Array(quantileCount),
      counts: new Float64Array(quantileCount * (bins + 1)),
      rows: 0,
    }));
  }

  grow(rows: number): void {
    const places = rows * this.#horizons;
    this.#covered = grown(this.#covered, places * quantileCount);
    this.#seen = grown(this.#seen, places);
    this.#excess = grown(this.#excess, places * quantileCount);
  }

  reset(row: number): void {
    const from = row * this.#horizons;
    const to = from + this.#horizons;
    this.#seen.fill(0, from, to);
    this.#covered.fill(0, from * quantileCount, to * quantileCount);
    this.#excess.fill(0, from * quantileCount, to * quantileCount);
  }

  /** Between scorings. */
  walk(walk: StateWalk): void {
    for (const pool of this.#pools) {
      pool.horizons = walk.number(pool.horizons);
      pool.seen = walk.number(pool.seen);
      for (const values of [pool.ratios, pool.coverage, pool.log]) walk.whole(values);
    }
    walk.rows(this.#covered, this.#horizons * quantileCount);
    walk.rows(this.#seen, this.#horizons);
    walk.rows(this.#excess, this.#horizons * quantileCount);
  }

  /** What to add to each quantile as a part of it, laid out as a frame; the array is replaced by `grow`. */
  get excess(): Float32Array {
    return this.#excess;
  }

  /** Steps a row must have been seen before its forecasts teach. */
  leastAge(h: number): number {
    return youngSteps + this.#steps[h]!;
  }

  /**
   * Scores a row's forecast before correction; `endScoring` follows when all rows of the horizon have been.
   * @param actual tokens/s that came
   * @param every steps since the row's forecast before this one that is scored
   * @param now steps since the beginning
   */
  score(h: number, row: number, actual: number, raw: Float32Array, at: number, every: number, now: number): void {
    const pool = this.#pools[h]!;
    const steps = this.#steps[h]!;
    const place = row * this.#horizons + h;
    const weight = Math.min(1, every / steps);
    const keep = Math.exp(-every / memorySteps(steps, now));
    const seen = this.#seen[place]! * keep + weight;
    this.#seen[place] = seen;
    pool.rows++;
    for (let q = lowest; q < above; q++) {
      const quantile = raw[at + q]!;
      const covers = actual <= quantile;
      const i = place * quantileCount + q;
      const covered = this.#covered[i]! * keep + (covers ? weight : 0);
      this.#covered[i] = covered;
      pool.counts[q * (bins + 1) + binOf(actual, quantile)]!++;
      const log = pool.log[q]!;
      let excess = 0;
      if (log !== 0) {
        const pooled = pool.coverage[q]!;
        const own = (covered + ownTrust * pooled) / (seen + ownTrust);
        const level = quantileLevels[q]!;
        const share = (level - own) / (level - pooled);
        if (share > 0) excess = Math.exp(log * (share < 1 ? share : 1)) - 1;
      }
      this.#excess[i] = excess;
    }
  }

  /**
   * @param every steps between two scorings of the horizon
   * @param now steps since the beginning
   */
  endScoring(h: number, every: number, now: number): void {
    const pool = this.#pools[h]!;
    if (pool.rows === 0) return;
    const { ratios, counts, coverage, log } = pool;
    const steps = this.#steps[h]!;
    const weight = Math.min(1, every / steps);
    const keep = Math.exp(-every / memorySteps(steps, now));
    pool.horizons = pool.horizons * keep + weight;
    pool.seen += weight;
    const trust = pool.seen / (pool.seen + halfTrust);
    const perRow = weight / pool.rows;
    for (let i = lowest * (bins + 1); i < ratios.length; i++) ratios[i] = ratios[i]! * keep + perRow * counts[i]!;
    counts.fill(0);
    pool.rows = 0;
    const perWeight = 1 / (pool.horizons + priorHorizons);
    for (let q = lowest; q < above; q++) {
      const level = quantileLevels[q]!;
      const least = level - shortfall * (1 - level);
      const most = level + surplus * (1 - level);
      const first = q * (bins + 1);
      let bin = middle;
      let covered = priorHorizons * level * perWeight;
      for (let b = 0; b <= bin; b++) covered += ratios[first + b]! * perWeight;
      coverage[q] = covered;
      while (bin < bins && covered < least) covered += ratios[first + ++bin]! * perWeight;
      for (;;) {
        const without = covered - ratios[first + bin]! * perWeight;
        if (bin === 0 || covered <= most || without < most) break;
        covered = without;
        bin--;
      }
      log[q] = trust * Math.max(-mostLog, Math.min(mostLog, ((2 * bin) / bins - 1) * reach));
    }
  }
}

/** Over how many steps coverage is averaged. */
const memorySteps = (horizon: number, now: number): number =>
  Math.max(2 * horizon, Math.min(memoryHorizons * horizon, memoryPart * now));

/** The bin of a log ratio; what is covered is at most in the middle one. */
function binOf(actual: number, quantile: number): number {
  if (actual <= quantile * leastRatio) return 0;
  if (quantile <= 0) return bins;
  const bin = Math.ceil((Math.log(actual / quantile) / reach + 1) * middle);
  return bin < 0 ? 0 : bin > bins ? bins : bin;
}
const leastRatio = Math.exp(-reach);
