import type { Explanation } from './control/explain.js';
import { ForetokenError } from './errors.js';
import {
  type AcquireOptions,
  type Cost,
  checkCost,
  costOf,
  countOf,
  type ExplainOptions,
  type RequestInfo,
  resolveAcquire,
  show,
} from './options.js';
import type { Lease, Leases } from './table/leases.js';
import type { TargetMode } from './table/native.js';
import type { BucketTable, Handle, PeekResult } from './table/table.js';
import type { Waiters } from './table/waiters.js';

/** What a request moved and how long it took, reported when it is done. */
export interface Completion {
  readBytes?: number;
  writeBytes?: number;
  /** Processing time, ms. */
  durationMs?: number;
}

/**
 * Running totals of a target since it was added. Every request is in one of `admitted`, `denied`, `shadowDenied` and
 * `unmetered`. Tokens are net of refunds. A request that waits counts as denied until it is admitted; one that gives up,
 * or is turned away because too many wait, stays denied.
 */
export interface TargetTotals {
  /** Admitted and charged. */
  admitted: number;
  denied: number;
  /** Admitted because the mode was `shadow`; enforced, they would have been denied or made to wait. */
  shadowDenied: number;
  /** Admitted because the mode was `off`. */
  unmetered: number;
  admittedTokens: number;
  deniedTokens: number;
  shadowDeniedTokens: number;
  unmeteredTokens: number;
  borrowedTokens: number;
  completions: number;
  readBytes: number;
  writeBytes: number;
  durationMs: number;
}

/**
 * Throws for a decision that is a misuse; returns for a denial that has a code of its own.
 * @param whose the target, as the error names it
 */
export function checkDecision({ constants }: BucketTable, decision: number, cost: number, whose: string): void {
  const { badHandle, badCost, closed } = constants.decision;
  if (decision === closed) throw new ForetokenError('CLOSED', `${whose}: the table is closed`);
  if (decision === badHandle) throw new ForetokenError('UNKNOWN_TARGET', `${whose} was removed`);
  if (decision === badCost)
    throw new ForetokenError(
      'INVALID_ARGUMENT',
      `cost: ${checkCost(cost)} tokens are too few for the table to resolve`,
    );
}

/** What the targets of a table have in common in one thread: kept once, so that a million of them stay small. */
export interface Shared {
  table: BucketTable;
  waiters: Waiters;
  leases: Leases;
  cost: Cost;
  explain(name: string, options?: ExplainOptions): Promise<Explanation>;
}

/**
 * One target of a Foretoken: who is asking. Get it from `addTarget` or `target` and keep it; every call on it
 * is a number lookup in shared memory, not a search by name.
 */
export class Target {
  readonly name: string;
  /** The target's number in the table; goes to other threads by `share`. Stale once the target is removed. */
  readonly handle: Handle;
  readonly #shared: Shared;
  #lease: Lease | undefined;

  /** @internal */
  constructor(name: string, handle: Handle, shared: Shared) {
    this.name = name;
    this.handle = handle;
    this.#shared = shared;
  }

