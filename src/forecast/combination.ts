import { quantileCount, quantileLevels } from './forecaster.js';
import type { StateWalk } from './state-walk.js';
import { relative } from './weights.js';

/** What is combined beside the external forecasters: the mixture of all members, and that of the classical ones alone. */
const own = 2;
/** Of the mixture, of its classical part, of all externals together; the last external is the one that was refined. */
const priors = { mixture: 0.45, classical: 0.15, externals: 0.1, last: 0.3 } as const;
/** Steps after which past regret counts e times less. */
const memorySteps = 1000;
/** A forecaster counts e times less for each tenth by which its loss exceeds the best one's, */
const tolerance = 0.1;
/** half of that once so many forecasts were scored that do not overlap. */
const lossTrust = 20;
/** Rounding keeps a sum of tiny regrets from being a ground to learn from. */
const leastVariation = 1e-30;

/** Whom to hear for each external: itself, or where it has nothing the one before it, as what is refined comes from that. */
export function standIns(externals: readonly (Float32Array | undefined)[]): (Float32Array | undefined)[] {
  let before: Float32Array | undefined;
  return externals.map((external) => {
    before = external ?? before;
    return before;
  });
}

/**
 * Combines few forecasters of one horizon, the same for every row, per quantile level: so that the combination does about as
 * well as the best weighted mean of them, where weighing by loss alone (`Weights`) does about as well as the best single one.
 *
 * Exponential weights on linearized regret with a learning rate that its own variation sets (Wintenberger, "Optimal learning
 * with Bernstein online aggregation", 2017; for quantiles Berrisch & Ziel, "CRPS learning", 2021): a forecaster is rewarded
 * where it errs to the other side than the combination. As that alone takes a hundred steps to leave someone who is
 * far off, loss counts too.
 *
 * A row's regret is divided by the root of its mean demand: that of a count grows with it, and so few large rows do not
 * decide for all others.
 */
export class Combination {
  /** Forecasters combined: the mixture, its classical part, the externals in order. */
  readonly members: number;
  /** Weights, `[level * members + member]`; they sum to 1. */
  readonly #weights: Float64Array;
  readonly #logPrior: Float64Array;
  /** Discounted regret and loss, laid out as the weights, and mean square of the regrets per level. */
  readonly #regret: Float64Array;
  readonly #loss: Float64Array;
  readonly #variation = new Float64Array(quantileCount);
  /** Discounted number of forecasts scored. */
  #scored = 0;
  // Sums of the scoring under way.
  readonly #regretNow: Float64Array;
  readonly #lossNow: Float64Array;
  readonly #keep: number;
  readonly #overlap: number;

  /**
   * @param externals forecasters beside the classical ones, at least one
   * @param steps of the horizon
   * @param every steps between two scorings
   */
  constructor(externals: number, steps: number, every: number) {
    this.members = own + externals;
    const { mixture, classical, externals: others, last } = priors;
    const prior = [mixture, classical, ...new Array<number>(externals - 1).fill(others / (externals - 1)), last];
    const sum = prior.reduce((a, b) => a + b, 0);
    const size = quantileCount * this.members;
    this.#weights = Float64Array.from({ length: size }, (_, i) => prior[i % this.members]! / sum);
    this.#logPrior = this.#weights.map(Math.log);
    this.#regret = new Float64Array(size);
    this.#loss = new Float64Array(size);
    this.#regretNow = new Float64Array(size);
    this.#lossNow = new Float64Array(size);
    this.#keep = Math.exp(-every / memorySteps);
    // Forecasts of spans that overlap see the same surprise: it would count so many times.
    this.#overlap = Math.max(1, steps / every);
  }

