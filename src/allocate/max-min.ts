import type { Allocator } from './allocator.js';
import { claimsOf, fill, shareRest, trim } from './fill.js';

/**
 * Weighted water-filling: a level rises over all targets at once, each by its weight, from its floor until
 * its demand is met; so nobody gets more than it needs while another of its weight gets less. When all
 * demands are met, the water rises on, in proportion to the weights, up to the limits.
 */
export const maxMin: Allocator = (request) => {
  const { demand, floor, weight, limit, ratePerSec, count } = claimsOf(request);
  const wanted = new Float64Array(count);
  for (let i = 0; i < count; i++) wanted[i] = Math.max(floor[i]!, Math.min(demand[i]!, limit[i]!));
  const rates = fill(new Float64Array(count), weight, floor, wanted, ratePerSec);
  return trim(shareRest(rates, weight, limit, ratePerSec), ratePerSec);
};
