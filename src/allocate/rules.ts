import { quantileCount, quantileLevels } from '../forecast/forecaster.js';
import { topUp } from './fill.js';
import { PastDemand, pastNames } from './past-demand.js';
import { UsualQuantiles } from './usual-quantiles.js';

/**
 * Quantiles of the forecast, raised to a power. Under overload a token is worth most where it is surest to be used,
 * and who asks for most is surest: hence a power above 1. Where there is plenty, what is denied comes in rare bursts,
 * which are larger against the quantile the smaller it is: hence one below 1. `usual` is the quantile's moving
 * average: one forecast falls after a burst, and others follow.
 */
const quantileClaims: readonly { level: (typeof quantileLevels)[number]; power: number; usual?: true }[] = [
  { level: 0.9, power: 1 },
  { level: 0.97, power: 1 },
  { level: 0.99, power: 1 },
  { level: 0.9, power: 1.5 },
  { level: 0.97, power: 1.5 },
  { level: 0.9, power: 0.8 },
  { level: 0.99, power: 0.8 },
  { level: 0.9, power: 0.8, usual: true },
];
const levelIndex = quantileClaims.map(({ level }) => quantileLevels.indexOf(level));

/** Ways to turn forecasts and the past into what each target is taken to ask for. */
const claimNames: readonly string[] = [
  ...quantileClaims.map(
    ({ level, power, usual }) => `${usual ? 'usual' : ''}q${level * 100}${power === 1 ? '' : `^${power}`}`,
  ),
  'common',
  ...pastNames,
];
const commonClaim = quantileClaims.length;
const mostClaim = quantileClaims.findIndex(({ level }) => level === 0.99);

/**
 * The rules: each claim with buckets as large as what they are given in the step, and again, marked by `+`, with
 * buckets that have room for what they hold besides, as far as the 0.99 quantile says that it may be asked for. Held
 * tokens are worth keeping where steps are short and demand comes in bursts; under a long overload they lie with those
 * who need least, and the room is worth more elsewhere.
 */
export const ruleNames: readonly string[] = [...claimNames, ...claimNames.map((name) => `${name}+`)];
const rules = ruleNames.length;
const claimOf = (rule: number): number => rule % claimNames.length;
const keepsHeld = (rule: number): boolean => rule >= claimNames.length;

/**
 * Until there are losses the usual 0.9 quantile decides: it needs no tail, which a forecast knows least, and neither
 * one forecast nor whoever asks for most takes everything.
 */
const priorRule = ruleNames.indexOf('usualq90^0.8+');
/** A step's loss counts half after 69 steps. */
const decay = 0.99;
/** Weight falls by e for every 1/200 of the geometric mean of best loss and demand by which a rule's loss exceeds the best. */
const learningRate = 200;
/**
 * Steps of one target after which the losses count as much as the prior, unless they speak against it: those of few
 * targets are few bursts, and the rule that was lucky with them is seldom the best with the next ones.
 */
const priorTargetSteps = 2000;
/** Those steps are e times fewer for every 1/8 of the same mean by which the prior rule's loss exceeds the best. */
const priorDoubt = 8;
/** A rule of less than this part of the heaviest one's weight counts for nothing, and is not worked out for the real buckets. */
const leastWeight = 1e-3;
/** Slots that are played to one rule after the other while what they asked for lies in the cache. */
const blockSlots = 1024;

/** What the rules have lost so far; plain data that outlives the process. */
export interface RulesRecord {
  steps: number;
  loss: number[];
  /** Tokens asked for, discounted as the losses are. */
  demand: number;
}

/** What there is to divide in the step that begins. Arrays have one entry per element of `slots`. */
export interface Division {
  /** The targets, by slot: what is known of a slot is kept under its number. */
  slots: ArrayLike<number>;
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

/** How a budget is divided; one entry per slot of the division. */
export interface Divided {
  /** Tokens each is to get above its floor: what an allocator is to share the rest out by. */
  demand: Float64Array;
  /** Part of the burst above the least buckets that each is to have; together 1. */
  burstShare: Float64Array;
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
  readonly #past = new PastDemand();
  readonly #usual = new UsualQuantiles();
  /** Whether the step that began has been divided for already. */
  #isDivided = false;
  /** Tokens claimed, one array per claim, one entry per slot of the division. */
  #claims: Float64Array[] = [];
  /** One entry per slot of the division: what buckets hold, what a rule gives them, what room it leaves them. */
  #held = new Float64Array(0);
  #gift = new Float64Array(0);
  #room = new Float64Array(0);
  /** By which the claims were multiplied last, per rule that tops up. */
  readonly #scale = new Float64Array(rules).fill(Number.POSITIVE_INFINITY);
  #capacity = 0;
  /** The shadow buckets, by rule and slot, `[rule * capacity + slot]`: tokens, tokens/s, tokens. */
  #level = new Float32Array(0);
  #rate = new Float32Array(0);
  #size = new Float32Array(0);
  #slots: ArrayLike<number> = [];
  /** Tokens asked for, discounted as losses are. */
  #demand = 0;
  #steps = 0;

