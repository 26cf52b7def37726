import type { AllocationRequest } from './allocator.js';

/** A request with every number made usable: finite, not negative, floors within limits and rate. */
export interface Claims {
  count: number;
  ratePerSec: number;
  demand: Float64Array;
  floor: Float64Array;
  weight: Float64Array;
  limit: Float64Array;
}

const usable = (value: number | undefined, most: number): number =>
  value !== undefined && value > 0 ? Math.min(value, most) : 0;

/** The table's bound on a rate; below it no sum over targets can overflow. */
export const largestRate = 1e15;

export function claimsOf(request: AllocationRequest): Claims {
  const count = request.demandPerSec.length;
  const ratePerSec = usable(request.ratePerSec, largestRate);
  const { weights, limits } = request;
  const claims: Claims = {
    count,
    ratePerSec,
    demand: new Float64Array(count),
    floor: new Float64Array(count),
    weight: new Float64Array(count),
    limit: new Float64Array(count),
  };
  for (let i = 0; i < count; i++) {
    claims.demand[i] = usable(request.demandPerSec[i], Number.MAX_VALUE);
    claims.limit[i] = limits ? usable(limits[i], ratePerSec) : ratePerSec;
    claims.floor[i] = usable(request.floorPerSec[i], claims.limit[i]!);
    claims.weight[i] = weights ? usable(weights[i], Number.MAX_VALUE) : 1;
  }
  const owed = exactSum(claims.floor);
  if (owed > ratePerSec) for (let i = 0; i < count; i++) claims.floor[i]! *= ratePerSec / owed;
  return claims;
}

/** Neumaier's compensated sum: right to the last bit but one, whatever the order and the ratios. */
export function exactSum(values: ArrayLike<number>): number {
  let sum = 0;
  let lost = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    const next = sum + value;
    lost += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum;
    sum = next;
  }
  return sum + lost;
}

/** Rounding may lift a sum over what there is by a few units in the last place; the largest gives them up. */
export function trim(rates: Float64Array, ratePerSec: number): Float64Array {
  for (let excess = exactSum(rates) - ratePerSec; excess > 0; excess = exactSum(rates) - ratePerSec) {
    let largest = 0;
    for (let i = 1; i < rates.length; i++) if (rates[i]! > rates[largest]!) largest = i;
    // Twice the excess: a difference below the largest's own last place would change nothing.
    rates[largest] = Math.max(0, rates[largest]! - Math.max(2 * excess, rates[largest]! * Number.EPSILON));
  }
  return rates;
}

/**
 * Raises one common level until the shares of all add up to `total`: share i at a level is
 * `offset[i] + slope[i] * level`, kept within `least[i]` and `most[i]`. The sum is piecewise linear in the level, so
 * Newton's method solves it exactly once it is on the right piece, which takes a few passes. A bracket keeps it from
 * running off where the sum is flat or bends both ways; it is halved in the logarithm, so no ratio of slopes is too
 * large.
 * @returns the shares; all at `most` when these add up to less than `total`
 */
