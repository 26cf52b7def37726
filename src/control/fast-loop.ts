import { Borrowing, type TickUse } from '../allocate/borrowing.js';
import { lendRates } from '../allocate/lend.js';
import { maxMinShares } from '../allocate/shares.js';
import { ForetokenError } from '../errors.js';
import { grown } from '../grown.js';
import { correct } from '../monitor/adjuster.js';
import { Monitor, type TickView, Utilization } from '../monitor/monitor.js';
import type { Activity, BucketTable } from '../table/table.js';
import { emptySample, type LimiterSample } from './limiter.js';
import { depositRoom } from './plan.js';
import type { Roster } from './roster.js';

/** What the loops need of a table. A replay hands them one that keeps account of where tokens went. */
export type ControlledTable = Pick<
  BucketTable,
  | 'constants'
  | 'slots'
  | 'slotOf'
  | 'nowMs'
  | 'collect'
  | 'levels'
  | 'peek'
  | 'tick'
  | 'allocate'
  | 'deposit'
  | 'withdraw'
  | 'reclaimExpired'
  | 'setBorrowShares'
  | 'extendValidity'
  | 'setResource'
> &
  /** A replay's table enforces everything. */
  Partial<Pick<BucketTable, 'modeOf'>>;

export interface FastLoopOptions {
  ratePerSec: number;
  burst: number;
  stepMs: number;
  borrow: boolean;
  /** Whether deviations are corrected. Default true. */
  adjust?: boolean;
}

/** Observed excess over a forecast loses half of itself each step: the forecaster has seen it by then. */
const extraDecay = 0.5;

/**
 * The fast loop over one table: hands on what lies idle, sets who may borrow how much, and corrects who runs
 * off its forecast. Arrays have one entry per slot.
 */
export class FastLoop {
  readonly view: TickView;
  readonly utilization = new Utilization();
  /** What the last tick saw of the resource. */
  readonly sample = emptySample();
  /** The resource's limit in force, tokens/s. */
  ratePerSec: number;
  level = new Float64Array(64);
  deposit = new Float64Array(64);
  /** What each is forecast to ask for on average in the next half minute, tokens/s; NaN where there is no forecast. */
  forecastPerSec = new Float64Array(64).fill(Number.NaN);
  /** Observed demand beyond the forecast, tokens/s: what a plan within the step must add to it. */
  extraPerSec = new Float64Array(64);
  /** When what is left of a deposit expires, region time, ms. */
  depositUntilMs = new Float64Array(64);
  /** Tokens that corrections added or took back since `takeCounts`. */
  correctedTokens = new Float64Array(64);
  /** Since `takeCounts`. */
  #corrections = 0;
  #depositedTokens = 0;
  readonly #table: ControlledTable;
  readonly #roster: Roster;
  readonly #options: FastLoopOptions;
  readonly #monitor = new Monitor(64);
  readonly #borrowing = new Borrowing();
  /** Rates and bursts as they were planned, which lending starts from anew each tick. */
  #planned = new Float64Array(0);
  #meanCost = 1;
  /** Demand in the last tick, and what is lent for in the next beside what buckets lack, tokens/s. */
  #earlierPerSec = new Float64Array(64);
  #expectedPerSec = new Float64Array(64);

  constructor(table: ControlledTable, roster: Roster, options: FastLoopOptions) {
    this.#table = table;
    this.#roster = roster;
    this.#options = options;
    this.ratePerSec = options.ratePerSec;
    const empty = () => new Float64Array(64);
    this.view = {
      slots: 0,
      demand: empty(),
      denied: empty(),
      borrowed: empty(),
      q50PerSec: empty(),
      q90PerSec: empty(),
      tickMs: 0,
    };
  }

