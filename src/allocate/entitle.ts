import { type AllocationRequest, type AllocatorName, allocators } from './allocator.js';
import { maxMin } from './max-min.js';

/**
 * What each is given for itself where the rest is lent by weight: no more than it is expected to ask for, so that
 * what it would not use can be borrowed; and under `proportional` no more than its max-min share, because a greedy
 * target would else be given, for asking, what the others can only borrow. Floors are kept.
 */
export function entitle(name: AllocatorName, request: AllocationRequest): Float64Array {
  const { demandPerSec } = request;
  if (name !== 'proportional') return withoutSurplus(name, request);
  const wanted = maxMin(request);
  for (let i = 0; i < wanted.length; i++) wanted[i] = Math.min(demandPerSec[i]!, wanted[i]!);
  // Weights are in those shares already.
  const { weights: _, ...others } = request;
  return withoutSurplus(name, { ...others, demandPerSec: wanted });
}

/** What an allocator gives each, as far as its floor or what it is expected to ask for. */
export function withoutSurplus(name: AllocatorName, request: AllocationRequest): Float64Array {
  const { demandPerSec, floorPerSec } = request;
  const rates = allocators[name](request);
  for (let i = 0; i < rates.length; i++) {
    // A demand that is no number is none.
    const wanted = demandPerSec[i]! > 0 ? demandPerSec[i]! : 0;
    rates[i] = Math.max(Math.min(floorPerSec[i]!, rates[i]!), Math.min(rates[i]!, wanted));
  }
  return rates;
}
