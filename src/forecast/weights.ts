import { grown } from '../grown.js';
import { quantileCount, quantileLevels } from './forecaster.js';
import type { StateWalk } from './state-walk.js';
import { baseCount, contexts, seasonalBase } from './streams.js';

/** What a base is multiplied by to stand for a quantile, per level. */
const factors: readonly (readonly number[])[] = [
  [0, 0.5, 1],
  [0, 0.5, 1, 1.5],
  [0.5, 1, 1.25, 1.5, 2, 3],
  [1, 1.5, 2.5, 4],
  [1.5, 2.5, 4, 7],
];
/** The same for other forecasters, whose quantiles may be too narrow or too wide. */
const externalFactors: readonly (readonly number[])[] = [
  [0.8, 1, 1.2],
  [0.8, 1, 1.25],
  [0.8, 1, 1.25],
  [0.75, 1, 1.33],
  [0.75, 1, 1.33],
];

/**
 * Weight falls by e for every so manyth part by which a member's loss exceeds the best one's, per level: more slowly
 * where few misses have decided over it.
 */
const learningRates = [20, 15, 10, 10, 10] as const;
/** Own losses count half after 230 steps. */
const ownDecay = 0.997;
/** By how much own losses move on where only every so manyth forecast of a row is scored, so that each counts for as many. */
export const ownRate = (turns: number): number => 1 - ownDecay ** turns;
/** Own losses count as much as those of all rows together once a row has this many. */
const ownTrust = 20;
/** How fast the losses of all rows are averaged, per scored step. */
const poolRate = 0.005;
/** e to the minus this: beyond it a member says nothing. */
const mostBeyond = 12;

/** Whose weights together are a smaller part than this has nothing to say. */
const leastPart = 1e-6;

/** Where rows are many, weights are set anew after so many scored forecasts; sooner while a row is young. */
const staleAfter = 8;
/** Scored forecasts after which weights are set anew that were set at the `set`th. */
const patience = (set: number, patient: boolean): number => (patient ? Math.min(staleAfter, set / 2) : 1);
/** A float32 holds any loss times this. */
const leastKept = 1e-25;
/** Scorings in which weights of some row may have been set that still hold, where each row has every fourth. */
const mostRemembered = 4 * (staleAfter + 1);
/** A line of the cache, in float32. */
const lineFloats = 16;

/** Members of one quantile level. */
interface Level {
  /** First member of this level among all. */
  from: number;
  count: number;
  classical: number;
  /** Where a member's share goes within the parts, and what it multiplies. */
  source: Uint8Array;
  factor: Float64Array;
  /** The factors of the first base, of every other one and of every external. */
  ofFirst: Float64Array;
  ofOthers: Float64Array;
  ofExternals: Float64Array;
}

/**
 * How much each row trusts each forecaster at one horizon, per quantile level and context. A weight falls exponentially
 * with the discounted pinball loss, relative to the best member, half by the row's own losses and half by those
 * of all rows in the same context (Herbster & Warmuth's exponential weights with discounting). The pinball loss is
 * least where a level covers what it should, so the weights calibrate too.
 *
 * A mean of products is a product of sums: the weights of the members that share a base are folded, with their
 * factors, into one `part`, so that a forecast costs a tenth of its members. Parts of a level are
 * `[...bases, ...externals, share of the classical members, ...share of each external]`.
 */