  /** Between scorings. */
  walk(walk: StateWalk): void {
    this.#scored = walk.number(this.#scored);
    for (const values of [this.#weights, this.#regret, this.#loss, this.#variation]) walk.whole(values);
  }

  /**
   * Lays out what is combined for one row.
   * @param mixture,classical a value per level
   * @param heard as `standIns` gives them, quantiles from `at` on
   * @param out where it goes, `[level * members + member]` from `to` on; NaN where there is nothing
   */
  gather(
    mixture: Float64Array,
    classical: Float64Array,
    heard: readonly (Float32Array | undefined)[],
    at: number,
    out: Float32Array,
    to: number,
  ): void {
    for (let q = 0; q < quantileCount; q++) {
      out[to++] = mixture[q]!;
      out[to++] = classical[q]!;
      for (const external of heard) out[to++] = external ? external[at + q]! : Number.NaN;
    }
  }

  /**
   * What does most in a row's combination, by what does most in its mixture: 0 the classical forecasters, 1 and up an external.
   * @param externals forecasts of each; undefined where one has none
   */
  verdicts(externals: readonly (Float32Array | undefined)[]): number[] {
    const shares = new Array<number>(1 + externals.length).fill(0);
    shares[0] = this.#shareOf(1);
    standIns(externals).forEach((stand, e) => {
      if (stand) shares[1 + externals.indexOf(stand)]! += this.#shareOf(own + e);
    });
    const mixture = this.#shareOf(0);
    return shares.map((_, most) => {
      const all = shares.map((share, i) => share + (i === most ? mixture : 0));
      return all.indexOf(Math.max(...all));
    });
  }

  /**
   * Combines one row's quantiles, as `gather` would lay them out.
   * @param mixture a value per level; what is combined takes their place
   */
  combine(
    mixture: Float64Array,
    classical: Float64Array,
    heard: readonly (Float32Array | undefined)[],
    at: number,
  ): void {
    const weights = this.#weights;
    for (let q = 0, i = 0; q < quantileCount; q++, i += heard.length) {
      let present = weights[i++]!;
      let sum = present * mixture[q]!;
      const share = weights[i++]!;
      present += share;
      sum += share * classical[q]!;
      for (let e = 0; e < heard.length; e++) {
        const external = heard[e];
        const value = external ? external[at + q]! : Number.NaN;
        if (Number.isNaN(value)) continue;
        const weight = weights[i + e]!;
        present += weight;
        sum += weight * value;
      }
      // The mixture never lacks, but its weight may be nothing.
      if (present > 1e-6) mixture[q] = sum / present;
    }
  }

  /** The weight of a member, mean over levels. */
  #shareOf(member: number): number {
    let sum = 0;
    for (let q = 0; q < quantileCount; q++) sum += this.#weights[q * this.members + member]!;
    return sum / quantileCount;
  }

  /**
   * Scores a row's forecast; `endScoring` follows when all rows have been.
   * @param actual tokens/s that came
   * @param scale mean rate of the row
   * @param said the members' quantiles, as they were combined
   * @param combined what came of them
   */
  score(
    actual: number,
    scale: number,
    said: Float32Array,
    at: number,
    combined: Float32Array,
    combinedAt: number,
  ): void {
    if (!(scale > 0)) return;
    this.#scored++;
    const perRoot = 1 / Math.sqrt(scale);
    for (let q = 0, i = 0; q < quantileCount; q++) {
      const level = quantileLevels[q]!;
      const lean = level - 0.5;
      const value = combined[combinedAt + q]!;
      const slope = (actual < value ? 1 - level : -level) * perRoot;
      const loss = (lean * (actual - value) + 0.5 * Math.abs(actual - value)) * perRoot;
      for (let m = 0; m < this.members; m++, i++) {
        const other = said[at + i]!;
        // Who said nothing is as good as the combination.
        const absent = Number.isNaN(other);
        const miss = actual - other;
        this.#lossNow[i]! += absent ? loss : (lean * miss + 0.5 * Math.abs(miss)) * perRoot;
        if (!absent) this.#regretNow[i]! += slope * (value - other);
      }
    }
  }

  endScoring(): void {
    const { members } = this;
    const keep = this.#keep;
    const trust = this.#scored / (this.#scored + lossTrust * this.#overlap);
    this.#scored *= keep;
    for (let q = 0; q < quantileCount; q++) {
      const from = q * members;
      const to = from + members;
      let squares = 0;
      let least = Number.POSITIVE_INFINITY;
      for (let i = from; i < to; i++) {
        const now = this.#regretNow[i]!;
        squares += now * now;
        this.#regret[i] = this.#regret[i]! * keep + now;
        this.#loss[i] = this.#loss[i]! * keep + this.#lossNow[i]!;
        if (this.#loss[i]! < least) least = this.#loss[i]!;
      }
      this.#variation[q] = this.#variation[q]! * keep + (squares / members) * this.#overlap;
      const variation = this.#variation[q]!;
      const rate = variation > leastVariation ? Math.sqrt(Math.log(members) / variation) : 0;
      let most = Number.NEGATIVE_INFINITY;
      for (let i = from; i < to; i++) {
        const beyond = trust * relative(this.#loss[i]!, least);
        const log = this.#logPrior[i]! + rate * this.#regret[i]! - beyond / tolerance;
        this.#weights[i] = log;
        if (log > most) most = log;
      }
      let sum = 0;
      for (let i = from; i < to; i++) sum += this.#weights[i] = Math.exp(this.#weights[i]! - most);
      for (let i = from; i < to; i++) this.#weights[i]! /= sum;
    }
    this.#regretNow.fill(0);
    this.#lossNow.fill(0);
  }
}
