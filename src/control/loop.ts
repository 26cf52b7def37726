import { CreditBook } from '../allocate/credit.js';
import { meanOf } from '../allocate/quantile.js';
import { AllocationRules } from '../allocate/rules.js';
import { ForetokenError, toErrorRecord } from '../errors.js';
import { type Forecaster, type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';
import { grown } from '../grown.js';
import type { HistoryStore, StepRecord } from '../history/store.js';
import { HistoryWatch } from '../history/watch.js';
import type { ForetokenEvent, ResolvedOptions } from '../options.js';
import type { ShadowReport, ShadowView } from '../shadow/report.js';
import type { Activity } from '../table/table.js';
import { Decisions } from './decisions.js';
import { type Explanation, explainPast, explanationOf } from './explain.js';
import { type ControlledTable, FastLoop } from './fast-loop.js';
import { type LimiterBounds, type LimitReason, RateLimiter } from './limiter.js';
import { horizonFor, horizonUpTo, learnsRules, plan } from './plan.js';
import type { Roster, RosterEntry } from './roster.js';
import type { KeptState, KeptTarget } from './state-file.js';
import { TrustBook, type Verdict, verdicts } from './trust.js';

export type LoopOptions = Pick<
  ResolvedOptions,
  'ratePerSec' | 'burst' | 'borrow' | 'allocator' | 'stepMs' | 'tickMs' | 'failSafeMs'
> & {
  /** Least bucket of each target, tokens. Default 0. */
  leastBurst?: number;
  /** Whether deviations are corrected. Default true. */
  adjust?: boolean;
  /** See `PlanInput`. */
  keepsSurplus?: boolean;
  /** Whether forecasts are planned with only where they have proved themselves. Nothing where rules are learnt. Default false. */
  trust?: boolean;
  /** Between which rates the resource's own is to be found; `ratePerSec` is where that begins. Default: it is given. */
  adaptive?: LimiterBounds;
};

/** What one step did, for whoever watches. Rates in tokens/s, tokens summed over the step and all targets. */
export interface StepReport {
  /** When it ended, Unix ms. */
  timeMs: number;
  /** Targets there are. */
  targets: number;
  /** Requests, admitted or not. */
  arrivals: number;
  /** What they asked for, and what of it was admitted and charged, net of refunds. */
  demandTokens: number;
  admittedTokens: number;
  /** Denied, and neither in shadow nor off. */
  deniedTokens: number;
  /** Admitted in shadow although enforced they would have been denied. */
  shadowDeniedTokens: number;
  /** Admitted because the mode was off. */
  unmeteredTokens: number;
  /** Of those admitted, served from the reservoir. */
  borrowedTokens: number;
  /** Put into buckets ahead of bursts. */
  depositedTokens: number;
  /** How often a target ran so far off its forecast that tokens were added or taken back. */
  corrections: number;
  /** Sum of the targets' median and 0.9 quantile forecasts over the shortest horizon. */
  forecastQ50PerSec: number;
  forecastQ90PerSec: number;
  /** The resource's limit in force, tokens/s, and why it is that: `fixed` where it is given. */
  ratePerSec: number;
  limit: LimitReason | 'fixed';
  /** Admitted tokens against that limit over the last ticks: 0 to 1, above it in a burst. */
  utilization: number;
  /** Processing time over the last tick against the best lately; 1: unloaded. NaN until completions are reported. */
  inflation: number;
  /** Targets by whether forecasts are planned with; all are trusted where nothing asks that. */
  trust: Record<Verdict, number>;
  /** What each part of the step took from start to end, ms. */
  costMs: { collect: number; store: number; forecast: number; plan: number; apply: number };
  /** What shadows would have denied since they began, where any were asked for; see `shadows()`. */
  shadows?: ShadowReport;
  /** A row per target, where they were asked for. */
  rows?: StepRow[];
}

/** One target in a report with rows. */
export interface StepRow {
  name: string;
  /** What it asked for in the step, and what of it was admitted and charged, tokens. */
  demandTokens: number;
  admittedTokens: number;
  /** What lies in its bucket now, deposits included, tokens; below 0 it is in debt. */
  level: number;
  /** What it was given, tokens/s. */
  ratePerSec: number;
  /** Median and 0.9 quantile of its demand over the shortest horizon, tokens/s. */
  q50PerSec: number;
  q90PerSec: number;
  /** Whether it is planned for by its forecasts; `trusted` where nothing asks that. */
  trust: Verdict;
}

const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);
/** What a target leaves of its share is forecast as far ahead as this. */
const advanceHorizonMs = 30_000;
/** Smaller changes of the limit, as a part of it, are not worth an allocation. */
const leastChange = 0.002;
/** Ticks with requests but without a processing time, ms together, after which it is told that no limit can be found. */
const blindMs = 10_000;
/** How long a target that does not come back is remembered. */
const keptMs = 7 * 24 * 3600 * 1000;
/** Most steps that are made up for when the loop was held up. */
const mostMissedSteps = 10;

