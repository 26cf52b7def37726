import { quantileCount, quantileLevels } from '../forecast/forecaster.js';

/** Moving averages of past demand among the rules, by span in steps; 1 is the last step. */
const spans = [1, 3, 10, 30] as const;
const levels = [0.5, 0.75, 0.9, 0.97] as const;

/** Ways to turn forecasts and the past into what each target is taken to ask for. */
export const ruleNames: readonly string[] = [
  ...levels.map((level) => `q${level * 100}`),
  'common',
  ...spans.map((span) => (span === 1 ? 'last' : `ewma${span}`)),
];

const rules = ruleNames.length;
const levelIndex = levels.map((level) => quantileLevels.indexOf(level));
const commonRule = levels.length;
const firstAverage = commonRule + 1;
/** Until there are losses the 0.9 quantile decides: it needs no tail, which a forecast knows least. */
const priorRule = levels.indexOf(0.9);
/** Steps after which the losses count as much as the prior. */
const priorSteps = 10;
/** A step's loss counts half after 69 steps. */
const decay = 0.99;
/** Weight falls by e for every 1/100 by which a rule's loss exceeds the best one's. */
const learningRate = 100;

/** What the rules have lost so far; plain data that outlives the process. */
export interface RulesRecord {
  steps: number;
  loss: number[];
}

/** What there is to divide in the step that begins. Arrays have one entry per element of `slots`. */
export interface Division {
  /** The targets, by slot: what is known of a slot is kept under its number. */
  slots: readonly number[];
  /** Quantiles of each one's demand in the step, tokens: `quantiles[i * quantileCount + level]`. */
  quantiles: ArrayLike<number>;
  /** What the common quantile gives, tokens; see `commonQuantile`. */
  common: ArrayLike<number>;
  /** Tokens in each bucket. */
  held: ArrayLike<number>;
  /** Tokens each gets in any case. */
  floor: ArrayLike<number>;
  /** Tokens for the step, floors included. */
  budget: number;
  stepS: number;
  /** Least bucket of each and all buckets together, tokens. */
  leastBurst: number;
  burst: number;
}

/**
 * Learns by which rule a budget is divided best among these targets: every rule's buckets are played in the
 * shadow of the real ones, tick by tick, and what each would have denied is its loss. Weights fall
 * exponentially with the discounted loss relative to the best, so nothing is chosen with hindsight; rules that
 * only follow the past are among them, so a forecast that does not pay costs little.
 *
 * A fluid in ticks is close enough: what the rules differ by is whether tokens are there when a burst is, and
 * bursts shorter than a tick find the same bucket under every rule.
 */
export class AllocationRules {
  readonly #loss = new Float64Array(rules);
  readonly #stepLoss = new Float64Array(rules);
  readonly #weight = new Float64Array(rules);
  #size = 0;
  #average = new Float64Array(0);
  #asked = new Float64Array(0);
  #known = new Uint8Array(0);
  #proposed: Float64Array[] = [];
  #level: Float64Array[] = [];
  #rate: Float64Array[] = [];
  #cap: Float64Array[] = [];
  #slots: readonly number[] = [];
  #steps = 0;