  /**
   * Ends a tick.
   * @param activity what `collect` returned for it
   * @returns whether rates should be planned anew within the step, because of `extraPerSec`
   */
  tick(activity: Activity, tickMs: number): boolean {
    this.#observe(activity, tickMs);
    const reservoir = this.#conserve();
    return (this.#options.adjust ?? true) && this.#adjust(reservoir);
  }

  /** A step ended, and a forecast knows what was in it. */
  endStep(): void {
    for (let i = 0; i < this.extraPerSec.length; i++) this.extraPerSec[i]! *= extraDecay;
  }

  /** Reads what every bucket holds into `level` and `deposit`. */
  readLevels(): void {
    const { rows, data } = this.#table.levels();
    this.grow(rows);
    const l = this.#table.constants.levels;
    for (let i = 0; i < rows; i++) {
      this.level[i] = data[i * l.columns + l.level]!;
      this.deposit[i] = data[i * l.columns + l.deposit]!;
    }
  }

  /** What a request costs, tokens, averaged over all. */
  get meanCost(): number {
    return this.#meanCost;
  }

  /** Burst that lies under deposits, tokens, as `readLevels` found it. */
  deposited(slots: number): number {
    let sum = 0;
    for (let i = 1; i < slots; i++) sum += this.deposit[i]!;
    return Math.min(sum, this.#options.burst);
  }

  /** Who asks for more than its max-min share of the rate now; found out when somebody wants to know. */
  greed(): (slot: number) => boolean {
    if (!this.#options.borrow) return () => false;
    const { slots } = this.view;
    let fair: Float64Array | undefined;
    return (slot) => {
      if (!fair) {
        fair = new Float64Array(slots);
        maxMinShares(this.#monitor.ratePerSec, this.#roster.weight, slots, this.ratePerSec, fair);
      }
      return fair[slot]! < this.#monitor.ratePerSec[slot]!;
    };
  }

  /** Moves tokens from the reservoir into a bucket. */
  move(handle: number, tokens: number, forMs: number): void {
    const moved = this.#table.deposit(handle, tokens, forMs);
    this.#depositedTokens += moved;
    const slot = this.#table.slotOf(handle);
    if (moved > 0) this.depositUntilMs[slot] = Math.max(this.depositUntilMs[slot]!, this.#table.nowMs() + forMs);
  }

  /** Corrections and deposited tokens since it was called last. */
  takeCounts(): { corrections: number; depositedTokens: number } {
    const counts = { corrections: this.#corrections, depositedTokens: this.#depositedTokens };
    this.#corrections = 0;
    this.#depositedTokens = 0;
    this.correctedTokens.fill(0);
    return counts;
  }

  /** What a slot may borrow until the next tick, tokens. */
  borrowShare(slot: number): number {
    return this.#borrowing.shares[slot]!;
  }

  /** Forgets a slot, because it was given to another target. */
  forget(slot: number): void {
    this.#monitor.reset(slot);
    this.#borrowing.reset(slot);
    this.#planned = new Float64Array(0);
    this.#earlierPerSec[slot] = 0;
    this.#expectedPerSec[slot] = 0;
    this.extraPerSec[slot] = 0;
    this.depositUntilMs[slot] = 0;
    this.correctedTokens[slot] = 0;
    this.view.q50PerSec[slot] = 0;
    this.view.q90PerSec[slot] = 0;
    this.forecastPerSec[slot] = Number.NaN;
  }

  grow(slots: number): void {
    if (slots <= this.level.length) return;
    for (const name of ['demand', 'denied', 'borrowed', 'q50PerSec', 'q90PerSec'] as const)
      this.view[name] = grown(this.view[name], slots * 2);
    this.level = grown(this.level, slots * 2);
    this.deposit = grown(this.deposit, slots * 2);
    const known = this.forecastPerSec.length;
    this.forecastPerSec = grown(this.forecastPerSec, slots * 2).fill(Number.NaN, known);
    this.extraPerSec = grown(this.extraPerSec, slots * 2);
    this.depositUntilMs = grown(this.depositUntilMs, slots * 2);
    this.correctedTokens = grown(this.correctedTokens, slots * 2);
    this.#earlierPerSec = grown(this.#earlierPerSec, slots * 2);
    this.#expectedPerSec = grown(this.#expectedPerSec, slots * 2);
    this.#borrowing.grow(slots);
    this.#monitor.grow(slots);
  }

  #observe({ rows, data }: Activity, tickMs: number): void {
    this.grow(rows);
    const c = this.#table.constants.collect;
    const view = this.view;
    view.slots = rows;
    view.tickMs = tickMs;
    let admitted = 0;
    let admittedRequests = 0;
    let denied = 0;
    let completions = 0;
    let durationNs = 0;
    let arrivals = 0;
    let demanded = 0;
    for (let i = 1; i < rows; i++) {
      const at = i * c.columns;
      const asked = data[at + c.demandTokens]!;
      view.demand[i] = asked;
      // Who waits counts as denied when he comes and no longer once admitted; until then he is short in every tick.
      // Who is not metered is never short.
      const metered = asked - data[at + c.unmeteredTokens]!;
      view.denied[i] = Math.max(0, metered - data[at + c.admittedTokens]!, data[at + c.waitingTokens]!);
      view.borrowed[i] = data[at + c.borrowedTokens]!;
      admitted += data[at + c.admittedTokens]!;
      admittedRequests += data[at + c.admitted]!;
      denied += view.denied[i]!;
      completions += data[at + c.completions]!;
      durationNs += data[at + c.durationNs]!;
      arrivals += data[at + c.arrivals]!;
      demanded += asked;
    }
    if (arrivals > 0) this.#meanCost += (demanded / arrivals - this.#meanCost) / 10;
    this.utilization.observe(admitted, this.ratePerSec, tickMs, completions, durationNs);
    Object.assign(this.sample, {
      elapsedMs: tickMs,
      admitted: admittedRequests,
      admittedTokens: admitted,
      deniedTokens: denied,
      completions,
      durationMs: durationNs / 1e6,
    } satisfies LimiterSample);
    this.#monitor.observe(view);
  }

  /** Law 4: what idle buckets overflowed goes back, and everyone's share of the reservoir is set anew. */
  #conserve(): number {
    const { view } = this;
    if (!this.#options.borrow) {
      this.#table.reclaimExpired();
      this.readLevels();
      return this.#table.peek(0, 1)?.tokens ?? 0;
    }
    const { reservoir } = this.#table.tick();
    this.readLevels();
    const reservoirBurst = this.#table.peek(0, 1)?.burst ?? 0;
    const use: TickUse = {
      slots: view.slots,
      seconds: view.tickMs / 1000,
      demand: view.demand,
      denied: view.denied,
      borrowed: view.borrowed,
      demandPerSec: this.#monitor.ratePerSec,
      forecastPerSec: this.forecastPerSec,
      weights: this.#roster.weight,
      meanCost: this.#meanCost,
      ratePerSec: this.ratePerSec,
      burst: this.#options.burst,
      reservoir,
      reservoirBurst,
    };
    this.#borrowing.settle(use);
    for (let i = 1; i < view.slots; i++) {
      const demandPerSec = view.demand[i]! / use.seconds;
      // What came in one tick only is over as often as not, and what is lent to a full bucket is lost.
      this.#expectedPerSec[i] = Math.min(demandPerSec, this.#earlierPerSec[i]!);
      this.#earlierPerSec[i] = demandPerSec;
    }
    if (this.#lendsRates(reservoirBurst) && this.#planned.length >= 2 * view.slots) this.#lendAnew(reservoirBurst);
    const stock = this.#borrowing.divide(use, this.#table.peek(0, 1)?.ratePerSec ?? 0);
    this.#table.setBorrowShares(this.#borrowing.shares, view.slots, stock, this.#borrowing.mayTakeStock);
    return reservoir;
  }

  /**
   * Publishes a plan: rate and burst per slot. With borrowing, who asks for more than its share is given what it is owed
   * where others have savings, and borrows the rest: what flows through the reservoir fills it up for them first. Until the next
   * tick rates are lent to those who can use them where the reservoir could not hold what there is to lend.
   */
  allocate(pairs: Float64Array, slots: number): void {
    this.#planned = pairs.slice(0, 2 * slots);
    let burst = this.#options.burst;
    for (let i = 1; i < slots; i++) burst -= pairs[2 * i + 1]! + this.deposit[i]!;
    if (this.view.tickMs > 0 && slots <= this.view.slots && this.#lendsRates(burst)) this.#lend(slots, burst);
    else this.#table.allocate(this.#withoutBorrowers(pairs, slots), slots, true);
  }

  /**
   * Who has to borrow beyond what it is owed: who asks for more than its share and has no savings, where others have and
   * the reservoir can hold what flows through it in a tick.
   */
  borrowers(): (slot: number) => boolean {
    const { borrow, burst } = this.#options;
    const { slots, tickMs } = this.view;
    let isAnySaved = false;
    if (borrow && burst / 2 >= (this.ratePerSec * tickMs) / 1000)
      for (let i = 1; i < slots && !isAnySaved; i++)
        isAnySaved = this.#roster.live[i] === 1 && this.#borrowing.hasSaved(i);
    if (!isAnySaved) return () => false;
    const isGreedy = this.greed();
    return (slot) => slot < slots && isGreedy(slot) && !this.#borrowing.hasSaved(slot);
  }

  #isAnyToBorrow(): boolean {
    const mustBorrow = this.borrowers();
    for (let i = 1; i < this.view.slots; i++) if (mustBorrow(i)) return true;
    return false;
  }

  #withoutBorrowers(pairs: Float64Array, slots: number): Float64Array {
    const mustBorrow = this.borrowers();
    const given = pairs.slice(0, 2 * slots);
    for (let i = 1; i < slots; i++)
      if (mustBorrow(i)) given[2 * i] = Math.min(given[2 * i]!, this.#roster.reservationPerSec[i]!);
    return given;
  }

  /** Whether a reservoir of that burst clips what flows through it in a tick. */
  #lendsRates(reservoirBurst: number): boolean {
    const { tickMs } = this.view;
    // A tick that was held up says nothing about the next.
    if (!this.#options.borrow || tickMs > this.#options.stepMs) return false;
    return reservoirBurst < (this.ratePerSec * tickMs) / 1000 + this.#meanCost;
  }

  #lendAnew(reservoirBurst: number): void {
    try {
      this.#lend(this.view.slots, reservoirBurst);
    } catch (error) {
      // Targets came since the plan was made: the plan that takes them in is lent next.
      if (!(error instanceof ForetokenError) || error.code === 'CLOSED' || error.code === 'ROLE_LOST') throw error;
      this.#planned = new Float64Array(0);
    }
  }

  #lend(slots: number, reservoirBurst: number): void {
    const { view } = this;
    const { live, reservationPerSec, limitPerSec, weight } = this.#roster;
    const tickS = view.tickMs / 1000;
    const planned = this.#planned;
    const lent = planned.slice(0, 2 * slots);
    const needs = {
      count: slots,
      needPerSec: new Float64Array(slots),
      floorPerSec: new Float64Array(slots),
      savedPerSec: new Float64Array(slots),
      weights: weight,
      // The table rounds rates.
      ratePerSec: this.ratePerSec * (1 - 1e-9),
    };
    // What buckets do not lack reaches who asks for more through the reservoir, and nothing is lost with who does not.
    const passes = this.#borrowing.passes && reservoirBurst >= 2 * this.#meanCost;
    for (let i = 1; i < slots; i++) {
      needs.savedPerSec[i] = this.#borrowing.savedTokens[i]! / tickS;
      if (live[i]) needs.floorPerSec[i] = Math.min(planned[2 * i]!, reservationPerSec[i]!);
      const room = planned[2 * i + 1]! + this.deposit[i]!;
      // A bucket that cannot hold a request can do nothing with a rate: its target borrows from the reservoir.
      if (!live[i] || room < this.#meanCost) continue;
      const lackPerSec = Math.max(0, room - this.level[i]!) / tickS;
      const needPerSec = passes ? lackPerSec : lackPerSec + this.#expectedPerSec[i]!;
      needs.needPerSec[i] = Math.min(limitPerSec[i]!, needPerSec);
    }
    const rates = new Float64Array(slots);
    lendRates(needs, rates);
    for (let i = 1; i < slots; i++) lent[2 * i] = rates[i]!;
    this.#table.allocate(lent, slots, true);
  }

  #adjust(reservoirTokens: number): boolean {
    const corrections = correct(
      this.#monitor,
      this.view,
      { level: (slot) => this.level[slot]!, deposit: (slot) => this.deposit[slot]! },
      Math.min(reservoirTokens, depositRoom(this.#table.peek(0, 1)?.burst ?? 0, this.#options.burst)),
      this.#options.burst,
      this.#meanCost,
      undefined,
      this.#roster.weight,
      this.greed(),
    );
    let isPlanStale = false;
    const isAnyToBorrow = corrections.length > 0 && this.#isAnyToBorrow();
    for (const { slot, tokens } of corrections) {
      if (!this.#roster.live[slot]) continue;
      const handle = this.#roster.handles[slot]!;
      this.correctedTokens[slot]! += isAnyToBorrow ? Math.min(0, tokens) : tokens;
      if (tokens < 0) this.#table.withdraw(handle);
      else {
        // Less than a request costs would only be kept from whoever can use it, and beside greedy neighbours the stock
        // serves whoever of the others comes.
        if (tokens > 0 && !isAnyToBorrow && this.level[slot]! + tokens >= this.#meanCost)
          this.move(handle, tokens, this.#options.stepMs);
        // Tokens help for now; for the rest of the step the rate must follow what is really asked for.
        // What has been answered is expected from now on, so that only more of it is answered again.
        const excess = Math.max(0, this.#monitor.ratePerSec[slot]! - this.view.q90PerSec[slot]!);
        this.extraPerSec[slot]! += excess;
        this.view.q90PerSec[slot]! += excess;
        isPlanStale = true;
      }
      this.#corrections++;
    }
    return isPlanStale;
  }
}
