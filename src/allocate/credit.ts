import { grown } from '../grown.js';
import type { Allocator } from './allocator.js';
import { claimsOf, exactSum, fill, isGivenOut, shareRest, trim } from './fill.js';

/** Part of its fair share that each is guaranteed; the rest is for whoever has credits. Karma's α. */
const guaranteedPart = 0.5;
/** Credits lie within so many seconds of a fair share around the mean: no balance buys more than that. */
const mostSeconds = 300;

/** What each target's account will gain a second under the last allocation, tokens per unit of weight. */
interface Terms {
  slots: ArrayLike<number>;
  gain: Float64Array;
  fairPerWeight: number;
}

/**
 * Who has left how much of its share to others, and who has taken it: tokens per unit of weight, by slot, around
 * a mean of zero. The accounts of `credit`, kept from step to step.
 */
export class CreditBook {
  #balance = new Float64Array(64);
  #terms: Terms | undefined;

  balance(slot: number): number {
    return this.#balance[slot] ?? 0;
  }

  /** Takes an account up from where it was. */
  restore(slot: number, balance: number): void {
    this.#grow(slot + 1);
    this.#balance[slot] = Number.isFinite(balance) ? balance : 0;
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    if (slot < this.#balance.length) this.#balance[slot] = 0;
  }

  /** What an allocation means for the accounts for as long as it holds. The last one before `settle` counts. */
  agree(slots: ArrayLike<number>, gain: Float64Array, fairPerWeight: number): void {
    this.#terms = { slots, gain, fairPerWeight };
  }

  /** Books a time in which the last allocation held. */
  settle(seconds: number): void {
    if (!this.#terms) return;
    const { slots, gain, fairPerWeight } = this.#terms;
    const count = slots.length;
    let mean = 0;
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      this.#grow(slot + 1);
      this.#balance[slot]! += gain[i]! * seconds;
      mean += this.#balance[slot]! / count;
    }
    // Only differences decide. Around their mean they stay small where everybody's demand is met for long.
    const most = mostSeconds * fairPerWeight;
    for (let i = 0; i < count; i++)
      this.#balance[slots[i]!] = Math.max(-most, Math.min(most, this.#balance[slots[i]!]! - mean));
  }

  #grow(size: number): void {
    if (size > this.#balance.length) this.#balance = grown(this.#balance, size * 2);
  }
}

/**
 * Fair over time rather than at every moment, after Karma (Vuppalapati et al., OSDI 2023). Everyone is guaranteed
 * half of its fair share as far as it asks for it. What this leaves goes to those who ask for more, most credits
 * first: they pay for what they take, and those who left part of their guaranteed share earn it, fewest credits
 * first. So having been idle is worth something when a burst comes, and asking for more than one needs costs
 * credits that a real burst will want. Without accounts, or with equal ones, it is max-min above the guarantee.
 */
export const credit: Allocator = (request) => {
  const { demand, floor, weight, limit, ratePerSec, count } = claimsOf(request);
  const { accounts } = request;
  const weights = exactSum(weight);
  const part = (i: number): number => (weights > 0 ? weight[i]! / weights : 0);
  const guaranteed = new Float64Array(count);
  const wanted = new Float64Array(count);
  let base = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    guaranteed[i] = Math.max(floor[i]!, Math.min(limit[i]!, guaranteedPart * ratePerSec * part(i)));
    wanted[i] = Math.max(floor[i]!, Math.min(demand[i]!, limit[i]!));
    base[i] = Math.min(wanted[i]!, guaranteed[i]!);
  }
  // Floors that take nearly everything leave the guarantees what is left.
  if (exactSum(base) > ratePerSec) base = fill(floor, weight, floor, base, ratePerSec);

  const held = new Float64Array(count);
  let richest = Number.NEGATIVE_INFINITY;
  let poorest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const balance = accounts?.book.balance(accounts.slots[i]!) ?? 0;
    held[i] = balance;
    if (balance > richest) richest = balance;
    if (balance < poorest) poorest = balance;
  }
  // Whoever is ahead by that many credits is served alone until, at the end of the step, the others are as poor.
  const seconds = accounts?.seconds ?? 1;
  const ahead = new Float64Array(count);
  const wants = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    ahead[i] = (weight[i]! * (held[i]! - richest)) / seconds;
    wants[i] = Math.max(0, wanted[i]! - base[i]!);
  }
  const zeros = new Float64Array(count);
  const left = Math.max(0, ratePerSec - exactSum(base));
  const taken = fill(ahead, weight, zeros, wants, left);
  if (accounts) settleTerms();

  let rates = base;
  for (let i = 0; i < count; i++) rates[i]! += taken[i]!;
  // Those without weight take part only now; and what nobody asks for is shared for nothing.
  if (!isGivenOut(rates, ratePerSec)) rates = fill(rates, new Float64Array(count).fill(1), rates, wanted, ratePerSec);
  return trim(shareRest(rates, weight, limit, ratePerSec), ratePerSec);

  function settleTerms(): void {
    const offered = new Float64Array(count);
    const behind = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      offered[i] = Math.max(0, guaranteed[i]! - Math.max(floor[i]!, wanted[i]!));
      behind[i] = (weight[i]! * (poorest - held[i]!)) / seconds;
    }
    const earned = fill(behind, weight, zeros, offered, exactSum(taken));
    const gain = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const unused = (1 - guaranteedPart) * ratePerSec * part(i) - taken[i]! + earned[i]!;
      gain[i] = weight[i]! > 0 ? unused / weight[i]! : 0;
    }
    accounts!.book.agree(accounts!.slots, gain, weights > 0 ? ratePerSec / weights : 0);
  }
};
