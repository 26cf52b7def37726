import { quantileCount, quantileLevels } from './forecaster.js';
import { baseCount, contexts, grown, seasonalBase } from './streams.js';

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
/** Own losses count as much as those of all rows together once a row has this many. */
const ownTrust = 20;
/** How fast the losses of all rows are averaged, per scored step. */
const poolRate = 0.005;
/** e to the minus this: beyond it a member says nothing. */
const mostBeyond = 12;

/** Where rows are many, weights are set anew after so many scored forecasts; sooner while a row is young. */
const staleAfter = 8;

interface Level {
  /** First member of this level within a horizon's block of members. */
  from: number;
  count: number;
  classical: number;
  /** Where a member's share goes within the parts, and what it multiplies. */
  source: Uint8Array;
  factor: Float64Array;
}

/** Losses of the members at one horizon, over all rows. */
interface Pool {
  /** `[context * members + member]`, over each row's mean demand. */
  loss: Float64Array;
  /** By which part a loss exceeds the best one of its level. */
  excess: Float64Array;
  /** Weights by these losses alone: those of a row that has not been scored yet. */
  parts: Float32Array;
  /** Part of the scored forecasts that fell into each context. */
  frequency: Float64Array;
  // Sums of the scoring under way.
  sum: Float64Array;
  rows: Float64Array;
}

