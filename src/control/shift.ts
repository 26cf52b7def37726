import { join } from 'node:path';
import { toErrorRecord } from '../errors.js';
import { inTime } from '../in-time.js';
import type { ForetokenEvent } from '../options.js';
import { ShadowLink } from '../shadow/link.js';
import { reportOf, type ShadowReport } from '../shadow/report.js';
import type { BucketTable } from '../table/table.js';
import { openParts, type Parts, warmUp } from './assembly.js';
import type { Explanation } from './explain.js';
import { ForecasterState } from './forecaster-state.js';
import { LateWarm } from './late-warm.js';
import { ControlLoop, type LoopOptions, type StepReport } from './loop.js';
import type { ControllerData } from './protocol.js';
import { Roster, type RosterEntry } from './roster.js';
import { readState, writeState } from './state-file.js';

/** What is not in the history is kept so often. */
const keepMs = 10_000;
/** What forecasters know is more: so that no more than this is written on average, bytes/ms, it is kept more rarely. */
const keptPerMs = 2000;
/** After it could not be. */
const retryMs = 60_000;
/** Steps wait while it is copied; more than this is kept at the end alone, and so is what takes longer. */
const mostCopied = 2 ** 28;
const leastCopyMs = 250;
/** How long that may take at the end, until it is safe on disk: the history is still to be closed then. */
const lastKeepMs = 6_000;

export interface ShiftHooks {
  onEvent: (event: ForetokenEvent) => void;
  onStep: (report: StepReport) => void;
}

/** One spell of running the loops over a table: from opening history and forecasters until they are closed again. */
export class Shift {
  readonly #loop: ControlLoop;
  readonly #parts: Parts;
  readonly #roster: Roster;
  readonly #late: LateWarm;
  readonly #shadows: ShadowLink | undefined;
  readonly #options: ControllerData['options'];
  readonly #hooks: ShiftHooks;
  readonly #beganMs = performance.now();
  #nextStepMs: number;
  #lastStepMs = 0;
  #stepping: Promise<void> | undefined;
  #keeping: Promise<void> | undefined;
  #keptAtMs = performance.now();
  /** What cannot be kept now; each is told of once. */
  readonly #failing = new Set<string>();
  /** Beside the history; undefined where that is in memory. */
  readonly #statePath: string | undefined;
  readonly #forecasters: ForecasterState | undefined;
  #forecastersDueMs = performance.now() + keepMs;
  /** Wall clock at the end of the last step; undefined before the first. */
  #steppedMs: number | undefined;
  #settling = false;
  #ended = false;
  // With the first step, not at the start: only then are the targets of this run known by name.
  #warm = false;
  withRows = false;

