import { grown } from '../grown.js';
import { Savings } from './savings.js';
import { borrowShares } from './shares.js';

/** What is known when a tick ends. Arrays have one entry per slot; slot 0 is nobody's. */
export interface TickUse {
  slots: number;
  seconds: number;
  /** Asked for, denied and borrowed in the tick, tokens. */
  demand: Float64Array;
  denied: Float64Array;
  borrowed: Float64Array;
  /** What each is seen to ask for, tokens/s. */
  demandPerSec: Float64Array;
  /** What each is forecast to ask for on average in the next half minute, tokens/s; NaN: nobody knows. */
  forecastPerSec: Float64Array;
  /** 0 where there is nobody. */
  weights: Float64Array;
  /** Tokens. */
  meanCost: number;
  /** Of the resource: tokens/s, tokens. */
  ratePerSec: number;
  burst: number;
  /** What the reservoir holds, and the most it can hold, tokens. */
  reservoir: number;
  reservoirBurst: number;
}

/**
 * Part of its last tick's demand that a target which was served in full may borrow: it will be short by
 * chance now and then, and whoever always is must not have taken everything by then.
 */
const headroom = 0.25;
/** Most of a small reservoir that is kept for those with savings; how fast it is tried again after it cost flow, a tick. */
const mostKept = 0.4;
const keptGain = 0.001;
/** A reservoir of which less can be kept does not pass on what flows through it in time. */
const leastPassing = 0.05;

/**
 * Who may borrow how much of the reservoir until the next tick. What flows through it is for those who were short, by
 * weight; a stock is kept there for those who took less than their share, as far as they did.
 */
export class Borrowing {
  /** What each slot may borrow, tokens. */
  shares = new Float64Array(64);
  /** 1 where a slot may borrow the stock too. */
  mayTakeStock = new Uint8Array(64);
  readonly #savings = new Savings();
  #short = new Float64Array(64);
  /** The part of the shares that flows through the reservoir, without what is kept there for those with savings. */
  #flow = new Float64Array(64);
  #used = new Float64Array(64);
  /**
   * What a target that was denied left of its share, because it was less than a request costs: it keeps that, as
   * in deficit round robin (Shreedhar and Varghese, 1995). Without it nobody is served where many are short.
   */
  #unspent = new Float64Array(64);
  /** What each got less than others of its weight of what flows, tokens; below 0: more. */
  #behind = new Float64Array(64);
  /** Part of the reservoir that can be kept without letting it run over. */
  #keptPart = mostKept;
  #meanCost = 1;
  #seconds = 0;

  /** What each left of its share in the last seconds, and an advance on what it is forecast to leave, tokens. */
  get savedTokens(): Float64Array {
    return this.#savings.tokens;
  }

  /** Whether what flows through the reservoir reaches who asks for it in time. */
  get passes(): boolean {
    return this.#keptPart >= leastPassing;
  }

  /** Whether a slot has what a request costs saved or in advance, beyond what varies from tick to tick. */
  hasSaved(slot: number): boolean {
    const { tokens, sharePerSec } = this.#savings;
    return tokens[slot]! >= this.#meanCost + sharePerSec[slot]! * this.#seconds;
  }

  /** Takes in how a tick ended. */
  settle(use: TickUse): void {
    const { slots, demand, denied, reservoir, reservoirBurst, meanCost } = use;
    this.grow(slots);
    this.#meanCost = meanCost;
    this.#seconds = use.seconds;
    let deniedTokens = 0;
    for (let i = 1; i < slots; i++) {
      this.#used[i] = Math.max(0, demand[i]! - denied[i]!);
      deniedTokens += denied[i]!;
    }
    this.#savings.book({ ...use, count: slots, used: this.#used, asked: demand });
    // A reservoir that is found full while somebody is denied is asked too seldom to keep a part of it for others.
    if (reservoir < reservoirBurst - meanCost) this.#keptPart = Math.min(mostKept, this.#keptPart + keptGain);
    else if (deniedTokens > 0) this.#keptPart /= 2;
  }

  /**
   * Sets `shares` and `mayTakeStock`.
   * @param use as it was settled
   * @param flowPerSec of the reservoir until the next tick, tokens/s
   * @returns the stock, tokens
   */
  divide(use: TickUse, flowPerSec: number): number {
    const { slots, seconds, demand, denied, borrowed, weights, ratePerSec, reservoir, reservoirBurst, meanCost } = use;
    // What is kept costs no flow as long as what comes between two requests finds room above it, and what a tick hands
    // on beside what was admitted since the last: twice a tick's tokens together.
    const room = reservoirBurst - Math.min(2 * ratePerSec * seconds, reservoirBurst * (1 - this.#keptPart));
    let saved = 0;
    for (let i = 1; i < slots; i++) {
      const isThere = weights[i]! > 0;
      const hasSaved = this.hasSaved(i);
      if (isThere && hasSaved) saved += this.savedTokens[i]!;
      // Those with savings come first anyway.
      this.#short[i] = isThere && !hasSaved ? denied[i]! + borrowed[i]! + headroom * demand[i]! : 0;
      // Who was served something waits for no more than a request costs.
      const most = borrowed[i]! > 0 ? Math.min(denied[i]!, meanCost) : denied[i]!;
      this.#unspent[i] = Math.min(Math.max(0, this.#flow[i]! - borrowed[i]!), most);
    }
    const stock = Math.min(room, saved);
    this.#compensate(use);
    // No more than is sure to come, or whoever asks first takes it; no less than flows in, or it lies idle.
    const inflow = flowPerSec * seconds;
    borrowShares(this.#short, weights, slots, Math.max(reservoir - stock, inflow), this.#flow);
    const coming = Math.max(0, reservoir) + inflow;
    for (let i = 1; i < slots; i++) {
      this.#flow[i]! += this.#unspent[i]!;
      this.shares[i] = Math.max(0, this.#flow[i]! + this.#behind[i]!) + Math.min(this.savedTokens[i]!, coming);
      this.mayTakeStock[i] = this.hasSaved(i) ? 1 : 0;
    }
    return stock;
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    this.#savings.reset(slot);
    this.shares[slot] = 0;
    this.#flow[slot] = 0;
    this.#behind[slot] = 0;
  }

  grow(slots: number): void {
    if (slots <= this.shares.length) return;
    this.shares = grown(this.shares, slots * 2);
    this.mayTakeStock = grown(this.mayTakeStock, slots * 2);
    this.#short = grown(this.#short, slots * 2);
    this.#flow = grown(this.#flow, slots * 2);
    this.#used = grown(this.#used, slots * 2);
    this.#unspent = grown(this.#unspent, slots * 2);
    this.#behind = grown(this.#behind, slots * 2);
  }

  /**
   * Those who are denied and have nothing saved take what flows in turn, and not all find the same: what one got less
   * than the others by weight, its next share is larger by, and the others' smaller.
   */
  #compensate({ slots, denied, borrowed, weights }: TickUse): void {
    const isBacklogged = (i: number): boolean => denied[i]! > 0 && this.#flow[i]! > 0 && !this.hasSaved(i);
    let together = 0;
    let weight = 0;
    for (let i = 1; i < slots; i++) {
      if (!isBacklogged(i)) continue;
      together += borrowed[i]!;
      weight += weights[i]!;
    }
    for (let i = 1; i < slots; i++) {
      if (!isBacklogged(i)) this.#behind[i] = 0;
      else {
        const fair = (together * weights[i]!) / weight;
        this.#behind[i] = Math.max(-fair, Math.min(fair, this.#behind[i]! + fair - borrowed[i]!));
      }
    }
  }
}