  /** Weight of each rule in the last division, in the order of `ruleNames`; together 1. */
  get weights(): ReadonlyMap<string, number> {
    return new Map(ruleNames.map((name, r) => [name, this.#weight[r]!]));
  }

  record(): RulesRecord {
    return { steps: this.#steps, loss: [...this.#loss], demand: this.#demand };
  }

  /** Goes on from what other rules had lost; of as many rules, else nothing happens. */
  restore({ steps, loss, demand }: RulesRecord): void {
    if (loss.length !== rules) return;
    this.#steps = steps;
    this.#loss.set(loss);
    this.#demand = demand;
  }

  /** Plays what was asked for in a tick, tokens per slot, to every rule's buckets. */
  tick(demand: ArrayLike<number>, seconds: number): void {
    const level = this.#level;
    const rate = this.#rate;
    const size = this.#size;
    const loss = this.#stepLoss;
    const slots = this.#slots;
    for (let i = 0; i < slots.length; i++) this.#past.ask(slots[i]!, demand[slots[i]!]!);
    // A block of slots at a time, so that what was asked for is in the cache for all rules but the first.
    for (let from = 0; from < slots.length; from += blockSlots) {
      const to = Math.min(slots.length, from + blockSlots);
      for (let r = 0; r < rules; r++) {
        const first = r * this.#capacity;
        let denied = 0;
        for (let i = from; i < to; i++) {
          const slot = slots[i]!;
          const at = first + slot;
          const left = Math.min(size[at]!, level[at]! + rate[at]! * seconds) - demand[slot]!;
          // Without a branch, which would be a coin toss.
          denied += Math.abs(left) - left;
          level[at] = 0.5 * (left + Math.abs(left));
        }
        loss[r]! += 0.5 * denied;
      }
    }
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    this.#past.reset(slot);
    this.#usual.reset(slot);
  }

  /** Divides what there is for the step that begins, or anew for the rest of it. */
  divide(division: Division): Divided {
    const { slots, held, floor, budget, stepS, leastBurst, burst } = division;
    const count = slots.length;
    let most = -1;
    for (let i = 0; i < count; i++) most = Math.max(most, slots[i]!);
    this.#grow(most + 1);
    this.#slots = slots;
    this.#claim(division);
    this.#isDivided = true;
    this.#weigh();
    const spare = Math.max(0, burst - leastBurst * count);
    let rest = budget;
    for (let i = 0; i < count; i++) rest -= floor[i]!;
    rest = Math.max(0, rest);
    const divided: Divided = { demand: new Float64Array(count), burstShare: new Float64Array(count) };
    for (let r = 0; r < rules; r++) {
      const weight = this.#weight[r]!;
      if (weight > 0) {
        // The real buckets hold something else than this rule's.
        this.#held.set(held);
        const room = this.#give(r, floor, rest);
        for (let i = 0; i < count; i++) {
          divided.demand[i]! += weight * this.#gift[i]!;
          divided.burstShare[i]! += (weight * this.#room[i]!) / room;
        }
      }
      const first = r * this.#capacity;
      for (let i = 0; i < count; i++) this.#held[i] = this.#level[first + slots[i]!]!;
      const room = this.#give(r, floor, rest);
      for (let i = 0; i < count; i++) {
        const at = first + slots[i]!;
        const size = leastBurst + (spare * this.#room[i]!) / room;
        this.#level[at] = Math.min(this.#level[at]!, size);
        this.#rate[at] = (floor[i]! + this.#gift[i]!) / stepS;
        this.#size[at] = size;
      }
    }
    return divided;
  }

  /** Ends the step that was played: its losses count, and the averages move on. */
  endStep(): void {
    this.#demand = decay * this.#demand + this.#past.endStep(this.#slots);
    for (let r = 0; r < rules; r++) {
      this.#loss[r] = decay * this.#loss[r]! + this.#stepLoss[r]!;
      this.#stepLoss[r] = 0;
    }
    this.#steps++;
    this.#isDivided = false;
  }

  /** Works out every claim, tokens. */
  #claim({ slots, quantiles, common, held, floor }: Division): void {
    const count = slots.length;
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      if (this.#past.meet(slot))
        for (let r = 0; r < rules; r++) this.#level[r * this.#capacity + slot] = Math.max(0, held[i]!);
      if (!this.#isDivided) this.#usual.take(slot, quantiles, i * quantileCount);
      for (let p = 0; p < pastNames.length; p++) this.#claims[commonClaim + 1 + p]![i] = this.#past.claim(slot, p);
      this.#claims[commonClaim]![i] = Math.max(0, common[i]! - floor[i]!);
    }
    quantileClaims.forEach(({ power, usual }, c) => {
      const claims = this.#claims[c]!;
      const level = levelIndex[c]!;
      for (let i = 0; i < count; i++)
        claims[i] = usual ? this.#usual.at(slots[i]!, level) : quantiles[i * quantileCount + level]!;
      // Half of what `**` costs.
      if (power !== 1) for (let i = 0; i < count; i++) claims[i] = Math.exp(power * Math.log(claims[i]!));
    });
  }

  /**
   * What a rule gives each of the rest above the floors to buckets that hold `#held`, into `#gift`; and what room each
   * is to have, into `#room`.
   * @returns all the room
   */
  #give(rule: number, floor: ArrayLike<number>, rest: number): number {
    const claims = this.#claims[claimOf(rule)]!;
    const held = this.#held;
    const gift = this.#gift;
    const room = this.#room;
    const count = floor.length;
    if (claimOf(rule) < commonClaim) this.#scale[rule] = topUp(claims, held, count, rest, gift, this.#scale[rule]);
    else {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += claims[i]!;
      if (sum > 0) for (let i = 0; i < count; i++) gift[i] = rest * (claims[i]! / sum);
      else gift.fill(rest / count, 0, count);
    }
    const keeps = keepsHeld(rule);
    const most = this.#claims[mostClaim]!;
    let all = 0;
    for (let i = 0; i < count; i++) {
      room[i] = floor[i]! + gift[i]! + (keeps ? Math.max(0, Math.min(most[i]!, held[i]!)) : 0);
      all += room[i]!;
    }
    return all;
  }

  #weigh(): void {
    let best = Number.POSITIVE_INFINITY;
    for (let r = 0; r < rules; r++) best = Math.min(best, this.#loss[r]!);
    // What is rare comes by chance: the less is denied of all, the more of it a difference must be to mean something,
    // as the spread of a count is its root.
    const yardstick = Math.sqrt(best * this.#demand);
    const excessOf = (rule: number): number => {
      const excess = this.#loss[rule]! - best;
      return yardstick > 0 ? excess / yardstick : excess > 0 ? 1 : 0;
    };
    const seen = this.#steps * this.#slots.length;
    const trust = seen > 0 ? seen / (seen + priorTargetSteps * Math.exp(-priorDoubt * excessOf(priorRule))) : 0;
    for (let r = 0; r < rules; r++) this.#weight[r] = trust * Math.exp(-learningRate * excessOf(r));
    this.#weight[priorRule]! += 1 - trust;
    const most = this.#weight.reduce((a, b) => Math.max(a, b), 0);
    let sum = 0;
    for (let r = 0; r < rules; r++) {
      if (this.#weight[r]! < leastWeight * most) this.#weight[r] = 0;
      sum += this.#weight[r]!;
    }
    for (let r = 0; r < rules; r++) this.#weight[r]! /= sum;
  }

  #grow(slots: number): void {
    if (slots <= this.#capacity) return;
    const had = this.#capacity;
    this.#capacity = Math.max(slots, had * 2);
    const bigger = (array: Float32Array): Float32Array<ArrayBuffer> => {
      const grown = new Float32Array(this.#capacity * rules);
      for (let r = 0; r < rules; r++) grown.set(array.subarray(r * had, (r + 1) * had), r * this.#capacity);
      return grown;
    };
    this.#level = bigger(this.#level);
    this.#rate = bigger(this.#rate);
    this.#size = bigger(this.#size);
    this.#claims = claimNames.map(() => new Float64Array(this.#capacity));
    this.#held = new Float64Array(this.#capacity);
    this.#gift = new Float64Array(this.#capacity);
    this.#room = new Float64Array(this.#capacity);
    this.#past.grow(this.#capacity);
    this.#usual.grow(this.#capacity);
  }
}
