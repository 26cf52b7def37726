import type { Allocator } from './allocator.js';
import { claimsOf, fill, shareRest, trim } from './fill.js';

/**
 * Each gets its floor; the rest is shared in proportion to weight × demand, or to weight alone when nobody
 * asks for anything. What limits leave over goes to the others in the same proportions.
 */
export const proportional: Allocator = (request) => {
  const { demand, floor, weight, limit, ratePerSec, count } = claimsOf(request);
  let largestDemand = 0;
  let heaviest = 0;
  for (let i = 0; i < count; i++) {
    if (demand[i]! > largestDemand) largestDemand = demand[i]!;
    if (weight[i]! > heaviest) heaviest = weight[i]!;
  }
  // Normalised, so that the product of two huge numbers is still a number.
  const pull = new Float64Array(count);
  if (largestDemand > 0)
    for (let i = 0; i < count; i++) pull[i] = (demand[i]! / largestDemand) * (weight[i]! / (heaviest || 1));
  const rates = fill(floor, pull, floor, limit, ratePerSec);
  return trim(shareRest(rates, weight, limit, ratePerSec), ratePerSec);
};
