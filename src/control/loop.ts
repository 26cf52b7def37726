import { AllocationRules } from '../allocate/rules.js';
import { borrowShares } from '../allocate/shares.js';
import { ForetokenError } from '../errors.js';
import { type Forecaster, type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';
import type { HistoryStore, StepRecord } from '../history/store.js';
import { adjusterDefaults, correct } from '../monitor/adjuster.js';
import { Monitor, type TickView, Utilization } from '../monitor/monitor.js';
import type { ForetokenEvent, ResolvedOptions } from '../options.js';
import type { BucketTable } from '../table/table.js';
import { depositRoom, learnsRules, plan } from './plan.js';
import type { Roster, RosterEntry } from './roster.js';

export type LoopOptions = Pick<
  ResolvedOptions,
  'ratePerSec' | 'burst' | 'borrow' | 'allocator' | 'stepMs' | 'tickMs' | 'failSafeMs'
>;

/** What one step did, for whoever watches. Rates in tokens/s, tokens summed over the step. */
export interface StepReport {
  timeMs: number;
  targets: number;
  arrivals: number;
  demandTokens: number;
  admittedTokens: number;
  borrowedTokens: number;
  depositedTokens: number;
  corrections: number;
  /** Sum of the targets' median and 0.9 quantile forecasts for the next step. */
  forecastQ50PerSec: number;
  forecastQ90PerSec: number;
  utilization: number;
  inflation: number;
  /** What each part of the step took, ms. */
  costMs: { collect: number; store: number; forecast: number; plan: number; apply: number };
  rows?: StepRow[];
}

/** One target in a report with rows. */
export interface StepRow {
  name: string;
  demandTokens: number;
  admittedTokens: number;
  level: number;
  ratePerSec: number;
  q50PerSec: number;
  q90PerSec: number;
}

const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);
/** Observed excess over a forecast loses half of itself each step: the forecaster has seen it by then. */
const extraDecay = 0.5;
/**
 * Part of its last tick's demand that a target which was served in full may borrow: it will be short by
 * chance now and then, and whoever always is must not have taken everything by then.
 */
const headroom = 0.25;
/** Most steps that are made up for when the loop was held up. */
const mostMissedSteps = 10;

/**
 * The control loops over one table. `tick` monitors and adjusts, `step` collects, stores, forecasts and
 * allocates. Time comes in as a parameter and from the table, so the same code runs on a virtual clock.
 */
export class ControlLoop {
  readonly #table: BucketTable;
  readonly #options: LoopOptions;
  readonly #history: HistoryStore;
  readonly #engine: Forecaster;
  readonly #onEvent: (event: ForetokenEvent) => void;
  readonly #roster: Roster;
  readonly #rules = new AllocationRules();
  readonly #monitor: Monitor;
  readonly utilization = new Utilization();
  #frame: ForecastFrame | undefined;
  #dirty = true;
  #stepping = false;
  /** Slots that changed hands while a step was under way. */
  readonly #changed = new Set<number>();
  // Totals of the step under way, per slot.
  #sums = new Map<keyof Totals, Float64Array>();
  #view: TickView;
  #short = new Float64Array(64);
  #shares = new Float64Array(64);
  #level = new Float64Array(64);
  #deposit = new Float64Array(64);
  #extra = new Float64Array(64);
  #corrections = 0;
  #depositedTokens = 0;
  #meanCost = 1;
  #lastTickMs: number;

