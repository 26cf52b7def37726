import { maxMinShares } from './shares.js';

/** Who could use how much until the next tick. Arrays have one entry per target; rates in tokens/s. */
export interface Needs {
  count: number;
  /** What each can use: what its bucket lacks and what it is seen to ask for. */
  needPerSec: Float64Array;
  /** What each has in any case, together at most `ratePerSec`. */
  floorPerSec: Float64Array;
  weights: Float64Array;
  /** What each may have before others, because it took less than its share until now. */
  savedPerSec: Float64Array;
  ratePerSec: number;
}

/**
 * Rates until the next tick where a reservoir cannot hold what is to be lent: what a full bucket in no use would let
 * overflow flows to those who are short instead, first as far as their savings, then by weight, max-min.
 * @param out receives the rates, each at least its floor
 * @returns what nobody can use, tokens/s
 */
export function lendRates(needs: Needs, out: Float64Array): number {
  const { count, needPerSec, floorPerSec, weights, savedPerSec, ratePerSec } = needs;
  const wants = new Float64Array(count);
  const shares = new Float64Array(count);
  let left = ratePerSec;
  for (let i = 0; i < count; i++) {
    out[i] = floorPerSec[i]!;
    left -= out[i]!;
  }
  for (const most of [savedPerSec, needPerSec]) {
    for (let i = 0; i < count; i++) {
      const open = Math.max(0, needPerSec[i]! - out[i]!);
      wants[i] = weights[i]! > 0 ? Math.min(most[i]!, open) : 0;
    }
    left = maxMinShares(wants, weights, count, left, shares);
    for (let i = 0; i < count; i++) out[i]! += shares[i]!;
  }
  return left;
}
