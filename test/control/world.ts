import { expect } from 'vitest';
import { ControlLoop, type LoopOptions, type Onlooker, type StepReport } from '../../src/control/loop.js';
import { Roster } from '../../src/control/roster.js';
import { type Forecaster, type ForecastFrame, quantileCount } from '../../src/forecast/forecaster.js';
import { openMemoryHistory } from '../../src/history/memory.js';
import type { HistoryStore } from '../../src/history/store.js';
import type { ForetokenEvent } from '../../src/options.js';
import type { ShadowView } from '../../src/shadow/report.js';
import { BucketTable, type Handle } from '../../src/table/table.js';

/** Forecasts what a script says, at each horizon: one number for every quantile, or all five; tokens/s. */
export type Script = (row: number, step: number, horizonMs: number) => number | readonly number[];

/** A forecaster whose forecasts are known beforehand. Remembers what it was told. */
export class Scripted implements Forecaster {
  readonly name = 'scripted';
  readonly seen: number[][] = [];
  readonly resets: number[] = [];
  script: Script;
  /** Awaited in every step: what a test makes happen meanwhile. */
  during: () => Promise<void> = async () => {};
  readonly #frame: ForecastFrame;

  constructor(rows: number, horizonsMs: readonly number[], script: Script) {
    this.script = script;
    this.#frame = {
      rows: 0,
      horizonsMs,
      quantiles: new Float32Array(rows * horizonsMs.length * quantileCount),
      engines: ['scripted'],
      engine: new Uint8Array(rows * horizonsMs.length),
    };
  }

  async step(demand: Float64Array, rows: number): Promise<ForecastFrame> {
    this.seen.push([...demand.subarray(0, rows)]);
    await this.during();
    const { horizonsMs, quantiles } = this.#frame;
    this.#frame.rows = rows;
    for (let row = 0; row < rows; row++) {
      for (let h = 0; h < horizonsMs.length; h++) {
        const said = this.script(row, this.seen.length, horizonsMs[h]!);
        for (let q = 0; q < quantileCount; q++)
          quantiles[(row * horizonsMs.length + h) * quantileCount + q] = typeof said === 'number' ? said : said[q]!;
      }
    }
    return this.#frame;
  }

  reset(row: number): void {
    this.resets.push(row);
  }
  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** Who looks on. */
export interface Watching {
  shadows?: ShadowView | undefined;
  onlooker?: Onlooker | undefined;
}

export interface Member {
  name: string;
  handle: Handle;
  slot: number;
  reservation: number;
}

export const wallStart = 1_700_000_000_000;

/**
 * A table and its control loop on a clock that only moves here. Every tick checks what must always hold: sums
 * within the resource, reservations kept, and no interval in which more was admitted than the resource serves.
 */
export class World {
  readonly table: BucketTable;
  readonly loop: ControlLoop;
  readonly engine: Scripted;
  readonly history: HistoryStore;
  readonly events: ForetokenEvent[] = [];
  readonly reports: StepReport[] = [];
  readonly options: LoopOptions;
  readonly members = new Map<string, Member>();
  nowMs = 0;
  #admitted = 0;
  /** Least of admitted less what was allowed so far: the resource law is that no later value lies above it by over burst. */
  #lowest = 0;
  /** What the resource's rate in force has allowed so far, and up to when, ms. */
  #allowed = 0;
  #allowedMs = 0;

  private constructor(
    options: LoopOptions,
    history: HistoryStore,
    capacity: number,
    horizonsMs: readonly number[],
    script: Script,
    watching: Watching,
  ) {
    this.options = options;
    this.history = history;
    this.table = BucketTable.create({
      capacity,
      ratePerSec: options.ratePerSec,
      burst: options.burst,
      clock: 'virtual',
    });
    this.engine = new Scripted(capacity + 1, horizonsMs, script);
    this.loop = new ControlLoop({
      table: this.table,
      options,
      history,
      engine: this.engine,
      roster: new Roster(),
      ...watching,
      onEvent: (event) => this.events.push(event),
    });
  }

