import { ForetokenError } from '../errors.js';
import { type CreditBook, credit } from './credit.js';
import { maxMin } from './max-min.js';
import { proportional } from './proportional.js';

/** What an allocator divides, and among whom. All arrays have one entry per target. */
export interface AllocationRequest {
  /** What each is expected to ask for, tokens/s. NaN and negative count as 0, Infinity as more than there is. */
  demandPerSec: ArrayLike<number>;
  /** What each is owed whatever it asks for, tokens/s. Scaled down together if they exceed the rate. */
  floorPerSec: ArrayLike<number>;
  /** Default: all equal. A target without weight gets its floor, and a surplus only when nobody has any. */
  weights?: ArrayLike<number>;
  /** What each may never exceed, tokens/s; default: none. A floor above its limit counts as the limit. */
  limits?: ArrayLike<number>;
  /** Tokens/s to divide; anything above 1e15 counts as that. */
  ratePerSec: number;
  /**
   * Accounts that `credit` goes by, the slot of each target in them, and for how long the allocation is to hold;
   * default: all equal, and none kept.
   */
  accounts?: { book: CreditBook; slots: ArrayLike<number>; seconds: number };
}

/**
 * Divides a rate. Every target gets at least its floor and at most its limit; the sum never exceeds the
 * rate, and falls short of it, beyond rounding, only when all are at their limits. A surplus over
 * everybody's demand is shared out too: without borrowing, a token that lies unallocated serves nobody.
 * @returns tokens/s per target
 */
export type Allocator = (request: AllocationRequest) => Float64Array;

export const allocators = { proportional, 'max-min': maxMin, credit } as const satisfies Record<string, Allocator>;

export type AllocatorName = keyof typeof allocators;

export const allocatorNames = Object.keys(allocators) as AllocatorName[];

/** @throws ForetokenError INVALID_OPTION */
export function allocatorNamed(name: string): Allocator {
  if (Object.hasOwn(allocators, name)) return allocators[name as AllocatorName];
  throw new ForetokenError('INVALID_OPTION', `allocator: expected ${allocatorNames.join(' or ')}, got ${name}`);
}
