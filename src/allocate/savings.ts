import { grown } from '../grown.js';
import { maxMinShares } from './shares.js';

/** A time that ends now. Arrays have one entry per slot; slot 0 is nobody's. */
export interface Spending {
  count: number;
  /** What each is seen to ask for, tokens/s. */
  demandPerSec: Float64Array;
  /** What each is forecast to ask for on average in the next half minute, tokens/s; NaN: nobody knows. */
  forecastPerSec: Float64Array;
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
 * Of what a target is forecast to leave of its share, it may have this many seconds' worth in advance. What is advanced
 * is taken from greedy neighbours at once and comes back to them bit by bit; so it is a few seconds' worth.
 */
const advanceS = 4;
/** Span of what a target is known to ask for, as far back as the forecast reaches ahead, seconds. */
const usualS = 30;

/**
 * What each target may have before others, tokens: what it left of its share of the resource in the last seconds, and an
 * advance on what it is forecast to leave. The balance is a bucket that fills at the max-min level and empties by what was
 * served; it holds up to as many seconds of the level as the resource's burst has of its rate, and the advance is how far
 * it may fall below zero. Whoever is backlogged and served its share saves nothing, and nothing is advanced to whoever has
 * asked for its share until now, even if it is forecast to leave it: so what lies in the reservoir for bursts is not a greedy
 * target's, however bad the forecast. Whoever had an advance has the next when it has left that much.
 */
export class Savings {
  tokens = new Float64Array(64);
  /** What each saved in a second at least as long as it was served nothing, tokens/s. */
  sharePerSec = new Float64Array(64);
  /** Tokens; below 0: had in advance. */
  #balance = new Float64Array(64);
  /** What each asks for, tokens/s: an exponential moving average. */
  #usualPerSec = new Float64Array(64);
  #wants = new Float64Array(64);
  #fair = new Float64Array(64);

  book(spending: Spending): void {
    const { count, demandPerSec, forecastPerSec, used, asked, weights, ratePerSec, burst, seconds } = spending;
    if (count > this.tokens.length) {
      this.tokens = grown(this.tokens, count * 2);
      this.#balance = grown(this.#balance, count * 2);
      this.#usualPerSec = grown(this.#usualPerSec, count * 2);
      this.sharePerSec = new Float64Array(count * 2);
      this.#wants = new Float64Array(count * 2);
      this.#fair = new Float64Array(count * 2);
    }
    for (let i = 0; i < count; i++) this.#wants[i] = weights[i]! > 0 ? demandPerSec[i]! : 0;
    const left = maxMinShares(this.#wants, weights, count, ratePerSec, this.#fair);
    const gain = 1 - Math.exp(-seconds / usualS);
    let levelPerWeight = 0;
    for (let i = 1; i < count; i++)
      if (weights[i]! > 0) levelPerWeight = Math.max(levelPerWeight, this.#fair[i]! / weights[i]!);
    for (let i = 1; i < count; i++) {
      // Where all are served in full there is no level: anybody could have had everything.
      const perSec = !(weights[i]! > 0) ? 0 : left > 0 ? ratePerSec : levelPerWeight * weights[i]!;
      this.sharePerSec[i] = perSec;
      const most = (perSec * burst) / ratePerSec;
      const usual = this.#usualPerSec[i]!;
      const seen = asked[i]! / seconds;
      // Who has just come is known by what it asks for first.
      this.#usualPerSec[i] = usual === 0 ? seen : usual + (seen - usual) * gain;
      const leaves = perSec - Math.max(forecastPerSec[i]!, this.#usualPerSec[i]!);
      const advance = leaves > 0 ? leaves * advanceS : 0;
      // Who asks for its share and is not served leaves it to nobody.
      const spent = Math.max(used[i]!, Math.min(asked[i]!, perSec * seconds));
      const before = this.#balance[i]!;
      const balance = Math.min(most, before + perSec * seconds - spent);
      this.#balance[i] = Math.max(Math.min(before, -advance), balance);
      this.tokens[i] = Math.max(0, this.#balance[i]! + advance);
    }
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    if (slot >= this.tokens.length) return;
    this.tokens[slot] = this.#balance[slot] = this.#usualPerSec[slot] = 0;
  }
}