/**
 * How much each row trusts each forecaster, per horizon, quantile level and context. A weight falls exponentially
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
  readonly parts: number;
  readonly #externals: number;
  readonly #horizons: number;
  readonly #levels: Level[] = [];
  readonly #pools: Pool[];
  readonly #excess: Float64Array;
  readonly #losses: Float64Array;
  #own = new Float32Array(0);
  #seen = new Float32Array(0);
  #part = new Float32Array(0);
  /** Forecasts scored when the parts were set; 0: never. */
  #setAt = new Float32Array(0);

  constructor(horizons: number, externals: number) {
    this.#horizons = horizons;
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
      const level = { from, count: source.length, classical };
      this.#levels.push({ ...level, source: Uint8Array.from(source), factor: Float64Array.from(factor) });
      from += source.length;
    }
    this.members = from;
    this.parts = baseCount + externals + 1 + externals;
    const mostMembers = Math.max(...this.#levels.map((level) => level.count));
    this.#excess = new Float64Array(mostMembers);
    this.#losses = new Float64Array(mostMembers);
    this.#pools = Array.from({ length: horizons }, () => ({
      loss: new Float64Array(contexts * from),
      excess: new Float64Array(contexts * from),
      parts: new Float32Array(contexts * quantileCount * this.parts),
      frequency: new Float64Array(contexts),
      sum: new Float64Array(contexts * from),
      rows: new Float64Array(contexts),
    }));
    for (const pool of this.#pools) this.#weighPool(pool);
  }

  grow(rows: number): void {
    const places = rows * this.#horizons;
    this.#own = grown(this.#own, places * this.members);
    this.#seen = grown(this.#seen, places);
    this.#part = grown(this.#part, places * contexts * quantileCount * this.parts);
    this.#setAt = grown(this.#setAt, places * contexts);
  }

  reset(row: number): void {
    const places = [row * this.#horizons, (row + 1) * this.#horizons] as const;
    this.#own.fill(0, places[0] * this.members, places[1] * this.members);
    this.#seen.fill(0, ...places);
    this.#setAt.fill(0, places[0] * contexts, places[1] * contexts);
  }

  /** Takes over what another's row has been scored. Both have the same members. */
  adopt(other: Weights, from: number, row: number): void {
    const horizons = this.#horizons;
    const width = horizons * this.members;
    this.reset(row);
    this.#own.set(other.#own.subarray(from * width, (from + 1) * width), row * width);
    this.#seen.set(other.#seen.subarray(from * horizons, (from + 1) * horizons), row * horizons);
  }

  /**
   * Scores a row's forecast; `endScoring` follows when all rows of the horizon have been.
   * @param actual tokens/s that came
   * @param scale mean rate of the row
   * @param bases what the bases said, from `basesAt` on
   * @param externals quantiles of other forecasters, from `externalsAt` on; NaN or undefined where one had none
   * @param turns only every so many forecasts of a row are scored, so each counts for as many
   * @param pooled whether the row counts among all rows: where there are very many, some tell enough
   */
  score(
    h: number,
    row: number,
    context: number,
    actual: number,
    scale: number,
    bases: Float32Array,
    basesAt: number,
    externals: readonly (Float32Array | undefined)[],
    externalsAt: number,
    turns: number,
    pooled: boolean,
  ): void {
    const place = row * this.#horizons + h;
    const pool = this.#pools[h]!;
    const { sum } = pool;
    const own = this.#own;
    const rate = turns === 1 ? 1 - ownDecay : 1 - ownDecay ** turns;
    const perScale = scale > 0 ? 1 / scale : 0;
    const adds = pooled && scale > 0;
    if (adds) pool.rows[context]!++;
    const losses = this.#losses;
    for (let q = 0; q < quantileCount; q++) {
      // The pinball loss at τ of a miss is (τ − ½)·miss + ½·|miss|: without a branch, which would be a coin toss.
      const lean = quantileLevels[q]! - 0.5;
      const { from, count, classical, source, factor } = this.#levels[q]!;
      let classicalLoss = 0;
      let m = 0;
      for (; m < classical; m++) {
        const miss = actual - factor[m]! * bases[basesAt + source[m]!]!;
        const loss = lean * miss + 0.5 * Math.abs(miss);
        classicalLoss += loss;
        losses[m] = loss;
      }
      for (; m < count; m++) {
        const forecast = externals[source[m]! - baseCount]?.[externalsAt + q] ?? Number.NaN;
        const miss = actual - factor[m]! * forecast;
        // Whoever had no forecast counts as a middling one: neither punished for it nor preferred.
        losses[m] = Number.isNaN(forecast) ? classicalLoss / classical : lean * miss + 0.5 * Math.abs(miss);
      }
      const at = place * this.members + from;
      for (m = 0; m < count; m++) {
        const before = own[at + m]!;
        own[at + m] = before + rate * (losses[m]! - before);
      }
      if (!adds) continue;
      const pooledAt = context * this.members + from;
      for (m = 0; m < count; m++) sum[pooledAt + m]! += losses[m]! * perScale;
    }
    this.#seen[place]!++;
  }

  endScoring(h: number): void {
    const pool = this.#pools[h]!;
    const { loss, sum, rows, frequency } = pool;
    const all = rows.reduce((a, b) => a + b, 0);
    if (all > 0)
      for (let c = 0; c < contexts; c++) {
        const share = rows[c]! / all;
        frequency[c]! += poolRate * (share - frequency[c]!);
        if (share === 0) continue;
        // A context that few rows are in is averaged over as many forecasts as the others.
        const rate = poolRate * Math.min(1, share * contexts);
        for (let m = c * this.members; m < (c + 1) * this.members; m++)
          loss[m]! += rate * (sum[m]! / rows[c]! - loss[m]!);
      }
    sum.fill(0);
    rows.fill(0);
    this.#weighPool(pool);
  }

  /** Array in which `placeOf` finds parts. */
  partsOf(h: number, row: number): Float32Array {
    return this.#seen[row * this.#horizons + h] === 0 ? this.#pools[h]!.parts : this.#part;
  }

  /**
   * Where a row's parts begin, level after level.
   * @param patient whether they may be a little old, as there are many rows
   */
  placeOf(h: number, row: number, context: number, patient: boolean): number {
    const place = row * this.#horizons + h;
    const seen = this.#seen[place]!;
    const size = quantileCount * this.parts;
    if (seen === 0) return context * size;
    const set = place * contexts + context;
    const setAt = this.#setAt[set]!;
    if (setAt === 0 || seen - setAt >= (patient ? Math.min(staleAfter, setAt / 2) : 1)) {
      this.#setAt[set] = seen;
      this.#weigh(this.#pools[h]!, context, place * this.members, seen, this.#part, set * size);
    }
    return set * size;
  }

  /** Discounted mean loss of the best moving average, of the demand one period ago, of the others; over all rows, per horizon. */
  scores(): { classical: number; seasonal: number; externals: number[] }[] {
    return this.#pools.map(({ loss, frequency }) => {
      const of = (m: number): number => {
        let sum = 0;
        for (let c = 0; c < contexts; c++) sum += frequency[c]! * loss[c * this.members + m]!;
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
    });
  }

  /** What of the weights is the same for every row. */
  #weighPool(pool: Pool): void {
    const { loss, excess, parts } = pool;
    for (let c = 0; c < contexts; c++) {
      for (const { from, count } of this.#levels) {
        const first = c * this.members + from;
        let best = Number.POSITIVE_INFINITY;
        for (let m = first; m < first + count; m++) if (loss[m]! < best) best = loss[m]!;
        for (let m = first; m < first + count; m++) excess[m] = relative(loss[m]!, best);
      }
      this.#weigh(pool, c, 0, 0, parts, c * quantileCount * this.parts);
    }
  }

  /**
   * @param block where the row's own losses begin
   * @param seen how often the row has been scored
   * @param to where in `part` its parts begin
   */
  #weigh(pool: Pool, context: number, block: number, seen: number, part: Float32Array, to: number): void {
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
        let beyond = pooledPart * pool.excess[pooled + m]!;
        if (seen > 0) {
          const loss = own[first + m]!;
          beyond += ownPart * (best > 0 ? loss * perBest - 1 : relative(loss, best));
        }
        excess[m] = beyond;
        if (beyond < least) least = beyond;
      }
      const at = to + q * this.parts;
      const learningRate = learningRates[q]!;
      for (let i = at; i < at + this.parts; i++) part[i] = 0;
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
      for (let i = at; i < at + this.parts; i++) part[i]! *= perAll;
    }
  }
}

/** By which part a loss exceeds the best; where the best is perfect, any loss is far off. */
const relative = (loss: number, best: number): number => (best > 0 ? loss / best - 1 : loss > 0 ? 2 : 0);

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