  /**
   * Decides now. Strict: every call asks the shared table, so no token is out of sight, a denial means that there
   * are none, and every request is counted at once. That is what most callers expect of it, hence the default;
   * `tryAcquireLeased` is for those who ask millions of times a second.
   * @param request its cost in tokens (finite, above 0; default 1), or the request itself, priced by the
   *   `cost` option
   * @returns whether it is admitted; false also while others wait in this target's line, and for a cost no
   *   bucket could ever hold
   * @throws INVALID_ARGUMENT for a cost that is none, UNKNOWN_TARGET when the target was removed, CLOSED
   */
  tryAcquire(request: number | RequestInfo = 1): boolean {
    const cost = typeof request === 'number' ? request : costOf(this.#shared.cost, request);
    const decision = this.#shared.table.tryAcquire(this.handle, cost);
    if (decision < 0) this.#check(decision, cost);
    return decision > 0;
  }

  /**
   * Decides now, from a chunk of tokens that this thread holds and renews as it is used: about a sixth of the time
   * of `tryAcquire`, and threads do not meet at the bucket. Never admits more than `tryAcquire` would. It may deny
   * while other threads hold tokens: each at most a sixteenth of the target's burst, all at most half of it, and
   * for at most 0.1 s after its last use while its event loop runs. What is held counts as admitted tokens; the
   * requests are counted when it is renewed or given back. Slow targets, targets with a limit and threads beyond eight
   * are decided as by `tryAcquire`.
   * @param request as for `tryAcquire`
   * @throws what `tryAcquire` throws
   */
  tryAcquireLeased(request: number | RequestInfo = 1): boolean {
    const cost = typeof request === 'number' ? request : costOf(this.#shared.cost, request);
    this.#lease ??= this.#shared.leases.of(this.handle);
    const decision = this.#lease.tryAcquire(cost);
    if (decision < 0) this.#check(decision, cost);
    return decision > 0;
  }

  /**
   * Waits in this target's line until admitted: first come, first served, so a large request is not starved
   * by small ones.
   * @throws DEADLINE, ABORTED (its `cause` is the signal's reason), QUEUE_FULL, COST_TOO_LARGE at once when
   *   it can never be admitted, and what `tryAcquire` throws
   */
  async acquire(request: number | RequestInfo = 1, options?: AcquireOptions): Promise<void> {
    const cost = checkCost(typeof request === 'number' ? request : costOf(this.#shared.cost, request));
    const { deadlineMs, signal } = resolveAcquire(options);
    if (signal?.aborted)
      throw new ForetokenError('ABORTED', 'the signal was aborted already', { cause: signal.reason });
    if (!this.#shared.waiters.hasLine(this.handle)) {
      // Asked as one in line, so that a request which is about to wait is not counted as denied first.
      const decision = this.#shared.table.acquireOrWait(this.handle, cost);
      if (decision > 0) return;
      this.#check(decision, cost);
    }
    return this.#shared.waiters.join(this.handle, cost, deadlineMs, signal);
  }

  /**
   * What it could take now and how long until `cost` fits. Changes nothing.
   * @throws UNKNOWN_TARGET, CLOSED, INVALID_ARGUMENT
   */
  peek(cost = 1): PeekResult {
    checkCost(cost);
    return this.#shared.table.peek(this.handle, cost) ?? this.#gone();
  }

  /**
   * Gives back tokens of an admitted request that was not served. Never lifts the level above the burst.
   * @param tokens at most what was ever charged to this target, else INVALID_ARGUMENT
   */
  refund(tokens: number): void {
    const decision = this.#shared.table.refund(this.handle, checkCost(tokens));
    if (decision < 0) {
      if (decision === this.#shared.table.constants.decision.badCost)
        throw new ForetokenError('INVALID_ARGUMENT', `refund: ${tokens} tokens are more than were charged`);
      this.#check(decision, tokens);
    }
  }

  /**
   * Corrects an estimate once the cost is known: refunds the difference, or charges it into a debt of at most
   * one burst that delays later admissions.
   * @returns tokens charged (above 0) or given back (below 0)
   */
  reconcile(estimated: number, actual: number): number {
    checkCost(estimated);
    if (typeof actual !== 'number' || !(actual >= 0) || !Number.isFinite(actual))
      throw new ForetokenError('INVALID_ARGUMENT', `actual: expected a finite number from 0, got ${show(actual)}`);
    if (actual === estimated) return 0;
    if (actual < estimated) {
      this.refund(estimated - actual);
      return actual - estimated;
    }
    const charged = this.#shared.table.charge(this.handle, actual - estimated);
    if (charged < 0) this.#check(charged, actual);
    return charged;
  }

  /** Reports a request's sizes and processing time, for the history and for finding out how busy the resource is. */
  complete(done: Completion): void {
    if (typeof done !== 'object' || done === null)
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `completion: expected { readBytes, writeBytes, durationMs }, got ${show(done)}`,
      );
    const readBytes = countOf('readBytes', done.readBytes);
    const writeBytes = countOf('writeBytes', done.writeBytes);
    const durationMs = countOf('durationMs', done.durationMs);
    const decision = this.#shared.table.complete(this.handle, readBytes, writeBytes, durationMs * 1e6);
    if (decision < 0) this.#check(decision, 1);
  }

  /** Why it has the tokens it has; see `Foretoken.explain`. */
  explain(options?: ExplainOptions): Promise<Explanation> {
    return this.#shared.explain(this.name, options);
  }

  /** What becomes of its decisions now: its own mode or the resource's. @throws UNKNOWN_TARGET, CLOSED */
  get mode(): TargetMode {
    return (this.#shared.table.closed ? undefined : this.#shared.table.modeOf(this.handle)) ?? this.#gone();
  }

  /** @throws UNKNOWN_TARGET, CLOSED */
  totals(): TargetTotals {
    this.#lease?.giveBack();
    const { collect } = this.#shared.table.constants;
    const row = this.#shared.table.totals(this.handle) ?? this.#gone();
    const admittedTokens = row[collect.admittedTokens]!;
    // The table counts whom it let pass among those it decided to deny; demand is gross, what passed net of refunds.
    const shadowDenied = row[collect.passed]!;
    const shadowDeniedTokens = row[collect.passedTokens]!;
    const unmeteredTokens = row[collect.unmeteredTokens]!;
    return {
      admitted: row[collect.admitted]!,
      denied: Math.max(0, row[collect.denied]! - shadowDenied),
      shadowDenied,
      unmetered: row[collect.unmetered]!,
      admittedTokens,
      deniedTokens: Math.max(0, row[collect.demandTokens]! - admittedTokens - shadowDeniedTokens - unmeteredTokens),
      shadowDeniedTokens,
      unmeteredTokens,
      borrowedTokens: row[collect.borrowedTokens]!,
      completions: row[collect.completions]!,
      readBytes: row[collect.readBytes]!,
      writeBytes: row[collect.writeBytes]!,
      durationMs: row[collect.durationNs]! / 1e6,
    };
  }

  /**
   * Handles of targets, for a batch.
   * @internal
   * @throws INVALID_ARGUMENT for what is no target of that table: its handle is another one's here
   */
  static handlesOf(targets: readonly Target[], table: BucketTable, into: Float64Array): void {
    for (let i = 0; i < targets.length; i++) {
      const target: unknown = targets[i];
      if (typeof target !== 'object' || target === null || !(#shared in target))
        throw new ForetokenError('INVALID_ARGUMENT', `targets[${i}]: expected a target, got ${show(target)}`);
      const own = target.#shared.table;
      if (own !== table && own.token !== table.token)
        throw new ForetokenError('INVALID_ARGUMENT', `targets[${i}]: expected one of this table, got another's`);
      into[i] = target.handle;
    }
  }

  /** Throws for misuse; returns for a denial that has a code of its own. */
  #check(decision: number, cost: number): void {
    checkDecision(this.#shared.table, decision, cost, `target ${this.name}`);
  }

  /** After a read that found nothing: the table was closed or the target removed. */
  #gone(): never {
    if (this.#shared.table.closed) throw new ForetokenError('CLOSED', `target ${this.name}: the table is closed`);
    throw new ForetokenError('UNKNOWN_TARGET', `target ${this.name} was removed`);
  }
}
