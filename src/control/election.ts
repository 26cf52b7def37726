import { ForetokenError, toErrorRecord } from '../errors.js';
import type { ShadowReport } from '../shadow/report.js';
import type { BucketTable } from '../table/table.js';
import type { Explanation } from './explain.js';
import type { ControllerData } from './protocol.js';
import { Shift, type ShiftHooks } from './shift.js';

/**
 * Part of the fail-safe time for which the role is held unless renewed. Who takes over from one that hangs must do so
 * before allocations lapse; one that was killed is found out at once.
 */
const termOfFailSafe = 0.75;
/** How long a process that could not begin its shift leaves the role to others. */
const afterFailureMs = 5_000;

export interface ElectionHooks extends ShiftHooks {
  /** The shift has begun; the history lies there. */
  onTaken: (history: string) => void;
}

/**
 * The controller role of a table that processes share: exactly one of them acts. The others look at every tick
 * whether it is to be had. What is done under the role is refused by the table once another has taken it, so a
 * process that was held up can do no harm when it goes on.
 */
export class Election {
  readonly #table: BucketTable;
  readonly #options: ControllerData['options'];
  readonly #hooks: ElectionHooks;
  readonly #termMs: number;
  #term = 0;
  #shift: Shift | undefined;
  /** Opening or closing what a shift needs. */
  #changing: Promise<void> | undefined;
  #rosterVersion = 0;
  #idleUntilMs = 0;
  #ended = false;
  /** What kept the last shift from beginning. */
  #failure: unknown;
  /** The history that was asked for must open: so far nobody relies on this process. */
  #strict = false;
  #withRows = false;

  constructor(table: BucketTable, options: ControllerData['options'], hooks: ElectionHooks) {
    this.#table = table;
    this.#options = options;
    this.#hooks = hooks;
    this.#termMs = Math.max(options.failSafeMs * termOfFailSafe, 2 * options.tickMs);
  }

  set withRows(withRows: boolean) {
    this.#withRows = withRows;
    if (this.#shift) this.#shift.withRows = withRows;
  }

  /**
   * Takes the role if nobody has it. @returns whether it was to be had
   * @throws what kept the shift from beginning; the role is given back then
   */
  async begin(): Promise<boolean> {
    this.#strict = true;
    const taken = this.#take();
    await this.#changing;
    this.#strict = false;
    if (!taken) return false;
    if (this.#failure !== undefined) throw this.#failure;
    return true;
  }

  /** @throws UNKNOWN_TARGET, NO_CONTROLLER where another process controls */
  async explain(name: string, atMs: number | undefined): Promise<Explanation> {
    if (this.#shift) return this.#shift.explain(name, atMs);
    throw new ForetokenError('NO_CONTROLLER', 'explain: another process controls this table, and knows');
  }

  /** @throws NO_CONTROLLER where another process controls */
  shadows(): ShadowReport {
    if (this.#shift) return this.#shift.shadows();
    throw new ForetokenError('NO_CONTROLLER', 'shadows: another process controls this table, and knows');
  }

  /** To be called every tick. */
  beat(): void {
    if (this.#ended) return;
    if (this.#term === 0) {
      if (!this.#changing && performance.now() >= this.#idleUntilMs) this.#take();
      return;
    }
    try {
      this.#table.renewRole(this.#termMs);
      if (this.#shift) {
        this.#readRoster(this.#shift);
        this.#shift.beat();
      } else this.#mind();
    } catch (error) {
      const { code, message } = toErrorRecord(error, 'WORKER_FAILED');
      if (code === 'ROLE_LOST') this.#lose();
      else this.#hooks.onEvent({ kind: 'controller', message: `role: ${message}`, timeMs: Date.now() });
    }
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#changing;
    await this.#shift?.end();
    this.#shift = undefined;
    this.#table.leaveRole();
  }

  #take(): boolean {
    this.#term = this.#table.takeRole(this.#termMs);
    if (this.#term === 0) return false;
    const term = this.#term;
    this.#failure = undefined;
    this.#changing = this.#open()
      .then(
        (shift) => this.#start(shift, term),
        (error: unknown) => this.#giveUp(error),
      )
      .finally(() => {
        this.#changing = undefined;
      });
    return true;
  }

  /** A history that cannot be opened, perhaps because one who hangs still has it, keeps nobody from taking over. */
  async #open(): Promise<Shift> {
    const options = { ...this.#options };
    try {
      return await Shift.open(this.#table, options, this.#hooks);
    } catch (error) {
      const { code, message } = toErrorRecord(error, 'WORKER_FAILED');
      if (this.#strict || code !== 'HISTORY_UNAVAILABLE') throw error;
      this.#hooks.onEvent({ kind: 'history', message: `${message}; kept in memory`, timeMs: Date.now() });
      return Shift.open(this.#table, { ...options, history: 'memory' }, this.#hooks);
    }
  }

  async #start(shift: Shift, term: number): Promise<void> {
    // Lost, and perhaps taken again, while it was being opened; or no longer wanted.
    if (this.#ended || this.#term !== term) return shift.end();
    this.#shift = shift;
    shift.withRows = this.#withRows;
    this.#rosterVersion = 0;
    this.#readRoster(shift);
    this.#hooks.onTaken(shift.history);
    this.#hooks.onEvent({ kind: 'role', message: `took the controller role, term ${term}`, timeMs: Date.now() });
  }

  #giveUp(error: unknown): void {
    this.#failure = error;
    this.#term = 0;
    this.#table.leaveRole();
    this.#idleUntilMs = performance.now() + afterFailureMs;
    const { message } = toErrorRecord(error, 'WORKER_FAILED');
    this.#hooks.onEvent({ kind: 'role', message: `cannot act as controller: ${message}`, timeMs: Date.now() });
  }

  #lose(): void {
    const shift = this.#shift;
    this.#term = 0;
    this.#shift = undefined;
    this.#table.leaveRole();
    this.#hooks.onEvent({ kind: 'role', message: 'another process has the controller role now', timeMs: Date.now() });
    if (shift)
      this.#changing = shift.end().finally(() => {
        this.#changing = undefined;
      });
  }

  /** Until history and forecasters are open, what is allocated goes on, and the reservoir is for everyone alike. */
  #mind(): void {
    const table = this.#table;
    table.extendValidity(this.#options.failSafeMs);
    if (!this.#options.borrow) return;
    const { reservoir } = table.tick();
    const { slots } = table;
    if (slots > 1) table.setBorrowShares(new Float64Array(slots).fill(Math.max(0, reservoir) / (slots - 1)), slots);
  }

  #readRoster(shift: Shift): void {
    const version = this.#table.rosterVersion;
    if (version === this.#rosterVersion) return;
    for (const {
      slot,
      handle,
      name,
      reservation,
      weight,
      limit,
      limitBurst,
      throttlingCost,
    } of this.#table.rosterSince(this.#rosterVersion)) {
      if (handle === 0) shift.vacate(slot);
      else shift.put({ name, handle, reservation, weight, limit, limitBurst, throttlingCost });
    }
    this.#rosterVersion = version;
  }
}
