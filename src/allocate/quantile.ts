import { quantileCount, quantileLevels } from '../forecast/forecaster.js';

/** Which two neighbouring quantiles of every row to mix, and how: the same for all rows at one probability. */
export interface Place {
  /** Index of the lower of the two levels; -1: between nothing at probability 0 and the lowest level. */
  segment: number;
  /** 0 at the lower level, 1 at the upper; above 1 in the tail beyond the highest level. */
  fraction: number;
}

const last = quantileCount - 1;
/** An exponential tail through the two highest levels: equal distances in -ln(1 - p) are equal in demand. */
const tailUnit = Math.log((1 - quantileLevels[last - 1]!) / (1 - quantileLevels[last]!));

function placeOf(probability: number): Place {
  if (probability >= quantileLevels[last]!) {
    const beyond = Math.log((1 - quantileLevels[last]!) / Math.max(1 - probability, Number.MIN_VALUE));
    return { segment: last - 1, fraction: 1 + beyond / tailUnit };
  }
  let segment = -1;
  while (quantileLevels[segment + 1]! <= probability) segment += 1;
  const low = segment < 0 ? 0 : quantileLevels[segment]!;
  return { segment, fraction: (probability - low) / (quantileLevels[segment + 1]! - low) };
}

/** The place of a probability. What was asked for last is kept: most rows have the same. */
export class Places {
  #probability = Number.NaN;
  #place: Place = { segment: 0, fraction: 0 };

  of(probability: number): Place {
    if (probability !== this.#probability) {
      this.#probability = probability;
      this.#place = placeOf(probability);
    }
    return this.#place;
  }
}

/** A row's quantile at a place: see `quantileAt`. */
export const valueAt = (values: ArrayLike<number>, at: number, place: Place): number => {
  const low = place.segment < 0 ? 0 : values[at + place.segment]!;
  return low + place.fraction * (values[at + place.segment + 1]! - low);
};

/**
 * A row's quantile at any probability: linear in probability between the forecast levels and from zero
 * demand at probability 0, an exponential tail beyond the highest.
 * @param values quantiles at `quantileLevels`, ascending, from index `at` on
 * @param probability from 0 up to but not including 1
 */
export const quantileAt = (values: ArrayLike<number>, at: number, probability: number): number =>
  valueAt(values, at, placeOf(probability));

/**
 * The mean of a row's demand, as far as its quantiles tell: of what `quantileAt` gives over all probabilities.
 * @param values quantiles at `quantileLevels`, ascending, from index `at` on
 */
export function meanOf(values: ArrayLike<number>, at: number): number {
  let mean = 0;
  let lower = 0;
  let level = 0;
  for (let i = 0; i <= last; i++) {
    const upper = values[at + i]!;
    mean += ((quantileLevels[i]! - level) * (lower + upper)) / 2;
    lower = upper;
    level = quantileLevels[i]!;
  }
  // An exponential tail lies as far beyond where it begins, on average, as its unit.
  return mean + (1 - level) * (lower + (lower - values[at + last - 1]!) / tailUnit);
}

/** A denied token counts as much as this many that lie idle: the 0.97 quantile is what is given. */
export const defaultThrottlingCost = 32;

export interface Needs {
  rows: number;
  /** Quantiles of each row's demand, any unit: of row i at `quantiles[i * stride + offset + level]`. */
  quantiles: ArrayLike<number>;
  stride: number;
  offset: number;
  /** What each row holds already, in that unit. */
  held: ArrayLike<number>;
  /** What each row gets in any case, in that unit. */
  least: ArrayLike<number>;
  /** What there is to give, in that unit. */
  budget: number;
  /** What demand of each that stays unserved costs, a token, above 0; only ratios count. Default: all equal. */
  costs?: ArrayLike<number>;
}

/** Probabilities run up to 1 - e^-30, beyond which a double between 0.99 and 1 says nothing. */
const mostNats = 30;
/** How closely the probability is found, in nats, unless the budget is met this exactly before, as a part of it. */
const leastNats = mostNats / 2 ** 40;
const exactly = 1e-12;

/**
 * Divides a budget so that the demand left unserved costs least in expectation: minimise Σ costᵢ E[(Dᵢ - heldᵢ -
 * giveᵢ)⁺] subject to Σ giveᵢ = budget. At the optimum every row that gets anything beyond its least has the
 * same cost times probability of asking for more than it has (the Lagrange condition of the newsvendor problem
 * with one shared stock); with equal costs the gifts are one common quantile less what is held.
 * @param out receives the gifts, one per row; they add up to the budget unless even the farthest tails need
 *   less, and to more only when the least do
 * @returns the common probability of demand being covered, at the largest cost
 */
export function commonQuantile(needs: Needs, out: Float64Array): number {
  const { rows, quantiles, stride, offset, held, least, budget, costs } = needs;
  let dearest = 0;
  let cheapest = Number.POSITIVE_INFINITY;
  for (let row = 0; row < rows; row++) {
    dearest = Math.max(dearest, costs?.[row] ?? 1);
    cheapest = Math.min(cheapest, costs?.[row] ?? 1);
  }
  const varies = costs !== undefined && cheapest < dearest;
  const giveAt = (nats: number): number => {
    let { segment, fraction } = placeOf(-Math.expm1(-nats));
    let sum = 0;
    for (let row = 0, at = offset; row < rows; row++, at += stride) {
      // The chance of more times its cost is what all have in common.
      if (varies) ({ segment, fraction } = placeOf(-Math.expm1(-Math.max(0, nats + Math.log(costs[row]! / dearest)))));
      const lower = segment < 0 ? 0 : quantiles[at + segment]!;
      const holds = held[row]! > 0 ? held[row]! : 0;
      const wanted = lower + fraction * (quantiles[at + segment + 1]! - lower) - holds;
      const give = wanted > least[row]! ? wanted : least[row]!;
      out[row] = give;
      sum += give;
    }
    return sum;
  };
  let low = 0;
  let high = mostNats;
  let above = giveAt(high) - budget;
  if (above <= 0) return -Math.expm1(-high);
  let below = giveAt(low) - budget;
  // Regula falsi: an end that stays twice counts half as far off (the Illinois rule), and every eighth time the bracket
  // is halved instead, so that no shape of the sum takes long.
  let stayed = 0;
  for (let pass = 1; below < 0 && high - low > leastNats; pass++) {
    let nats = low + ((high - low) * below) / (below - above);
    if (!(nats > low && nats < high) || pass % 8 === 0) nats = (low + high) / 2;
    const off = giveAt(nats) - budget;
    if (off > 0) {
      high = nats;
      above = off;
      if (stayed < 0) below /= 2;
      stayed = -1;
    } else {
      low = nats;
      if (off >= -exactly * budget) break;
      below = off;
      if (stayed > 0) above /= 2;
      stayed = 1;
    }
  }
  giveAt(low);
  return -Math.expm1(-low);
}
