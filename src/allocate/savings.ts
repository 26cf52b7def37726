import { grown } from '../grown.js';
import { maxMinShares } from './shares.js';

/** A time that ends now. Arrays have one entry per slot; slot 0 is nobody's. */
export interface Spending {
  count: number;
  /** What each is seen to ask for, tokens/s. */
  demandPerSec: Float64Array;
  /** What each was served, and what it asked for, tokens. */
  used: Float64Array;
  asked: Float64Array;
  /** 0 where there is nobody. */
  weights: Float64Array;
  /** Of the resource: tokens/s, tokens. */
  ratePerSec: number;
  burst: number;
  seconds: number;
}

/**
 * What each target left of its share of the resource in the last seconds, tokens: a bucket that fills at the max-min
 * level and empties by what was served. Whoever is backlogged and served its share saves nothing, so that what lies in
 * the reservoir for bursts is not a greedy target's; whoever is seldom there has up to as many seconds of the level as
 * the resource's burst has of its rate.
 */
export class Savings {
  tokens = new Float64Array(64);
  /** What each saved in a second at least as long as it was served nothing, tokens/s. */
  sharePerSec = new Float64Array(64);
  #wants = new Float64Array(64);
  #fair = new Float64Array(64);

  book({ count, demandPerSec, used, asked, weights, ratePerSec, burst, seconds }: Spending): void {
    if (count > this.tokens.length) {
      this.tokens = grown(this.tokens, count * 2);
      this.sharePerSec = new Float64Array(count * 2);
      this.#wants = new Float64Array(count * 2);
      this.#fair = new Float64Array(count * 2);
    }
    for (let i = 0; i < count; i++) this.#wants[i] = weights[i]! > 0 ? demandPerSec[i]! : 0;
    const left = maxMinShares(this.#wants, weights, count, ratePerSec, this.#fair);
    let levelPerWeight = 0;
    for (let i = 1; i < count; i++)
      if (weights[i]! > 0) levelPerWeight = Math.max(levelPerWeight, this.#fair[i]! / weights[i]!);
    for (let i = 1; i < count; i++) {
      // Where all are served in full there is no level: anybody could have had everything.
      const perSec = !(weights[i]! > 0) ? 0 : left > 0 ? ratePerSec : levelPerWeight * weights[i]!;
      this.sharePerSec[i] = perSec;
      const most = (perSec * burst) / ratePerSec;
      // Who asks for its share and is not served leaves it to nobody.
      const spent = Math.max(used[i]!, Math.min(asked[i]!, perSec * seconds));
      this.tokens[i] = Math.max(0, Math.min(most, this.tokens[i]! + perSec * seconds - spent));
    }
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    if (slot < this.tokens.length) this.tokens[slot] = 0;
  }
}
