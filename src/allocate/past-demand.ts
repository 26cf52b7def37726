import { grown } from '../grown.js';

/** Moving averages, by span in steps. */
const spans = [10, 30] as const;
/** What the largest demand of a step on record is multiplied by at each step: halved after 138. */
const peakDecay = 0.995;

/** What the past says that a target asks for in a step, in as many ways. */
export const pastNames: readonly string[] = [...spans.map((span) => `ewma${span}`), 'peak'];
const ways = pastNames.length;
const peak = spans.length;

/** Tokens asked for in past steps, by slot. */
export class PastDemand {
  /** By slot and way: `[slot * ways + way]`. */
  #claims = new Float64Array(0);
  #asked = new Float64Array(0);
  #known = new Uint8Array(0);
  #steps = 0;

  /** Tokens that a slot is taken to ask for in a step. */
  claim(slot: number, way: number): number {
    return this.#claims[slot * ways + way]!;
  }

  ask(slot: number, tokens: number): void {
    this.#asked[slot]! += tokens;
  }

  /** Whether a slot was not known yet; from now on it is. */
  meet(slot: number): boolean {
    if (this.#known[slot]) return false;
    this.#known[slot] = 1;
    this.#claims.fill(this.#asked[slot]!, slot * ways, slot * ways + peak);
    this.#claims[slot * ways + peak] = 0;
    return true;
  }

  reset(slot: number): void {
    if (slot < this.#known.length) this.#known[slot] = 0;
  }

  /** Ends a step for these slots; tokens asked for in it. */
  endStep(slots: ArrayLike<number>): number {
    let all = 0;
    // The first step is all there is to average.
    const first = this.#steps++ === 0;
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i]!;
      const asked = this.#asked[slot]!;
      const at = slot * ways;
      for (let w = 0; w < peak; w++)
        this.#claims[at + w]! += (first ? 1 : 2 / (spans[w]! + 1)) * (asked - this.#claims[at + w]!);
      this.#claims[at + peak] = Math.max(peakDecay * this.#claims[at + peak]!, asked);
      this.#asked[slot] = 0;
      all += asked;
    }
    return all;
  }

  grow(slots: number): void {
    this.#claims = grown(this.#claims, slots * ways);
    this.#asked = grown(this.#asked, slots);
    this.#known = grown(this.#known, slots);
  }
}
