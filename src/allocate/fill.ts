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
 * `offset[i] + slope[i] * level`, kept within `least[i]` and `most[i]`. The sum is piecewise linear in the
 * level, so the piece is found by bisection over the sorted corners and solved exactly: O(n log n), and no
 * ratio of slopes is too large.
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
  const raiseTo = (level: number): Float64Array<ArrayBuffer> => {
    for (let i = 0; i < count; i++) {
      const rise = slope[i]! > 0 ? (slope[i]! / steepest) * level : 0;
      shares[i] = Math.max(least[i]!, Math.min(most[i]!, offset[i]! + rise));
    }
    return shares;
  };
  if (steepest === 0) return raiseTo(0);

  const corners: number[] = [];
  for (let i = 0; i < count; i++) {
    const s = slope[i]! / steepest;
    if (s === 0) continue;
    for (const bound of [least[i]!, most[i]!]) {
      const at = (bound - offset[i]!) / s;
      if (at > 0 && at < Number.POSITIVE_INFINITY) corners.push(at);
    }
  }
  const sorted = Float64Array.from(corners).sort();
  if (exactSum(raiseTo(Number.MAX_VALUE)) <= total) return shares;
  let below = 0; // a level at which the sum is at most the total, or 0
  let from = 0;
  let to = sorted.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (exactSum(raiseTo(sorted[middle]!)) <= total) {
      below = sorted[middle]!;
      from = middle + 1;
    } else to = middle;
  }
  const above = to < sorted.length ? sorted[to]! : Number.MAX_VALUE;
  const missing = total - exactSum(raiseTo(below));
  let rising = 0;
  for (let i = 0; i < count; i++) {
    const s = slope[i]! / steepest;
    const reached = offset[i]! + s * below;
    if (s > 0 && reached >= least[i]! && reached < most[i]!) rising += s;
  }
  return raiseTo(rising > 0 ? Math.min(above, below + Math.max(0, missing) / rising) : below);
}

/**
 * Fills buckets up to sizes in the proportion of `claims`: gives max(0, c · claim - held), with the one c at which
 * the gifts add up to the budget. Whoever already has more than its size drops out, which lowers c for the others, so
 * nobody comes back and a few passes settle it.
 * @param out receives the gifts; may be `claims`. All equal when nobody claims anything
 */
export function topUp(
  claims: Float64Array,
  held: ArrayLike<number>,
  count: number,
  budget: number,
  out: Float64Array,
): void {
  let scale = Number.POSITIVE_INFINITY;
  for (let settled = false; !settled; ) {
    let claimed = 0;
    let has = budget;
    for (let i = 0; i < count; i++) {
      if (!(scale * claims[i]! > held[i]!)) continue;
      claimed += claims[i]!;
      has += Math.max(0, held[i]!);
    }
    if (!(claimed > 0)) {
      out.fill(budget / count, 0, count);
      return;
    }
    settled = has / claimed >= scale;
    scale = Math.min(scale, has / claimed);
  }
  for (let i = 0; i < count; i++) out[i] = Math.max(0, scale * claims[i]! - Math.max(0, held[i]!));
}