  /** Weight of each rule in the last division, in the order of `ruleNames`; together 1. */
  get weights(): ReadonlyMap<string, number> {
    return new Map(ruleNames.map((name, r) => [name, this.#weight[r]!]));
  }

  record(): RulesRecord {
    return { steps: this.#steps, loss: [...this.#loss] };
  }

  /** Goes on from what other rules had lost; of as many rules, else nothing happens. */
  restore({ steps, loss }: RulesRecord): void {
    if (loss.length !== rules) return;
    this.#steps = steps;
    this.#loss.set(loss);
  }

  /** Plays what was asked for in a tick, tokens per slot, to every rule's buckets. */
  tick(demand: ArrayLike<number>, seconds: number): void {
    for (const slot of this.#slots) this.#asked[slot]! += demand[slot]!;
    for (let r = 0; r < rules; r++) {
      const level = this.#level[r]!;
      const rate = this.#rate[r]!;
      const cap = this.#cap[r]!;
      let denied = 0;
      for (const slot of this.#slots) {
        const asked = demand[slot]!;
        const left = Math.min(cap[slot]!, level[slot]! + rate[slot]! * seconds) - asked;
        if (left < 0) denied -= left;
        level[slot] = Math.max(0, left);
      }
      this.#stepLoss[r]! += denied;
    }
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    if (slot < this.#size) this.#known[slot] = 0;
  }

  /**
   * Divides what there is for the step that begins, or anew for the rest of it.
   * @param out receives demand in tokens, one per slot of the division: what an allocator is to share out by
   */
  divide(division: Division, out: Float64Array): void {
    const { slots, quantiles, common, held, floor, budget, stepS, leastBurst, burst } = division;
    this.#grow(slots.reduce((most, slot) => Math.max(most, slot + 1), 0));
    this.#slots = slots;
    let floors = 0;
    slots.forEach((slot, i) => {
      floors += floor[i]!;
      if (!this.#known[slot]) {
        this.#known[slot] = 1;
        for (let s = 0; s < spans.length; s++) this.#average[slot * spans.length + s] = this.#asked[slot]!;
        for (let r = 0; r < rules; r++) this.#level[r]![slot] = Math.max(0, held[i]!);
      }
      levelIndex.forEach((level, r) => {
        this.#proposed[r]![i] = quantiles[i * quantileCount + level]!;
      });
      this.#proposed[commonRule]![i] = Math.max(0, common[i]! - floor[i]!);
      for (let s = 0; s < spans.length; s++)
        this.#proposed[firstAverage + s]![i] = this.#average[slot * spans.length + s]!;
    });
    this.#weigh();
    const count = slots.length;
    const rest = Math.max(0, budget - floors);
    const spare = Math.max(0, burst - leastBurst * count);
    out.fill(0, 0, count);
    for (let r = 0; r < rules; r++) {
      const proposed = this.#proposed[r]!;
      let sum = 0;
      for (let i = 0; i < count; i++) sum += proposed[i]!;
      for (let i = 0; i < count; i++) {
        const slot = slots[i]!;
        const share = sum > 0 ? proposed[i]! / sum : 1 / count;
        out[i]! += this.#weight[r]! * share * budget;
        const tokens = floor[i]! + rest * share;
        this.#rate[r]![slot] = tokens / stepS;
        const cap = leastBurst + (spare * tokens) / budget;
        this.#cap[r]![slot] = cap;
        this.#level[r]![slot] = Math.min(this.#level[r]![slot]!, cap);
      }
    }
  }

  /** Ends the step that was played: its losses count, and the averages move on. */
  endStep(): void {
    for (let r = 0; r < rules; r++) {
      this.#loss[r] = decay * this.#loss[r]! + this.#stepLoss[r]!;
      this.#stepLoss[r] = 0;
    }
    for (const slot of this.#slots) {
      for (let s = 0; s < spans.length; s++) {
        const at = slot * spans.length + s;
        this.#average[at]! += (this.#steps === 1 ? 1 : 2 / (spans[s]! + 1)) * (this.#asked[slot]! - this.#average[at]!);
      }
      this.#asked[slot] = 0;
    }
    this.#steps++;
  }

  #weigh(): void {
    let best = Number.POSITIVE_INFINITY;
    for (let r = 0; r < rules; r++) best = Math.min(best, this.#loss[r]!);
    const trust = this.#steps / (this.#steps + priorSteps);
    let sum = 0;
    for (let r = 0; r < rules; r++) {
      // Where the best denied nothing, any denial is far off.
      const excess = best > 0 ? this.#loss[r]! / best - 1 : this.#loss[r]! > 0 ? 1 : 0;
      this.#weight[r] = trust * Math.exp(-learningRate * excess) + (r === priorRule ? 1 - trust : 0);
      sum += this.#weight[r]!;
    }
    for (let r = 0; r < rules; r++) this.#weight[r]! /= sum;
  }

  #grow(slots: number): void {
    if (slots <= this.#size) return;
    this.#size = Math.max(slots, this.#size * 2);
    const bigger = (array: Float64Array, length: number): Float64Array<ArrayBuffer> => {
      const grown = new Float64Array(length);
      grown.set(array);
      return grown;
    };
    const each = (arrays: Float64Array[]) =>
      Array.from({ length: rules }, (_, r) => bigger(arrays[r] ?? new Float64Array(0), this.#size));
    this.#average = bigger(this.#average, this.#size * spans.length);
    this.#asked = bigger(this.#asked, this.#size);
    const known = new Uint8Array(this.#size);
    known.set(this.#known);
    this.#known = known;
    this.#proposed = each(this.#proposed);
    this.#level = each(this.#level);
    this.#rate = each(this.#rate);
    this.#cap = each(this.#cap);
  }
}