  static async open(
    options: Partial<LoopOptions> & {
      capacity?: number;
      horizonsMs?: readonly number[];
      script?: Script;
    } & Watching = {},
  ): Promise<World> {
    const { capacity = 16, horizonsMs = [5000], script = () => 0, shadows, onlooker, ...rest } = options;
    return new World(
      {
        ratePerSec: 1000,
        burst: 1000,
        borrow: true,
        allocator: 'max-min',
        stepMs: 1000,
        tickMs: 100,
        failSafeMs: 2000,
        ...rest,
      },
      await openMemoryHistory(),
      capacity,
      horizonsMs,
      script,
      { shadows, onlooker },
    );
  }

  add(name: string, { reservation = 0, weight = 1, limit = Number.POSITIVE_INFINITY } = {}): Member {
    const handle = this.table.addTarget({ mayBorrow: this.options.borrow });
    const { burst, ratePerSec } = this.options;
    this.table.setFallback(handle, reservation, (burst * reservation) / ratePerSec);
    if (Number.isFinite(limit)) this.table.setLimit(handle, limit, limit);
    this.loop.put({ name, handle, reservation, weight, limit });
    const member = { name, handle, slot: this.table.slotOf(handle), reservation };
    this.members.set(name, member);
    return member;
  }

  remove(name: string): void {
    const { handle } = this.members.get(name)!;
    this.table.removeTarget(handle);
    this.loop.remove(handle);
    this.members.delete(name);
  }

  /** Asks for so many single tokens at once. @returns how many were admitted */
  ask(name: string, tokens: number): number {
    const { handle } = this.members.get(name)!;
    let admitted = 0;
    for (let i = 0; i < tokens; i++) if (this.table.tryAcquire(handle, 1) > 0) admitted++;
    this.#admitted += admitted;
    this.#checkResource();
    return admitted;
  }

  peek(name: string) {
    return this.table.peek(this.members.get(name)!.handle, 1)!;
  }

  /** Moves time by one tick and runs it, and the step where one ends. */
  async tick(): Promise<void> {
    this.nowMs += this.options.tickMs;
    this.table.advanceTo(this.nowMs);
    this.#checkResource();
    this.loop.tick(wallStart + this.nowMs);
    this.check();
    if (this.nowMs % this.options.stepMs !== 0) return;
    this.reports.push((await this.loop.step(wallStart + this.nowMs))!);
    this.check();
  }

  /** Ticks on, with what each target asks for in each tick. */
  async run(
    ms: number,
    demand: (tick: number) => Record<string, number> = () => ({}),
  ): Promise<Record<string, number>> {
    const admitted: Record<string, number> = {};
    for (let tick = 0; tick < ms / this.options.tickMs; tick++) {
      for (const [name, tokens] of Object.entries(demand(tick)))
        admitted[name] = (admitted[name] ?? 0) + this.ask(name, tokens);
      await this.tick();
    }
    return admitted;
  }

  check(): void {
    const sums = this.table.sums();
    expect(sums.rate).toBeLessThanOrEqual(sums.resourceRate);
    expect(sums.burst).toBeLessThanOrEqual(sums.resourceBurst);
    // The table's fixed point resolves rates to a millionth and better.
    for (const { name, reservation } of this.members.values())
      expect(this.peek(name).ratePerSec).toBeGreaterThanOrEqual(reservation - 1e-3);
  }

  #checkResource(): void {
    const { burst } = this.options;
    this.#allowed += (this.table.sums().resourceRate * (this.nowMs - this.#allowedMs)) / 1000;
    this.#allowedMs = this.nowMs;
    const beyond = this.#admitted - this.#allowed;
    expect(beyond - this.#lowest).toBeLessThanOrEqual(burst + 1e-6);
    this.#lowest = Math.min(this.#lowest, beyond);
  }
}