export class Weights {
  readonly members: number;
  readonly #externals: number;
  readonly #levels: Level[] = [];
  /** Floats from one level's parts to the next: whole lines of the cache. */
  readonly #stride: number;
  /** Pooled losses, `[context * members + member]`, over each row's mean demand. */
  readonly #loss: Float64Array;
  /** By which part a pooled loss exceeds the best one of its level. */
  readonly #pooledExcess: Float64Array;
  /** The same of rows in silence, after each of the last scorings, so that who wakes finds the weights it would have had. */
  readonly #silentExcess: readonly Float64Array[];
  #scorings = 0;
  /** Parts by pooled losses alone, per context: those of a row that has not been scored yet. */
  readonly #pooledParts: Float32Array[];
  /** Part of the scored forecasts that fell into each context. */
  readonly #frequency = new Float64Array(contexts);
  // Sums of the scoring under way.
  readonly #sum: Float64Array;
  readonly #rows = new Float64Array(contexts);
  // Of one row: the members' losses, and by which part they exceed the best.
  readonly #losses: Float64Array;
  readonly #excess: Float64Array;
  /** A row's own losses, member after member, and how often it was scored. */
  #own = new Float32Array(0);
  #seen = new Float32Array(0);
  /** Per context, so that neighbouring rows lie side by side; and how often a row had been scored when they were set. */
  readonly #parts: Float32Array[] = Array.from({ length: contexts }, () => new Float32Array(0));
  readonly #setAt: Float32Array[] = Array.from({ length: contexts }, () => new Float32Array(0));

