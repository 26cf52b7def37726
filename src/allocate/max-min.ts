import type { Allocator } from './allocator.js';
import { claimsOf, exactSum, fill, trim } from './fill.js';

/**
 * Weighted water-filling: a level rises over all targets at once, each by its weight, from its floor until
 * its demand is met; so nobody gets more than it needs while another of its weight gets less. When all
 * demands are met, the water rises on, in proportion to the weights, up to the limits.
 */
export const maxMin: Allocator = (request) => {
  const { demand, floor, weight, limit, ratePerSec, count } = claimsOf(request);
  const wanted = new Float64Array(count);
  for (let i = 0; i < count; i++) wanted[i] = Math.max(floor[i]!, Math.min(demand[i]!, limit[i]!));
  let rates = fill(new Float64Array(count), weight, floor, wanted, ratePerSec);
  for (const rest of [weight, undefined]) {
    if (exactSum(rates) >= ratePerSec * (1 - 1e-12)) break;
    rates = fill(rates, rest ?? new Float64Array(count).fill(1), rates, limit, ratePerSec);
  }
  return trim(rates, ratePerSec);
};