  constructor(parts: {
    table: BucketTable;
    options: LoopOptions;
    history: HistoryStore;
    engine: Forecaster;
    roster: Roster;
    onEvent: (event: ForetokenEvent) => void;
  }) {
    this.#table = parts.table;
    this.#options = parts.options;
    this.#history = parts.history;
    this.#engine = parts.engine;
    this.#roster = parts.roster;
    this.#onEvent = parts.onEvent;
    this.#monitor = new Monitor(64);
    const empty = () => new Float64Array(64);
    this.#view = {
      slots: 0,
      demand: empty(),
      denied: empty(),
      borrowed: empty(),
      q50PerSec: empty(),
      q90PerSec: empty(),
      tickMs: parts.options.tickMs,
    };
    for (const column of totalColumns) this.#sums.set(column, empty());
    this.#lastTickMs = parts.table.nowMs();
    // What happened before the loop began is not demand of its first step.
    parts.table.collect();
  }

  put(entry: RosterEntry): void {
    const slot = this.#table.slotOf(entry.handle);
    const known = this.#roster.handles[slot];
    this.#grow(slot + 1);
    if (known !== entry.handle) this.#forget(slot);
    this.#roster.put(entry, slot);
    this.#dirty = true;
  }

  remove(handle: number): void {
    const slot = this.#table.slotOf(handle);
    if (this.#roster.handles[slot] !== handle) return;
    this.#roster.remove(slot);
    this.#forget(slot);
    this.#dirty = true;
  }

  /** The fast loop. */
  tick(wallMs: number): void {
    const nowMs = this.#table.nowMs();
    const tickMs = Math.max(1, nowMs - this.#lastTickMs);
    this.#lastTickMs = nowMs;
    if (this.#table.extendValidity(this.#options.failSafeMs)) {
      this.#dirty = true;
      this.#onEvent({ kind: 'resumed', message: 'allocations begin anew from the fallback', timeMs: wallMs });
    }
    this.#observe(tickMs);
    if (learnsRules(this.#options)) this.#rules.tick(this.#view.demand, tickMs / 1000);
    const reservoir = this.#conserve();
    this.#adjust(reservoir);
    if (this.#dirty) {
      this.#dirty = false;
      this.#allocate();
    }
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
      const demand = this.#take('demandTokens');
      const record = this.#record(wallMs, steps, demand);
      const collected = performance.now();
      this.#history.appendStep(record);
      const stored = performance.now();
      const missed = Math.min(mostMissedSteps, Math.max(1, Math.round(steps)));
      if (missed > 1) for (let i = 0; i < slots; i++) demand[i]! /= missed;
      for (let i = 0; i < missed; i++) this.#frame = await this.#engine.step(demand, slots);
      // What was forecast meanwhile for a slot that changed hands is not its new owner's.
      for (const slot of this.#changed) this.#forgetForecast(slot);
      const forecast = performance.now();
      for (let i = 0; i < slots; i++) this.#extra[i]! *= extraDecay;
      this.#setExpectations();
      this.#rules.endStep();
      const planned = this.#allocate();
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

  #observe(tickMs: number): void {
    const { rows, data } = this.#table.collect();
    this.#grow(rows);
    const c = this.#table.constants.collect;
    const view = this.#view;
    view.slots = rows;
    view.tickMs = tickMs;
    let admitted = 0;
    let completions = 0;
    let durationNs = 0;
    let arrivals = 0;
    let demanded = 0;
    const sums = totalColumns.map((column) => [this.#sums.get(column)!, c[column]] as const);
    for (let i = 1; i < rows; i++) {
      const at = i * c.columns;
      const asked = data[at + c.demandTokens]!;
      view.demand[i] = asked;
      view.denied[i] = asked - data[at + c.admittedTokens]!;
      view.borrowed[i] = data[at + c.borrowedTokens]!;
      if (asked === 0 && data[at + c.completions] === 0 && data[at + c.admittedTokens] === 0) continue;
      for (const [sum, column] of sums) sum[i]! += data[at + column]!;
      admitted += data[at + c.admittedTokens]!;
      completions += data[at + c.completions]!;
      durationNs += data[at + c.durationNs]!;
      arrivals += data[at + c.arrivals]!;
      demanded += asked;
    }
    if (arrivals > 0) this.#meanCost += (demanded / arrivals - this.#meanCost) / 10;
    this.utilization.observe(admitted, this.#options.ratePerSec, tickMs, completions, durationNs);
    this.#monitor.observe(view);
  }

  /** Law 4: what idle buckets overflowed goes back, and everyone's share of the reservoir is set anew. */
  #conserve(): number {
    const view = this.#view;
    if (!this.#options.borrow) {
      this.#table.reclaimExpired();
      return this.#table.peek(0, 1)?.tokens ?? 0;
    }
    const { reservoir } = this.#table.tick();
    for (let i = 0; i < view.slots; i++)
      this.#short[i] = this.#roster.live[i] ? view.denied[i]! + view.borrowed[i]! + headroom * view.demand[i]! : 0;
    borrowShares(this.#short, this.#roster.weight, view.slots, Math.max(0, reservoir), this.#shares);
    this.#table.setBorrowShares(this.#shares, view.slots);
    return reservoir;
  }

  #adjust(reservoirTokens: number): void {
    this.#readLevels();
    const corrections = correct(
      this.#monitor,
      this.#view,
      { level: (slot) => this.#level[slot]!, deposit: (slot) => this.#deposit[slot]! },
      Math.min(reservoirTokens, depositRoom(this.#options.burst, this.#deposited(this.#view.slots))),
      this.#options.burst,
      this.#meanCost,
      adjusterDefaults,
      this.#roster.weight,
    );
    for (const { slot, tokens } of corrections) {
      if (!this.#roster.live[slot]) continue;
      const handle = this.#roster.handles[slot]!;
      if (tokens < 0) this.#table.withdraw(handle);
      else {
        this.#depositedTokens += this.#table.deposit(handle, tokens, this.#options.stepMs);
        // Tokens help for now; for the rest of the step the rate must follow what is really asked for.
        const excess = this.#monitor.ratePerSec[slot]! - this.#view.q90PerSec[slot]!;
        this.#extra[slot] = Math.max(this.#extra[slot]!, excess);
        this.#dirty = true;
      }
      this.#corrections++;
    }
  }

  #allocate(): { planMs: number; applyMs: number } {
    const started = performance.now();
    const slots = this.#table.slots;
    this.#grow(slots);
    // The burst under an expired deposit is not free until it has been reclaimed.
    this.#table.reclaimExpired();
    this.#readLevels();
    const planned = plan({
      slots,
      live: this.#roster.live,
      floorPerSec: this.#roster.floorPerSec,
      weight: this.#roster.weight,
      limitPerSec: this.#roster.limitPerSec,
      leastBurst: 0,
      frame: this.#frame,
      extraPerSec: this.#extra,
      level: this.#level,
      ratePerSec: this.#options.ratePerSec,
      burst: this.#options.burst,
      deposited: this.#deposited(slots),
      stepMs: this.#options.stepMs,
      borrow: this.#options.borrow,
      allocator: this.#options.allocator,
      rules: this.#rules,
    });
    const plannedAt = performance.now();
    try {
      this.#table.allocate(planned.pairs, slots, true);
    } catch (error) {
      // Targets added since the roster was read, or a lapse in between: the next tick plans anew.
      if (!(error instanceof ForetokenError) || error.code === 'CLOSED') throw error;
      this.#dirty = true;
      this.#onEvent({ kind: 'controller', message: `allocation refused: ${error.message}`, timeMs: Date.now() });
      return { planMs: plannedAt - started, applyMs: 0 };
    }
    for (const { slot, tokens, forMs } of planned.deposits)
      this.#depositedTokens += this.#table.deposit(this.#roster.handles[slot]!, tokens, forMs);
    return { planMs: plannedAt - started, applyMs: performance.now() - plannedAt };
  }

  /** Burst that lies under deposits, tokens. */
  #deposited(slots: number): number {
    let sum = 0;
    for (let i = 1; i < slots; i++) sum += this.#deposit[i]!;
    return Math.min(sum, this.#options.burst);
  }

  #readLevels(): void {
    const { rows, data } = this.#table.levels();
    this.#grow(rows);
    const l = this.#table.constants.levels;
    for (let i = 0; i < rows; i++) {
      this.#level[i] = data[i * l.columns + l.level]!;
      this.#deposit[i] = data[i * l.columns + l.deposit]!;
    }
  }

  #setExpectations(): void {
    const frame = this.#frame;
    if (!frame) return;
    const stride = frame.horizonsMs.length * quantileCount;
    const rows = Math.min(frame.rows, this.#view.demand.length);
    for (let i = 1; i < rows; i++) {
      this.#view.q50PerSec[i] = frame.quantiles[i * stride + q50]!;
      this.#view.q90PerSec[i] = frame.quantiles[i * stride + q90]!;
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
    return {
      timeMs: wallMs - Math.max(1, Math.round(steps)) * this.#options.stepMs,
      stepMs: this.#options.stepMs,
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
      forecastQ50PerSec += this.#view.q50PerSec[i]!;
      forecastQ90PerSec += this.#view.q90PerSec[i]!;
    }
    const report: StepReport = {
      timeMs: wallMs,
      targets: this.#roster.slots.size,
      arrivals: sum(record.arrivals),
      demandTokens: sum(record.demandTokens),
      admittedTokens: sum(record.admittedTokens),
      borrowedTokens: this.#take('borrowedTokens').reduce((a, b) => a + b, 0),
      depositedTokens: this.#depositedTokens,
      corrections: this.#corrections,
      forecastQ50PerSec,
      forecastQ90PerSec,
      utilization: this.utilization.fraction,
      inflation: this.utilization.inflation,
      costMs: { collect: 0, store: 0, forecast: 0, plan: 0, apply: 0 },
    };
    this.#depositedTokens = 0;
    this.#corrections = 0;
    return report;
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
        q50PerSec: this.#view.q50PerSec[slot]!,
        q90PerSec: this.#view.q90PerSec[slot]!,
      };
    });
  }

  #forget(slot: number): void {
    this.#monitor.reset(slot);
    this.#rules.reset(slot);
    this.#extra[slot] = 0;
    for (const sums of this.#sums.values()) sums[slot] = 0;
    if (this.#stepping) this.#changed.add(slot);
    this.#forgetForecast(slot);
  }

  #forgetForecast(slot: number): void {
    this.#engine.reset(slot);
    this.#view.q50PerSec[slot] = 0;
    this.#view.q90PerSec[slot] = 0;
    const frame = this.#frame;
    if (frame && slot < frame.rows) {
      const stride = frame.horizonsMs.length * quantileCount;
      frame.quantiles.fill(0, slot * stride, (slot + 1) * stride);
    }
  }

  #grow(slots: number): void {
    if (slots <= this.#level.length) return;
    const bigger = (array: Float64Array): Float64Array<ArrayBuffer> => {
      const grown = new Float64Array(slots * 2);
      grown.set(array);
      return grown;
    };
    for (const name of ['demand', 'denied', 'borrowed', 'q50PerSec', 'q90PerSec'] as const)
      this.#view[name] = bigger(this.#view[name]);
    for (const [column, sums] of this.#sums) this.#sums.set(column, bigger(sums));
    this.#short = bigger(this.#short);
    this.#shares = bigger(this.#shares);
    this.#level = bigger(this.#level);
    this.#deposit = bigger(this.#deposit);
    this.#extra = bigger(this.#extra);
    this.#monitor.grow(slots);
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
const totalColumns = ['demandTokens', 'borrowedTokens', ...otherColumns] as const;
type Totals = Record<(typeof totalColumns)[number], number>;