  private constructor(
    table: BucketTable,
    options: ControllerData['options'],
    parts: Parts,
    roster: Roster,
    hooks: ShiftHooks,
  ) {
    this.#options = options;
    this.#parts = parts;
    this.#roster = roster;
    this.#hooks = hooks;
    this.#nextStepMs = options.stepMs;
    if (options.history !== 'memory') {
      this.#statePath = join(options.history.path, 'controller-state.jsonl');
      this.#forecasters = new ForecasterState(join(options.history.path, 'forecaster-state.bin'));
    }
    this.#late = new LateWarm(parts, roster, options.stepMs, (message) => this.#tell('history', message));
    const { history, engine } = parts;
    if (options.shadow.length > 0)
      this.#shadows = new ShadowLink(
        options,
        table,
        () => engine.modelFrame(),
        (message) => this.#tell('shadow', message),
      );
    this.#loop = new ControlLoop({
      table,
      options: loopOptionsFor(table, options),
      history,
      engine,
      roster,
      onlooker: this.#shadows?.onlooker,
      shadows: this.#shadows,
      onEvent: hooks.onEvent,
    });
  }

  /** @throws ForetokenError HISTORY_UNAVAILABLE */
  static async open(table: BucketTable, options: ControllerData['options'], hooks: ShiftHooks): Promise<Shift> {
    const roster = new Roster();
    const shift = new Shift(table, options, await openParts(options, table, roster, hooks.onEvent), roster, hooks);
    await shift.#takeUp();
    return shift;
  }

  /** Where the history lies. */
  get history(): string {
    return this.#parts.history.location;
  }

  put(entry: RosterEntry): void {
    const isNew = this.#warm && !this.#roster.slots.has(entry.name);
    this.#guarded('put', () => this.#loop.put(entry));
    if (isNew) this.#late.add(entry.name);
    this.#settleSoon();
  }

  remove(handle: number): void {
    this.#guarded('remove', () => this.#loop.remove(handle));
    this.#settleSoon();
  }

  /** The slot's target is gone, whoever it was. */
  vacate(slot: number): void {
    const handle = this.#roster.handles[slot];
    if (handle !== undefined && this.#roster.live[slot]) this.remove(handle);
  }

  /** @throws UNKNOWN_TARGET */
  explain(name: string, atMs: number | undefined): Promise<Explanation> {
    return this.#loop.explain(name, Date.now(), atMs);
  }

  /** What the shadows would have denied, if there are any. */
  shadows(): ShadowReport {
    return this.#shadows?.report() ?? reportOf(undefined, [], Date.now());
  }

  /** A tick, and a step when one is due. */
  beat(): void {
    this.#guarded('tick', () => this.#loop.tick(Date.now()));
    const elapsed = performance.now() - this.#beganMs;
    if (elapsed < this.#nextStepMs || this.#stepping || this.#ended) return;
    const { stepMs } = this.#options;
    const steps = Math.max(1, Math.round((elapsed - this.#lastStepMs) / stepMs));
    this.#lastStepMs += steps * stepMs;
    this.#nextStepMs = this.#lastStepMs + stepMs;
    this.#stepping = this.#step(steps).finally(() => {
      this.#stepping = undefined;
    });
  }

  /** Waits for the step under way and closes everything. */
  async end(): Promise<void> {
    this.#ended = true;
    // Inference must not be cut off: a thread that ends during a run takes the process with it.
    await this.#stepping;
    await this.#keeping;
    await this.#keep();
    await this.#kept('what forecasters know', this.#keepLast());
    await this.#late.close();
    await this.#shadows?.close();
    await this.#parts.close().catch((error: unknown) => this.#report('close', error));
  }

  async #step(steps: number): Promise<void> {
    if (!this.#warm) {
      this.#warm = true;
      await this.#warmUp();
    }
    try {
      const nowMs = Date.now();
      const report = await this.#loop.step(nowMs, steps, this.withRows);
      this.#steppedMs = nowMs;
      if (report) {
        if (this.#shadows) report.shadows = this.#shadows.report();
        this.#hooks.onStep(report);
      }
      this.#keepSometimes();
      if (performance.now() >= this.#forecastersDueMs)
        await this.#keepForecasters(mostCopied, Math.max(leastCopyMs, this.#options.stepMs / 2));
    } catch (error) {
      this.#report('step', error);
    }
  }

  async #warmUp(): Promise<void> {
    try {
      const { steps, restored, left } = await warmUp(
        this.#parts,
        this.#roster,
        this.#options.stepMs,
        this.#forecasters,
        this.#shadows,
        (error) => this.#tell('history', `${toErrorRecord(error, 'HISTORY_UNAVAILABLE').message}; the history must do`),
      );
      for (const name of left) this.#late.add(name);
      if (restored)
        this.#tell(
          'history',
          `forecasters go on from where they were, with ${restored.targets} of the ${restored.known} targets they knew ` +
            `and ${steps} steps of history since`,
        );
      else if (steps > 0) this.#tell('history', `forecasters warmed with ${steps} steps of history`);
    } catch (error) {
      this.#tell('history', `warming failed: ${toErrorRecord(error, 'WORKER_FAILED').message}`);
    }
  }

  /** A state that cannot be read is told of and begun anew. */
  async #takeUp(): Promise<void> {
    if (this.#statePath === undefined) return;
    try {
      const state = await readState(this.#statePath);
      if (state) this.#loop.restore(state);
    } catch (error) {
      this.#tell('history', `${toErrorRecord(error, 'HISTORY_UNAVAILABLE').message}; begun anew`);
    }
  }

  #keepSometimes(): void {
    if (this.#keeping || performance.now() - this.#keptAtMs < keepMs) return;
    this.#keeping = this.#keep().finally(() => {
      this.#keeping = undefined;
    });
  }

  async #keep(): Promise<void> {
    if (this.#statePath === undefined) return;
    this.#keptAtMs = performance.now();
    await this.#kept('state', writeState(this.#statePath, this.#loop.state(Date.now())));
  }

  /** What forecasters know after the last step. A disk that does not take it in time must not keep all else from closing. */
  #keepLast(): Promise<void> {
    const keep = async () => {
      if (!this.#forecasters) return;
      // What is on its way to the disk is of an earlier step.
      await this.#forecasters.settled();
      await this.#parts.engine.settled();
      await this.#keepForecasters(Number.POSITIVE_INFINITY, lastKeepMs);
    };
    return inTime(lastKeepMs, keep(), () => new Error(`it was not on disk in ${lastKeepMs} ms`));
  }

  /** Steps wait until what forecasters know is copied; the disk has the time until the next is due to take it. */
  async #keepForecasters(mostBytes: number, mostMs: number): Promise<void> {
    const nowMs = performance.now();
    this.#forecastersDueMs = nowMs + retryMs;
    // Before the first step there is nothing that an earlier controller did not know.
    if (!this.#forecasters || this.#steppedMs === undefined) return;
    const { engine } = this.#parts;
    const limits = { bytes: mostBytes, ms: mostMs };
    const copying = this.#forecasters.write(engine, this.#roster.slots, this.#steppedMs, limits);
    const copied = await this.#kept('what forecasters know', copying);
    if (!copied) return;
    this.#forecastersDueMs = nowMs + Math.max(keepMs, copied.bytes / keptPerMs);
    const kept = this.#kept('what forecasters know', copied.kept);
    if (this.#ended) await kept;
  }

  /** What cannot be kept is told of once. */
  async #kept<T>(what: string, work: Promise<T>): Promise<T | undefined> {
    try {
      const result = await work;
      this.#failing.delete(what);
      return result;
    } catch (error) {
      const { message } = toErrorRecord(error, 'WORKER_FAILED');
      if (!this.#failing.has(what)) this.#tell('history', `${what} not kept: ${message}`);
      this.#failing.add(what);
      return undefined;
    }
  }

  /** Many targets are often put at once: one allocation for all of them. */
  #settleSoon(): void {
    if (this.#settling) return;
    this.#settling = true;
    setImmediate(() => {
      this.#settling = false;
      if (!this.#ended) this.#guarded('allocate', () => this.#loop.settle());
    });
  }

  #guarded(what: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#report(what, error);
    }
  }

  #report(what: string, error: unknown): void {
    const { code, message } = toErrorRecord(error, 'WORKER_FAILED');
    // The next beat finds out, and ends the shift.
    if (code !== 'ROLE_LOST') this.#tell('controller', `${what}: ${message}`);
  }

  #tell(kind: ForetokenEvent['kind'], message: string): void {
    this.#hooks.onEvent({ kind, message, timeMs: Date.now() });
  }
}

function loopOptionsFor(table: BucketTable, options: ControllerData['options']): LoopOptions {
  const { rate, minRatePerSec, maxRatePerSec } = options;
  if (rate === 'fixed') return options;
  // What an earlier controller of this table has found is where this one begins.
  const ratePerSec = table.sums().resourceRate;
  return { ...options, ratePerSec, adaptive: { minPerSec: minRatePerSec, maxPerSec: maxRatePerSec } };
}