/** Steps that forecasters take in for a time of so many step lengths. */
export const stepsToMakeUp = (steps: number): number => Math.min(mostMissedSteps, Math.max(1, Math.round(steps)));

/** Sees what the loop sees. What it is handed holds until it returns. One that throws is told of, and not told anything more. */
export interface Onlooker {
  /** A target has come or changed. */
  put(slot: number, entry: RosterEntry): void;
  remove(slot: number): void;
  /** A tick was collected, in which the resource's limit was `ratePerSec`. */
  ticked(activity: Activity, tickMs: number, wallMs: number, ratePerSec: number): void;
  /** What was collected up to here is a step. */
  stepBegan(): void;
  /** It is forecast from; told after `stepBegan`, unless the step failed. */
  forecast(frame: ForecastFrame, wallMs: number, steps: number): void;
}

/**
 * The control loops over one table. `tick` monitors and adjusts, `step` collects, stores, forecasts and
 * allocates. Time comes in as a parameter and from the table, so the same code runs on a virtual clock.
 */
export class ControlLoop {
  readonly #table: ControlledTable;
  readonly #options: LoopOptions;
  readonly #history: HistoryStore | undefined;
  readonly #historyWatch: HistoryWatch | undefined;
  readonly #engine: Forecaster;
  readonly #onEvent: (event: ForetokenEvent) => void;
  readonly #roster: Roster;
  readonly #rules = new AllocationRules();
  readonly #credits = new CreditBook();
  readonly #trust: TrustBook | undefined;
  readonly #limiter: RateLimiter | undefined;
  /** What an earlier controller knew of targets that have not come yet, by name. */
  readonly #kept = new Map<string, KeptTarget>();
  #blindMs = 0;
  readonly #fast: FastLoop;
  readonly #decisions: Decisions;
  #onlooker: Onlooker | undefined;
  #frame: ForecastFrame | undefined;
  /** What is planned with: the forecasts, or what stands in for those that are not trusted. */
  #gated: ForecastFrame | undefined;
  #dirty = true;
  /** Region time from which on every allocation was refused, ms, and whether that was told. */
  #refusedFromMs: number | undefined;
  #isRefusalTold = false;
  #hasTicked = false;
  #stepping = false;
  /** Slots that changed hands while a step was under way. */
  readonly #changed = new Set<number>();
  // Totals of the step under way, per slot.
  #sums = new Map<keyof Totals, Float64Array>();
  #lastTickMs: number;

