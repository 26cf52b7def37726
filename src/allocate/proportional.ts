import type { Allocator } from './allocator.js';
import { claimsOf, exactSum, fill, trim } from './fill.js';

/**
 * Each gets its floor; the rest is shared in proportion to weight × demand, or to weight alone when nobody
 * asks for anything. What limits leave over goes to the others in the same proportions.
 */
export const proportional: Allocator = (request) => {
  const { demand, floor, weight, limit, ratePerSec, count } = claimsOf(request);
  const largestDemand = demand.reduce((a, b) => Math.max(a, b), 0);
  const heaviest = weight.reduce((a, b) => Math.max(a, b), 0);
  // Normalised, so that the product of two huge numbers is still a number.
  const pull = demand.map((d, i) => (largestDemand > 0 ? d / largestDemand : 0) * (weight[i]! / (heaviest || 1)));
  let rates = fill(floor, pull, floor, limit, ratePerSec);
  for (const rest of [weight, new Float64Array(count).fill(1)]) {
    if (exactSum(rates) >= ratePerSec * (1 - 1e-12)) break;
    rates = fill(rates, rest, rates, limit, ratePerSec);
  }
  return trim(rates, ratePerSec);
};