export function fill(
  offset: Float64Array,
  slope: Float64Array,
  least: Float64Array,
  most: Float64Array,
  total: number,
): Float64Array<ArrayBuffer> {
  const count = offset.length;
  let steepest = 0;
  for (let i = 0; i < count; i++) steepest = Math.max(steepest, slope[i]!);
  const shares = new Float64Array(count);
  /** Slope of the sum just above the level that was raised to last, over the steepest. */
  let rising = 0;
  /** @returns the sum, exactly */
  const raiseTo = (level: number): number => {
    let up = 0;
    let sum = 0;
    let lost = 0;
    for (let i = 0; i < count; i++) {
      const s = slope[i]! > 0 ? slope[i]! / steepest : 0;
      const reached = offset[i]! + s * level;
      let share = reached < most[i]! ? reached : most[i]!;
      if (share < least[i]!) share = least[i]!;
      else if (reached < most[i]!) up += s;
      shares[i] = share;
      const next = sum + share;
      const taken = next - sum;
      lost += sum - (next - taken) + (share - taken);
      sum = next;
    }
    rising = up;
    return sum + lost;
  };
  if (steepest === 0) {
    raiseTo(0);
    return shares;
  }
  if (raiseTo(Number.MAX_VALUE) <= total) return shares;

  // Below the lowest corner all have their least, above the highest their most.
  let lowest = Number.MAX_VALUE;
  let highest = 0;
  for (let i = 0; i < count; i++) {
    if (!(slope[i]! > 0)) continue;
    const s = slope[i]! / steepest;
    const from = (least[i]! - offset[i]!) / s;
    const to = (most[i]! - offset[i]!) / s;
    if (from < lowest) lowest = from;
    if (to > highest) highest = to;
  }
  let below = 0; // a level at which the sum is at most the total, or 0
  let above = Math.min(highest, Number.MAX_VALUE);
  // A few last places beyond its corner, the lowest is sure to rise.
  let level = Math.max(0, Math.min(lowest * (1 + 4 * Number.EPSILON), above));
  for (let pass = 1; ; pass++) {
    const missing = total - raiseTo(level);
    if (Math.abs(missing) <= 4 * Number.EPSILON * total) return shares;
    if (missing < 0 && pass === 1) break;
    if (missing > 0) below = level;
    else above = level;
    let next = level + missing / rising;
    // Halving every fourth time bounds the passes.
    if (!(next > below && next < above) || pass % 4 === 0) next = middleOf(below, above);
    if (!(next > below && next < above)) break;
    level = next;
  }
  raiseTo(below);
  return shares;
}

/** Halfway between two levels: of their logarithms while they are far apart. */
function middleOf(low: number, high: number): number {
  if (high < 4 * low) return low + (high - low) / 2;
  return Math.sqrt(Math.max(low, Number.MIN_VALUE)) * Math.sqrt(high);
}

/** Whether nothing of a rate is left but what rounding may have kept. */
export const isGivenOut = (rates: Float64Array, ratePerSec: number): boolean =>
  exactSum(rates) >= ratePerSec * (1 - 1e-12);

/**
 * Shares what is left of a rate by weight, and what nobody with a weight may take, equally.
 * @param most of each
 */
export function shareRest(
  rates: Float64Array<ArrayBuffer>,
  weight: Float64Array,
  most: Float64Array,
  ratePerSec: number,
): Float64Array<ArrayBuffer> {
  let shared = rates;
  for (const by of [weight, undefined]) {
    if (isGivenOut(shared, ratePerSec)) break;
    shared = fill(shared, by ?? new Float64Array(shared.length).fill(1), shared, most, ratePerSec);
  }
  return shared;
}

/**
 * Fills buckets up to sizes in the proportion of `claims`: gives max(0, c · claim - held), with the one c at which
 * the gifts add up to the budget. Whoever already has more than its size drops out, which lowers c for the others, so
 * nobody comes back and a few passes settle it.
 * @param out receives the gifts; may be `claims`. All equal when nobody claims anything
 * @param guess of c; a good one saves passes
 * @returns c; Infinity when nobody claims anything
 */
export function topUp(
  claims: Float64Array,
  held: ArrayLike<number>,
  count: number,
  budget: number,
  out: Float64Array,
  guess = Number.POSITIVE_INFINITY,
): number {
  let scale = guess;
  for (let settled = false, isGuess = guess < Number.POSITIVE_INFINITY; !settled; isGuess = false) {
    let claimed = 0;
    let has = budget;
    for (let i = 0; i < count; i++) {
      if (!(scale * claims[i]! > held[i]!)) continue;
      claimed += claims[i]!;
      has += Math.max(0, held[i]!);
    }
    if (!(claimed > 0) && !isGuess) {
      out.fill(budget / count, 0, count);
      return Number.POSITIVE_INFINITY;
    }
    // Whoever a guess leaves out wrongly makes the next scale too high, never too low.
    const next = claimed > 0 ? has / claimed : Number.POSITIVE_INFINITY;
    settled = !isGuess && next >= scale;
    scale = isGuess ? next : Math.min(scale, next);
  }
  for (let i = 0; i < count; i++) out[i] = Math.max(0, scale * claims[i]! - Math.max(0, held[i]!));
  return scale;
}