  /** @param externals forecasters beside the classical ones */
  constructor(externals: number) {
    this.#externals = externals;
    let from = 0;
    for (let q = 0; q < quantileCount; q++) {
      const source: number[] = [];
      const factor: number[] = [];
      for (let b = 0; b < baseCount; b++)
        for (const f of factors[q]!) {
          // One member that always says nothing is enough.
          if (f === 0 && b > 0) continue;
          source.push(b);
          factor.push(f);
        }
      const classical = source.length;
      for (let e = 0; e < externals; e++)
        for (const f of externalFactors[q]!) {
          source.push(baseCount + e);
          factor.push(f);
        }
      this.#levels.push({
        from,
        count: source.length,
        classical,
        source: Uint8Array.from(source),
        factor: Float64Array.from(factor),
        ofFirst: Float64Array.from(factors[q]!),
        ofOthers: Float64Array.from(factors[q]!.filter((f) => f !== 0)),
        ofExternals: Float64Array.from(externalFactors[q]!),
      });
      from += source.length;
    }
    this.members = from;
    this.#stride = Math.ceil((baseCount + externals + 1 + externals) / lineFloats) * lineFloats;
    this.#loss = new Float64Array(contexts * from);
    this.#pooledExcess = new Float64Array(contexts * from);
    this.#silentExcess = Array.from({ length: mostRemembered }, () => new Float64Array(from));
    this.#pooledParts = Array.from({ length: contexts }, () => new Float32Array(quantileCount * this.#stride));
    this.#sum = new Float64Array(contexts * from);
    this.#losses = new Float64Array(from);
    this.#excess = new Float64Array(from);
    this.#weighPool();
  }

  grow(rows: number): void {
    this.#own = grown(this.#own, rows * this.members);
    this.#seen = grown(this.#seen, rows);
    for (let c = 0; c < contexts; c++) {
      this.#parts[c] = grown(this.#parts[c]!, rows * quantileCount * this.#stride);
      this.#setAt[c] = grown(this.#setAt[c]!, rows);
    }
  }

  reset(row: number): void {
    this.#own.fill(0, row * this.members, (row + 1) * this.members);
    this.#seen[row] = 0;
    for (const setAt of this.#setAt) setAt[row] = 0;
  }

  /** Takes over what another's row has been scored. Both have the same members. */
  adopt(other: Weights, from: number, row: number): void {
    this.reset(row);
    this.#own.set(other.#own.subarray(from * this.members, (from + 1) * this.members), row * this.members);
    this.#seen[row] = other.#seen[from]!;
  }

  /** Between scorings. */
  walk(walk: StateWalk): void {
    this.#scorings = walk.number(this.#scorings);
    for (const values of [this.#loss, this.#pooledExcess, this.#frequency, ...this.#silentExcess, ...this.#pooledParts])
      walk.whole(values);
    walk.rows(this.#own, this.members);
    walk.rows(this.#seen, 1);
    for (let c = 0; c < contexts; c++) {
      walk.rows(this.#parts[c]!, quantileCount * this.#stride);
      walk.rows(this.#setAt[c]!, 1);
    }
  }

  /**
   * Scores a row's forecast; `endScoring` follows when all rows have been.
   * @param actual tokens/s that came
   * @param scale mean rate of the row
   * @param bases what the bases said, from `basesAt` on
   * @param externals quantiles of other forecasters, from `externalsAt` on; undefined or NaN where one had none
   * @param rate by how much own losses move on: see `ownRate`
   * @param pooled whether the row counts among all rows: where there are very many, some tell enough
   */
  score(
    row: number,
    context: number,
    actual: number,
    scale: number,
    bases: Float32Array,
    basesAt: number,
    externals: readonly (Float32Array | undefined)[],
    externalsAt: number,
    rate: number,
    pooled: boolean,
  ): void {
    const own = this.#own;
    const losses = this.#losses;
    let at = row * this.members;
    let m = 0;
    for (let q = 0; q < quantileCount; q++) {
      // The pinball loss at τ of a miss is (τ − ½)·miss + ½·|miss|: without a branch, which would be a coin toss.
      const lean = quantileLevels[q]! - 0.5;
      const level = this.#levels[q]!;
      let classicalLoss = 0;
      for (let b = 0; b < baseCount; b++) {
        const said = bases[basesAt + b]!;
        const multiples = b === 0 ? level.ofFirst : level.ofOthers;
        for (let f = 0; f < multiples.length; f++, m++, at++) {
          const miss = actual - multiples[f]! * said;
          const loss = lean * miss + 0.5 * Math.abs(miss);
          classicalLoss += loss;
          losses[m] = loss;
          const before = own[at]!;
          own[at] = before + rate * (loss - before);
        }
      }
      // Whoever had no forecast counts as a middling one: neither punished for it nor preferred.
      const middling = classicalLoss / level.classical;
      const multiples = level.ofExternals;
      for (let e = 0; e < externals.length; e++) {
        const said = externals[e]?.[externalsAt + q] ?? Number.NaN;
        for (let f = 0; f < multiples.length; f++, m++, at++) {
          const miss = actual - multiples[f]! * said;
          const loss = Number.isNaN(miss) ? middling : lean * miss + 0.5 * Math.abs(miss);
          losses[m] = loss;
          const before = own[at]!;
          own[at] = before + rate * (loss - before);
        }
      }
    }
    this.#seen[row]!++;
    if (!(pooled && scale > 0)) return;
    this.#rows[context]!++;
    const sum = this.#sum;
    const perScale = 1 / scale;
    for (let m = 0, to = context * this.members; m < losses.length; m++, to++) sum[to]! += losses[m]! * perScale;
  }

  /**
   * Lets a row's own losses fade by scorings in which neither it nor any forecaster of it said anything but 0.
   * @param scorings of the row
   * @param turns scorings of others from one of the row to its next, and one more
   * @param since scorings of others since its last
   */
  fade(row: number, scorings: number, turns: number, since: number): void {
    // Beyond that, what was lost no longer counts against what comes, but still says who was better.
    const kept = Math.max(leastKept, (1 - ownRate(turns)) ** scorings);
    for (let at = row * this.members; at < (row + 1) * this.members; at++) this.#own[at]! *= kept;
    const seen = this.#seen[row]! + scorings;
    this.#seen[row] = seen;
    // The weights that hold in silence were set anew every so often meanwhile, for the last time a little ago.
    const setAt = this.#setAt[0]!;
    let set = setAt[row]!;
    for (let wait = patience(set, turns > 1); set > 0 && seen - set >= wait; wait = patience(set, turns > 1))
      set += Math.ceil(wait);
    if (set === setAt[row]) return;
    setAt[row] = set;
    const scoring = Math.max(0, this.#scorings - since - (seen - set) * turns);
    const then = this.#silentExcess[scoring % mostRemembered]!;
    this.#weigh(0, row * this.members, set, this.#parts[0]!, row * quantileCount * this.#stride, then);
  }

  endScoring(): void {
    const rows = this.#rows;
    const all = rows.reduce((a, b) => a + b, 0);
    if (all > 0)
      for (let c = 0; c < contexts; c++) {
        const share = rows[c]! / all;
        this.#frequency[c]! += poolRate * (share - this.#frequency[c]!);
        if (share === 0) continue;
        // A context that few rows are in is averaged over as many forecasts as the others.
        const rate = poolRate * Math.min(1, share * contexts);
        for (let m = c * this.members; m < (c + 1) * this.members; m++)
          this.#loss[m]! += rate * (this.#sum[m]! / rows[c]! - this.#loss[m]!);
      }
    this.#sum.fill(0);
    rows.fill(0);
    this.#weighPool();
  }

  /**
   * Writes the weighted mean of a row's members per level.
   * @param patient whether weights may be a little old, as there are many rows
   * @param externals quantiles of other forecasters, from `at` on; undefined or NaN where one has none now
   * @param out one number per level; a lower level's may be the larger
   * @param classical the same of the classical members alone
   * @returns what did most: 0 the classical forecasters, 1 and up an external
   */
  mix(
    row: number,
    context: number,
    patient: boolean,
    bases: Float32Array,
    basesAt: number,
    externals: readonly (Float32Array | undefined)[],
    at: number,
    out: Float64Array,
    classical: Float64Array,
  ): number {
    const seen = this.#seen[row]!;
    const stride = this.#stride;
    let part = this.#pooledParts[context]!;
    let from = 0;
    if (seen > 0) {
      part = this.#parts[context]!;
      from = row * quantileCount * stride;
      const setAt = this.#setAt[context]!;
      const set = setAt[row]!;
      if (set === 0 || seen - set >= patience(set, patient)) {
        setAt[row] = seen;
        this.#weigh(context, row * this.members, seen, part, from);
      }
    }
    // All levels side by side: sums of one would wait for each other. Another number of them is for the compiler to find.
    quantileCount satisfies 5;
    const [one, two, three, four] = [from + stride, from + 2 * stride, from + 3 * stride, from + 4 * stride];
    let sum0 = 0;
    let sum1 = 0;
    let sum2 = 0;
    let sum3 = 0;
    let sum4 = 0;
    for (let b = 0; b < baseCount; b++) {
      const base = bases[basesAt + b]!;
      sum0 += part[from + b]! * base;
      sum1 += part[one + b]! * base;
      sum2 += part[two + b]! * base;
      sum3 += part[three + b]! * base;
      sum4 += part[four + b]! * base;
    }
    out[0] = sum0;
    out[1] = sum1;
    out[2] = sum2;
    out[3] = sum3;
    out[4] = sum4;
    const count = externals.length;
    let externalPart = 0;
    let heaviest = 0;
    let heaviestExternal = 0;
    for (let q = 0; q < quantileCount; q++, from += stride) {
      let sum = out[q]!;
      const shares = from + baseCount + count;
      let present = part[shares]!;
      const isHeard = present > leastPart;
      if (isHeard) classical[q] = sum / present;
      for (let e = 0; e < count; e++) {
        const external = externals[e];
        if (!external) continue;
        const value = external[at + q]!;
        if (Number.isNaN(value)) continue;
        const share = part[shares + 1 + e]!;
        sum += part[from + baseCount + e]! * value;
        present += share;
        externalPart += share;
        if (share > heaviest) {
          heaviest = share;
          heaviestExternal = e;
        }
      }
      // Where the members with all the weight are absent, the last value stands in.
      out[q] = present > leastPart ? sum / present : bases[basesAt]!;
      if (!isHeard) classical[q] = out[q]!;
    }
    return externalPart > quantileCount / 2 ? 1 + heaviestExternal : 0;
  }

  /** Discounted mean loss of the best moving average, of the demand one period ago, of the others; over all rows. */
  scores(): { classical: number; seasonal: number; externals: number[] } {
    const of = (m: number): number => {
      let sum = 0;
      for (let c = 0; c < contexts; c++) sum += this.#frequency[c]! * this.#loss[c * this.members + m]!;
      return sum;
    };
    const sums = { classical: 0, seasonal: 0, externals: new Array<number>(this.#externals).fill(0) };
    for (const { from, count, source } of this.#levels) {
      const best = new Array<number>(baseCount + this.#externals).fill(Number.POSITIVE_INFINITY);
      for (let m = 0; m < count; m++) best[source[m]!] = Math.min(best[source[m]!]!, of(from + m));
      sums.classical += Math.min(...best.filter((_, b) => b < seasonalBase));
      sums.seasonal += best[seasonalBase]!;
      for (let e = 0; e < this.#externals; e++) sums.externals[e]! += best[baseCount + e]!;
    }
    return sums;
  }

  /** What of the weights is the same for every row. */
  #weighPool(): void {
    const loss = this.#loss;
    for (let c = 0; c < contexts; c++) {
      for (const { from, count } of this.#levels) {
        const first = c * this.members + from;
        let best = Number.POSITIVE_INFINITY;
        for (let m = first; m < first + count; m++) if (loss[m]! < best) best = loss[m]!;
        for (let m = first; m < first + count; m++) this.#pooledExcess[m] = relative(loss[m]!, best);
      }
      this.#weigh(c, 0, 0, this.#pooledParts[c]!, 0);
    }
    this.#silentExcess[++this.#scorings % mostRemembered]!.set(this.#pooledExcess.subarray(0, this.members));
  }

  /**
   * @param block where the row's own losses begin
   * @param seen how often the row has been scored
   * @param to where in `part` its parts begin
   * @param pooledExcess by which part pooled losses exceed the best; default: as they are now
   */
  #weigh(
    context: number,
    block: number,
    seen: number,
    part: Float32Array,
    to: number,
    pooledExcess = this.#pooledExcess,
  ): void {
    const ownPart = (0.5 * seen) / (seen + ownTrust);
    const pooledPart = 1 - ownPart;
    const own = this.#own;
    const excess = this.#excess;
    const shares = baseCount + this.#externals;
    for (let q = 0; q < quantileCount; q++) {
      const { from, count, classical, source, factor } = this.#levels[q]!;
      const first = block + from;
      const pooled = context * this.members + from;
      let best = Number.POSITIVE_INFINITY;
      if (seen > 0) for (let m = first; m < first + count; m++) if (own[m]! < best) best = own[m]!;
      const perBest = best > 0 ? 1 / best : 0;
      let least = Number.POSITIVE_INFINITY;
      for (let m = 0; m < count; m++) {
        let beyond = pooledPart * pooledExcess[pooled + m]!;
        if (seen > 0) {
          const loss = own[first + m]!;
          beyond += ownPart * (best > 0 ? loss * perBest - 1 : relative(loss, best));
        }
        excess[m] = beyond;
        if (beyond < least) least = beyond;
      }
      const at = to + q * this.#stride;
      const learningRate = learningRates[q]!;
      for (let i = at; i < at + this.#stride; i++) part[i] = 0;
      let all = 0;
      let classicalShare = 0;
      for (let m = 0; m < count; m++) {
        const beyond = learningRate * (excess[m]! - least);
        if (beyond > mostBeyond) continue;
        const weight = expOfMinus(beyond);
        all += weight;
        part[at + source[m]!]! += weight * factor[m]!;
        if (m < classical) classicalShare += weight;
        else part[at + source[m]! - baseCount + shares + 1]! += weight;
      }
      part[at + shares] = classicalShare;
      const perAll = 1 / all;
      for (let i = at; i < at + this.#stride; i++) part[i]! *= perAll;
    }
  }
}

/** By which part a loss exceeds the best; where the best is perfect, any loss is far off. */
export const relative = (loss: number, best: number): number => (best > 0 ? loss / best - 1 : loss > 0 ? 2 : 0);

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