  constructor(parts: {
    table: ControlledTable;
    options: LoopOptions;
    /** Default: nothing is kept. */
    history?: HistoryStore;
    engine: Forecaster;
    roster: Roster;
    onlooker?: Onlooker | undefined;
    /** Told of in explanations. */
    shadows?: ShadowView | undefined;
    onEvent: (event: ForetokenEvent) => void;
  }) {
    this.#table = parts.table;
    this.#options = parts.options;
    this.#history = parts.history;
    this.#historyWatch = parts.history && new HistoryWatch(parts.history, parts.onEvent);
    this.#onlooker = parts.onlooker;
    this.#engine = parts.engine;
    this.#roster = parts.roster;
    this.#onEvent = parts.onEvent;
    const { adaptive, ratePerSec, trust, stepMs } = parts.options;
    // Rules that are learnt weigh forecasts against the past by what was denied: a second judge would only be later.
    this.#trust = trust && !learnsRules(parts.options) ? new TrustBook(stepMs) : undefined;
    this.#limiter = adaptive && new RateLimiter(ratePerSec, adaptive);
    this.#fast = new FastLoop(parts.table, parts.roster, parts.options);
    this.#decisions = new Decisions({
      fast: this.#fast,
      roster: parts.roster,
      credits: this.#credits,
      trust: this.#trust,
      allocator: parts.options.allocator,
      modeOf: (handle) => parts.table.modeOf?.(handle),
      nowMs: () => parts.table.nowMs(),
      shadows: parts.shadows,
    });
    for (const column of totalColumns) this.#sums.set(column, new Float64Array(64));
    this.#lastTickMs = parts.table.nowMs();
    // What happened before the loop began is not demand of its first step.
    parts.table.collect();
  }

  put(entry: RosterEntry): void {
    const slot = this.#table.slotOf(entry.handle);
    const known = this.#roster.handles[slot];
    this.#grow(slot + 1);
    if (known !== entry.handle) {
      this.#forget(slot);
      this.#takeUp(entry.name, slot);
    }
    this.#roster.put(entry, slot);
    this.#dirty = true;
    this.#show((onlooker) => onlooker.put(slot, entry));
  }

  remove(handle: number): void {
    const slot = this.#table.slotOf(handle);
    if (this.#roster.handles[slot] !== handle) return;
    this.#roster.remove(slot);
    this.#forget(slot);
    this.#dirty = true;
    this.#show((onlooker) => onlooker.remove(slot));
  }

  /** Goes on from what an earlier controller knew; of targets that come later as they come. */
  restore(state: KeptState): void {
    // Losses are of steps, so those of other steps mean something else.
    const isOfSameSteps = state.stepMs === this.#options.stepMs;
    if (isOfSameSteps) {
      this.#rules.restore(state.rules);
      if (state.trust) this.#trust?.restorePooled(state.trust);
    }
    if (state.limiter) this.#limiter?.restore(state.limiter);
    for (const { trust, ...target } of state.targets)
      this.#kept.set(target.name, trust && isOfSameSteps ? { ...target, trust } : target);
    for (const [name, slot] of this.#roster.slots) this.#takeUp(name, slot);
  }

  /** What the next controller is to know. The targets are read as they are asked for. */
  state(wallMs: number): KeptState {
    return {
      stepMs: this.#options.stepMs,
      rules: this.#rules.record(),
      targets: this.#keptTargets(wallMs),
      ...(this.#limiter && { limiter: this.#limiter.record() }),
      ...(this.#trust && { trust: this.#trust.recordPooled() }),
    };
  }

  *#keptTargets(wallMs: number): Generator<KeptTarget> {
    for (const [name, slot] of this.#roster.slots) {
      const credit = this.#credits.balance(slot);
      const trust = this.#trust?.record(slot);
      if (credit !== 0 || trust) yield { name, seenMs: wallMs, credit, ...(trust && { trust }) };
    }
    for (const target of this.#kept.values()) if (wallMs - target.seenMs < keptMs) yield target;
  }

  #takeUp(name: string, slot: number): void {
    const kept = this.#kept.get(name);
    if (!kept) return;
    this.#kept.delete(name);
    this.#credits.restore(slot, kept.credit);
    if (kept.trust) this.#trust?.restore(slot, kept.trust);
  }

  /** The fast loop. */
  tick(wallMs: number): void {
    const nowMs = this.#table.nowMs();
    const tickMs = Math.max(1, nowMs - this.#lastTickMs);
    this.#lastTickMs = nowMs;
    if (this.#table.extendValidity(this.#options.failSafeMs)) {
      this.#dirty = true;
      if (this.#hasTicked)
        this.#onEvent({ kind: 'resumed', message: 'allocations begin anew from the fallback', timeMs: wallMs });
    }
    this.#hasTicked = true;
    const activity = this.#table.collect();
    this.#sum(activity);
    this.#show((onlooker) => onlooker.ticked(activity, tickMs, wallMs, this.#fast.ratePerSec));
    if (this.#fast.tick(activity, tickMs)) this.#dirty = true;
    if (this.#limiter) this.#adapt(this.#limiter, wallMs);
    if (learnsRules(this.#options)) this.#rules.tick(this.#fast.view.demand, tickMs / 1000);
    this.settle();
  }

  #adapt(limiter: RateLimiter, wallMs: number): void {
    const before = limiter.reason;
    limiter.observe(this.#fast.sample);
    this.#tellLimit(limiter, before, wallMs);
    this.follow(limiter.ratePerSec);
  }

  /**
   * Lets the resource's own rate follow what it was found to serve. What is allocated goes down before the rate does,
   * and up after it, so that the sums hold at every moment; nothing is minted by either.
   */
  follow(ratePerSec: number): void {
    const inForce = this.#fast.ratePerSec;
    if (Math.abs(ratePerSec / inForce - 1) < leastChange) return;
    const { burst } = this.#options;
    if (ratePerSec > inForce) {
      this.#table.setResource(ratePerSec, burst);
      this.#fast.ratePerSec = ratePerSec;
      this.#dirty = true;
      return;
    }
    this.#fast.ratePerSec = ratePerSec;
    this.#dirty = false;
    this.#allocate();
    try {
      this.#table.setResource(ratePerSec, burst);
    } catch (error) {
      if (!(error instanceof ForetokenError) || error.code !== 'OVERCOMMITTED') throw error;
      // A target was added in between: the next tick tries again.
      this.#fast.ratePerSec = inForce;
      this.#dirty = true;
    }
  }

  #tellLimit(limiter: RateLimiter, before: LimitReason, wallMs: number): void {
    const tell = (message: string) => this.#onEvent({ kind: 'limit', message, timeMs: wallMs });
    if (limiter.reason === 'overloaded' && before !== 'overloaded')
      tell(`the resource fell behind; its limit is ${Math.round(limiter.ratePerSec)} tokens/s for now`);
    const { admitted, completions, elapsedMs } = this.#fast.sample;
    if (completions > 0) this.#blindMs = Number.NEGATIVE_INFINITY;
    if (completions > 0 || admitted === 0 || this.#blindMs >= blindMs) return;
    this.#blindMs += elapsedMs;
    if (this.#blindMs >= blindMs) tell('no processing times are reported with complete(), so the limit stays as it is');
  }

  /**
   * Why a target has what it has now, or had at a time of the last hour.
   * @throws UNKNOWN_TARGET, also when nothing about it is recorded up to that time
   */
  async explain(name: string, wallMs: number, atMs?: number): Promise<Explanation> {
    if (atMs !== undefined && this.#history) return explainPast(this.#history, name, atMs);
    const slot = this.#roster.slots.get(name);
    if (slot === undefined) throw new ForetokenError('UNKNOWN_TARGET', `no target is named ${JSON.stringify(name)}`);
    this.settle();
    const now = this.#decisions.explain(slot, wallMs);
    if (!now) throw new ForetokenError('UNKNOWN_TARGET', `nothing was decided about ${JSON.stringify(name)} so far`);
    return explanationOf(name, now);
  }

  /** Allocates anew if targets were added, changed or removed since the last allocation. */
  settle(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.#allocate();
  }

  /**
   * The slow loop, for the step that ends now.
   * @param wallMs Unix time at its end
   * @param steps how many step lengths it covers: more than 1 when the loop was held up
   */
  async step(wallMs: number, steps = 1, withRows = false): Promise<StepReport | undefined> {
    if (this.#stepping) return undefined;
    this.#stepping = true;
    try {
      const started = performance.now();
      const slots = this.#table.slots;
      this.#grow(slots);
      this.#show((onlooker) => onlooker.stepBegan());
      const demand = this.#take('demandTokens');
      const record = this.#record(wallMs, steps, demand);
      const collected = performance.now();
      this.#history?.appendStep(record);
      this.#historyWatch?.look(wallMs);
      const stored = performance.now();
      const missed = stepsToMakeUp(steps);
      if (missed > 1) for (let i = 0; i < slots; i++) demand[i]! /= missed;
      for (let i = 0; i < missed; i++) this.#frame = await this.#engine.step(demand, slots);
      // What was forecast meanwhile for a slot that changed hands is not its new owner's.
      for (const slot of this.#changed) this.#forgetForecast(slot);
      this.#show((onlooker) => onlooker.forecast(this.#frame!, wallMs, steps));
      this.#gate(demand, slots, missed, this.#frame!);
      const forecast = performance.now();
      this.#fast.endStep();
      this.#setExpectations();
      this.#rules.endStep();
      this.#credits.settle((missed * this.#options.stepMs) / 1000);
      const planned = this.#allocate();
      if (this.#history) this.#decisions.record(this.#history, wallMs);
      const report = this.#report(record, wallMs, slots);
      report.costMs = {
        collect: collected - started,
        store: stored - collected,
        forecast: forecast - stored,
        plan: planned.planMs,
        apply: planned.applyMs,
      };
      if (withRows) report.rows = this.#rows(record);
      return report;
    } finally {
      this.#stepping = false;
      this.#changed.clear();
    }
  }

  /** Judges the forecasts, and finds out what to plan with. */
  #gate(demand: Float64Array, slots: number, steps: number, frame: ForecastFrame): void {
    this.#gated = frame;
    if (!this.#trust) return;
    // What was asked for under a slot that changed hands is not its new owner's.
    for (const slot of this.#changed) demand[slot] = 0;
    const horizon = horizonFor(frame, this.#options.stepMs);
    this.#trust.observe(demand, slots, steps, frame, horizon, this.#roster.throttlingCost);
    this.#gated = this.#trust.gate(frame);
  }

  /** What an onlooker does is its own affair. */
  #show(act: (onlooker: Onlooker) => void): void {
    if (!this.#onlooker) return;
    try {
      act(this.#onlooker);
    } catch (error) {
      this.#onlooker = undefined;
      const message = `shadows failed and are left out; everything else goes on: ${toErrorRecord(error, 'WORKER_FAILED').message}`;
      this.#onEvent({ kind: 'shadow', message, timeMs: Date.now() });
    }
  }

  /** Adds a tick's activity to the step's. */
  #sum({ rows, data }: Activity): void {
    this.#grow(rows);
    const c = this.#table.constants.collect;
    const sums = totalColumns.map((column) => [this.#sums.get(column)!, c[column]] as const);
    for (let i = 1; i < rows; i++) {
      const at = i * c.columns;
      if (data[at + c.demandTokens] === 0 && data[at + c.completions] === 0 && data[at + c.admittedTokens] === 0)
        continue;
      for (const [sum, column] of sums) sum[i]! += data[at + column]!;
    }
  }

  #allocate(): { planMs: number; applyMs: number } {
    const started = performance.now();
    const slots = this.#table.slots;
    this.#grow(slots);
    // The burst under an expired deposit is not free until it has been reclaimed.
    this.#table.reclaimExpired();
    this.#fast.readLevels();
    const planned = plan({
      slots,
      live: this.#roster.live,
      floorPerSec: this.#roster.reservationPerSec,
      weight: this.#roster.weight,
      limitPerSec: this.#roster.limitPerSec,
      leastBurst: this.#options.leastBurst ?? 0,
      requestCost: this.#fast.meanCost,
      frame: this.#gated,
      extraPerSec: this.#fast.extraPerSec,
      isGreedy: this.#fast.greed(),
      mustBorrow: this.#fast.borrowers(),
      level: this.#fast.level,
      ratePerSec: this.#fast.ratePerSec,
      burst: this.#options.burst,
      deposited: this.#fast.deposited(slots),
      stepMs: this.#options.stepMs,
      borrow: this.#options.borrow,
      keepsSurplus: this.#options.keepsSurplus,
      throttlingCost: this.#roster.throttlingCost,
      allocator: this.#options.allocator,
      rules: this.#rules,
      credits: this.#credits,
    });
    const plannedAt = performance.now();
    try {
      this.#fast.allocate(planned.pairs, slots);
    } catch (error) {
      // Targets added since the roster was read, or a lapse in between: the next tick plans anew.
      if (!(error instanceof ForetokenError) || error.code === 'CLOSED' || error.code === 'ROLE_LOST') throw error;
      this.#dirty = true;
      this.#refused(error);
      return { planMs: plannedAt - started, applyMs: 0 };
    }
    this.#refusedFromMs = undefined;
    this.#isRefusalTold = false;
    this.#decisions.made(planned, this.#frame);
    for (const { slot, tokens, forMs } of planned.deposits) this.#fast.move(this.#roster.handles[slot]!, tokens, forMs);
    return { planMs: plannedAt - started, applyMs: performance.now() - plannedAt };
  }

  /** While targets come one after the other plans are late as a matter of course; that none is taken for long is told. */
  #refused({ code, message }: ForetokenError): void {
    const nowMs = this.#table.nowMs();
    this.#refusedFromMs ??= nowMs;
    if (code === 'OVERCOMMITTED') {
      if (this.#isRefusalTold || nowMs - this.#refusedFromMs < this.#options.failSafeMs) return;
      this.#isRefusalTold = true;
    }
    this.#onEvent({ kind: 'controller', message: `allocation refused: ${message}`, timeMs: Date.now() });
  }

  #setExpectations(): void {
    const frame = this.#gated;
    if (!frame) return;
    const stride = frame.horizonsMs.length * quantileCount;
    const far = horizonUpTo(frame, advanceHorizonMs) * quantileCount;
    const { view, extraPerSec, forecastPerSec } = this.#fast;
    const rows = Math.min(frame.rows, view.demand.length);
    for (let i = 1; i < rows; i++) {
      view.q50PerSec[i] = frame.quantiles[i * stride + q50]!;
      view.q90PerSec[i] = frame.quantiles[i * stride + q90]! + extraPerSec[i]!;
      forecastPerSec[i] = meanOf(frame.quantiles, i * stride + far);
    }
    // Of those that were added while it was forecast nothing is expected but what they already ask for.
    for (let i = Math.max(1, rows); i < view.demand.length; i++) {
      view.q50PerSec[i] = 0;
      view.q90PerSec[i] = extraPerSec[i]!;
    }
  }

  #take(column: keyof Totals): Float64Array {
    const sums = this.#sums.get(column)!;
    const taken = sums.slice();
    sums.fill(0);
    return taken;
  }

  #record(wallMs: number, steps: number, demand: Float64Array): StepRecord {
    const rows: number[] = [];
    const others = otherColumns.map((column) => [column, this.#take(column)] as const);
    const named = Object.fromEntries(others) as Record<(typeof otherColumns)[number], Float64Array>;
    for (let i = 1; i < demand.length; i++)
      if (this.#roster.live[i] && (demand[i]! > 0 || named.completions[i]! > 0 || named.admittedTokens[i] !== 0))
        rows.push(i);
    const pick = (from: Float64Array): Float64Array => {
      const picked = new Float64Array(rows.length);
      for (let i = 0; i < picked.length; i++) picked[i] = from[rows[i]!]!;
      return picked;
    };
    const stepMs = Math.max(1, Math.round(steps)) * this.#options.stepMs;
    return {
      timeMs: wallMs - stepMs,
      stepMs,
      targets: rows.map((slot) => this.#roster.names[slot]!),
      demandTokens: pick(demand),
      ...(Object.fromEntries(others.map(([column, values]) => [column, pick(values)])) as Pick<
        StepRecord,
        (typeof otherColumns)[number]
      >),
    };
  }

  #report(record: StepRecord, wallMs: number, slots: number): StepReport {
    const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0);
    let forecastQ50PerSec = 0;
    let forecastQ90PerSec = 0;
    for (let i = 1; i < slots; i++) {
      forecastQ50PerSec += this.#fast.view.q50PerSec[i]!;
      forecastQ90PerSec += this.#fast.view.q90PerSec[i]! - this.#fast.extraPerSec[i]!;
    }
    const taken = (column: keyof Totals) => sum(this.#take(column));
    const [demandTokens, admittedTokens] = [sum(record.demandTokens), sum(record.admittedTokens)];
    const shadowDeniedTokens = taken('passedTokens');
    const unmeteredTokens = taken('unmeteredTokens');
    const report: StepReport = {
      timeMs: wallMs,
      targets: this.#roster.slots.size,
      arrivals: sum(record.arrivals),
      demandTokens,
      admittedTokens,
      deniedTokens: Math.max(0, demandTokens - admittedTokens - shadowDeniedTokens - unmeteredTokens),
      shadowDeniedTokens,
      unmeteredTokens,
      borrowedTokens: taken('borrowedTokens'),
      ...this.#fast.takeCounts(),
      forecastQ50PerSec,
      forecastQ90PerSec,
      ratePerSec: this.#fast.ratePerSec,
      limit: this.#limiter?.reason ?? 'fixed',
      utilization: this.#fast.utilization.fraction,
      inflation: this.#fast.utilization.inflation,
      trust: this.#trustCounts(),
      costMs: { collect: 0, store: 0, forecast: 0, plan: 0, apply: 0 },
    };
    return report;
  }

  #trustCounts(): Record<Verdict, number> {
    const counts = { learning: 0, trusted: 0, distrusted: 0 };
    if (!this.#trust) counts.trusted = this.#roster.slots.size;
    else for (const slot of this.#roster.slots.values()) counts[verdicts[this.#trust.verdictAt(slot)]!]++;
    return counts;
  }

  #rows(record: StepRecord): StepRow[] {
    const { data } = this.#table.levels();
    const l = this.#table.constants.levels;
    const places = new Map(record.targets.map((name, i) => [name, i]));
    return [...this.#roster.slots].map(([name, slot]) => {
      const i = places.get(name);
      return {
        name,
        demandTokens: i === undefined ? 0 : record.demandTokens[i]!,
        admittedTokens: i === undefined ? 0 : record.admittedTokens[i]!,
        level: data[slot * l.columns + l.level]!,
        ratePerSec: data[slot * l.columns + l.rate]!,
        q50PerSec: this.#fast.view.q50PerSec[slot]!,
        q90PerSec: this.#fast.view.q90PerSec[slot]! - this.#fast.extraPerSec[slot]!,
        trust: this.#trust ? verdicts[this.#trust.verdictAt(slot)]! : 'trusted',
      };
    });
  }

  #forget(slot: number): void {
    this.#rules.reset(slot);
    this.#credits.reset(slot);
    this.#trust?.reset(slot);
    this.#fast.forget(slot);
    this.#decisions.forget(slot);
    for (const sums of this.#sums.values()) sums[slot] = 0;
    if (this.#stepping) this.#changed.add(slot);
    this.#forgetForecast(slot);
  }

  #forgetForecast(slot: number): void {
    this.#engine.reset(slot);
    this.#fast.view.q50PerSec[slot] = 0;
    this.#fast.view.q90PerSec[slot] = 0;
    for (const frame of new Set([this.#frame, this.#gated])) {
      if (!frame || slot >= frame.rows) continue;
      const stride = frame.horizonsMs.length * quantileCount;
      frame.quantiles.fill(0, slot * stride, (slot + 1) * stride);
    }
  }

  #grow(slots: number): void {
    this.#fast.grow(slots);
    for (const [column, sums] of this.#sums) {
      if (slots <= sums.length) return;
      this.#sums.set(column, grown(sums, slots * 2));
    }
  }
}

const otherColumns = [
  'arrivals',
  'admitted',
  'denied',
  'admittedTokens',
  'readBytes',
  'writeBytes',
  'completions',
  'durationNs',
] as const;
const totalColumns = ['demandTokens', 'borrowedTokens', 'passedTokens', 'unmeteredTokens', ...otherColumns] as const;
type Totals = Record<(typeof totalColumns)[number], number>;
