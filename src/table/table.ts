import { ForetokenError } from '../errors.js';
import { addon, ask, type NativeConstants, type NativeTable, type TargetMode } from './native.js';
import { isRegionName, refusalError } from './regions.js';

/**
 * A target's number in the table. Opaque: generation and slot. It goes stale when the target is removed;
 * a stale handle is refused, it never reaches another target.
 */
export type Handle = number;

export interface TableOptions {
  /** Most targets at once: 1 to 16,777,214. Memory is touched only as slots are used. */
  capacity: number;
  /** What the resource serves, tokens/s. */
  ratePerSec: number;
  /** What it can take at once, tokens. */
  burst: number;
  /**
   * `monotonic`: the processor's time stamp counter where it is invariant, else the system's; `system`:
   * always CLOCK_MONOTONIC; `virtual`: time moves only by `advanceTo`.
   */
  clock: 'monotonic' | 'system' | 'virtual';
  /** Shared by the processes of one user that open this name; not with a virtual clock. */
  name?: string;
}

/** What a look by the first in a thread's line came to. */
export interface LineLook {
  /** As `tryAcquire` returns it. */
  decision: number;
  /** Until another look is worth it, ms; Infinity: not as things stand. */
  waitMs: number;
  /** What those want who came before, in other threads and processes, tokens. */
  ahead: number;
}

/** A target's settings as processes share them: tokens/s, relative, tokens/s, tokens, relative. */
export interface TargetSettings {
  reservation: number;
  weight: number;
  limit: number;
  limitBurst: number;
  throttlingCost: number;
}

/** A slot of the roster that has changed. `handle` 0: nobody has it any more. */
export interface RosterChange extends TargetSettings {
  slot: number;
  handle: Handle;
  name: string;
}

/** Who runs the loops of a table that processes share. */
export interface RoleState {
  /** Process that holds the controller role; 0: none, or its time has run out. */
  holder: number;
  /** Rises whenever the role changes hands. */
  term: number;
  /** How often a process was found dead in the middle of a change, and the table put right. */
  repairs: number;
  /** Whether allocations hold; else every target has its fallback. */
  valid: boolean;
}

/** A row of `collect`: what happened in one slot since this attachment collected last. */
export interface Activity {
  readonly rows: number;
  readonly data: Float64Array;
}

export interface PeekResult {
  /** Tokens the target could take from its own bucket now (within its limit). */
  tokens: number;
  ratePerSec: number;
  burst: number;
  deposit: number;
  /** Time until `cost` could be admitted if nothing else is taken, ms; Infinity: never as things stand. */
  waitMs: number;
  /** The cost exceeds what bucket, deposit, reservoir and limit can hold at once. */
  tooLarge: boolean;
}

/** What a thread holds on lease from now on, tokens; it may be spent while target and promise are at these. */
export interface LeaseAnswer {
  held: number;
  epoch: number;
  promise: number;
  /** Region time, ms. */
  nowMs: number;
  /** Below 0: misuse, as `tryAcquire` says it. */
  decision: number;
}

const validOpen = (value: number, least: number, most: number): boolean => value >= least && value <= most;

/**
 * The native bucket table as one thread sees it. Thin: values in, numbers out; names, validation of options
 * and policy live above it. Every method may be called from any thread that attached; those that move rates,
 * bursts or deposits take turns under the region's writer lock.
 */
export class BucketTable {
  readonly token: string;
  readonly capacity: number;
  readonly isVirtual: boolean;
  /** Whether it is shared by name, and so has a roster. */
  readonly isNamed: boolean;
  readonly clock: NativeTable['clock'];
  readonly constants: NativeConstants;
  readonly #native: NativeTable;
  /** The header, 1,024 words, and all buckets, 16 words each, to be read only. Empty once closed. */
  readonly words: Int32Array;
  /** The least amount the table can tell from nothing, tokens. */
  readonly grain: number;
  readonly #leaseAnswer: LeaseAnswer = { held: 0, epoch: 0, promise: 0, nowMs: 0, decision: 0 };
  readonly #frame: Float64Array;
  readonly #ticket: BigUint64Array;
  readonly #look: LineLook = { decision: 0, waitMs: 0, ahead: 0 };
  readonly #settings = new Float64Array(6);
  readonly #role = new Float64Array(4);
  readonly #acquire: () => void;
  readonly #ask: Float64Array;
  readonly #number: number;
  readonly #batchHandles: Float64Array;
  readonly #batchCosts: Float64Array;
  readonly #batchDecisions: Int32Array;
  #decisions: Int32Array;
  #activity = new Float64Array(0);
  #levels = new Float64Array(0);
  readonly #tickOut = new Float64Array(3);
  readonly #sums = new Float64Array(7);
  readonly #totals: Float64Array;
  #closed = false;

  private constructor(native: NativeTable, constants: NativeConstants) {
    this.#native = native;
    this.constants = constants;
    this.token = native.token;
    this.capacity = native.capacity;
    this.isVirtual = native.virtual;
    this.isNamed = native.named;
    this.#ticket = new BigUint64Array(native.frame, 8 * constants.frame.ticket, 1);
    this.clock = native.clock;
    this.#frame = new Float64Array(native.frame);
    this.#acquire = addon().acquire;
    this.#ask = ask();
    this.#number = native.number;
    this.words = new Int32Array(native.words);
    this.grain = 1 / native.unitsPerToken;
    this.#batchHandles = new Float64Array(native.batchHandles);
    this.#batchCosts = new Float64Array(native.batchCosts);
    this.#batchDecisions = new Int32Array(native.batchDecisions);
    this.#decisions = this.#batchDecisions;
    this.#totals = new Float64Array(constants.collect.columns);
  }

  /**
   * @throws INVALID_OPTION, TABLE_FULL; by name also REGION_* codes, each for one reason why there is no sharing
   */
  static create(options: TableOptions): BucketTable {
    const { createTable, constants } = addon();
    if (!Number.isInteger(options.capacity) || !validOpen(options.capacity, 1, constants.maxCapacity))
      throw new ForetokenError(
        'INVALID_OPTION',
        `capacity: expected a whole number from 1 to ${constants.maxCapacity}, got ${String(options.capacity)}`,
      );
    for (const name of ['ratePerSec', 'burst'] as const)
      if (!validOpen(options[name], Number.MIN_VALUE, 1e15))
        throw new ForetokenError(
          'INVALID_OPTION',
          `${name}: expected a number above 0 and up to 1e15, got ${String(options[name])}`,
        );
    const { name } = options;
    if (name !== undefined && (options.clock === 'virtual' || !isRegionName(name)))
      throw new ForetokenError(
        'INVALID_OPTION',
        `name: expected 1 to 64 letters, digits, dots, dashes or underscores and a real clock, got ${JSON.stringify(name)}`,
      );
    const native = createTable({
      capacity: options.capacity,
      rate: options.ratePerSec,
      burst: options.burst,
      virtual: options.clock === 'virtual',
      system: options.clock === 'system',
      areaBytes: 0,
      ...(name === undefined ? {} : { name }),
    });
    if (!native)
      throw new ForetokenError('TABLE_FULL', `no memory for a table of ${options.capacity} targets could be mapped`);
    if ('refusal' in native) throw refusalError(native, name!);
    return new BucketTable(native, constants);
  }

  /** Attaches this thread to a table of the same process. */
  static attach(token: string): BucketTable {
    const { attachTable, constants } = addon();
    const native = attachTable(token);
    if (!native) throw new ForetokenError('CLOSED', `no open table of this process has the token ${String(token)}`);
    return new BucketTable(native, constants);
  }

  // ---- requests ----

  /** Above 0: admitted (1 own bucket, 2 borrowed, 3 uncharged: the target is in shadow or off). 0: denied. Below: misuse, see `constants.decision`. */
  tryAcquire(handle: Handle, cost: number): number {
    const ask = this.#ask;
    ask[0] = this.#number;
    ask[1] = handle;
    ask[2] = cost;
    this.#acquire();
    return ask[3]!;
  }

  /** As `tryAcquire`, for one who will wait if it must: does not pass those who wait, and a denial is not counted. */
  acquireOrWait(handle: Handle, cost: number): number {
    const frame = this.#frame;
    frame[0] = handle;
    frame[1] = cost;
    this.#native.acquireOrWait();
    return frame[2]!;
  }

  /**
   * Counts one as denied that would have waited and may not.
   * @returns the decision, 0, or the code of a refusal, below 0
   */
  turnAway(handle: Handle, cost: number): number {
    const frame = this.#frame;
    frame[0] = handle;
    frame[1] = cost;
    this.#native.turnAway();
    return frame[2]!;
  }

  /**
   * Draws a ticket. The request counts as denied until it is admitted, and where there is no seat for it.
   * @returns the ticket, or the code of a refusal, below 0
   */
  joinLine(handle: Handle, cost: number): bigint | number {
    const frame = this.#frame;
    frame[0] = handle;
    frame[1] = cost;
    this.#native.joinLine();
    return frame[2]! < 0 ? frame[2]! : this.#ticket[0]!;
  }

  /**
   * The first in this thread's line of a target tries. Takes nothing that an earlier ticket of another thread needs.
   * @returns an object that the next call changes
   */
  acquireInLine(handle: Handle, cost: number, ticket: bigint): LineLook {
    const frame = this.#frame;
    frame[0] = handle;
    frame[1] = cost;
    this.#ticket[0] = ticket;
    this.#native.acquireInLine();
    const look = this.#look;
    look.decision = frame[2]!;
    look.ahead = frame[3]!;
    look.waitMs = frame[7]!;
    return look;
  }

  /** Nobody of this thread waits for the target any more. */
  leaveLine(handle: Handle): void {
    this.#frame[0] = handle;
    this.#native.leaveLine();
  }

  /**
   * Says that this thread's tickets are still wanted; without it they are passed over after `constants.holdMs`.
   * @returns how many changes of rates, deposits and shares the table has seen
   */
  showLife(): number {
    return this.#native.showLife();
  }

  /** Whether newcomers have to wait behind those of this thread who do. True unless told otherwise. */
  holdLine(holds: boolean): void {
    this.#native.setHoldsLine(holds ? 1 : 0);
  }

  /**
   * Settles what this thread holds of a target, and leases what it needs for the next 5 ms at the pace it asks: at
   * most a sixteenth of the burst and half of the level, and nothing where that is fewer than eight requests, where a
   * limit or a line is, and beyond eight threads.
   * @param chunk tokens held, tokens of these not spent, requests admitted from it
   * @param pace tokens asked for since `sinceMs` (region time, 0: not known) and what the last request cost; 0 asked
   *   gives everything back
   * @returns an object that the next call reuses
   */
  lease(
    handle: Handle,
    chunk: { held: number; left: number; served: number },
    pace: { askedTokens: number; sinceMs: number; cost: number },
  ): LeaseAnswer {
    const frame = this.#frame;
    const at = this.constants.frame;
    frame[at.handle] = handle;
    frame[at.held] = chunk.held;
    frame[at.left] = chunk.left;
    frame[at.served] = chunk.served;
    frame[at.level] = pace.askedTokens;
    frame[at.nowMs] = pace.sinceMs;
    frame[at.cost] = pace.cost;
    this.#native.lease();
    const answer = this.#leaseAnswer;
    answer.decision = frame[at.decision]!;
    answer.held = frame[at.level]!;
    answer.epoch = frame[at.epoch]!;
    answer.promise = frame[at.promise]! | 0;
    answer.nowMs = frame[at.nowMs]!;
    return answer;
  }

  /**
   * Decides up to 4,096 requests at a time with one clock read each time. Typed arrays of doubles are copied in bulk.
   * @param costs tokens, one per request, or one cost for all
   * @param decisions receives one decision per request, as `tryAcquire` returns it
   * @returns how many were admitted
   */
  acquireBatch(
    handles: ArrayLike<Handle>,
    costs: ArrayLike<number> | number,
    count: number,
    decisions?: Int32Array,
  ): number {
    const most = this.constants.batch;
    let admitted = 0;
    for (let from = 0; from < count; from += most) {
      const n = Math.min(most, count - from);
      stage(this.#batchHandles, handles, from, n);
      if (typeof costs === 'number') this.#batchCosts.fill(costs, 0, n);
      else stage(this.#batchCosts, costs, from, n);
      this.#frame[1] = n;
      this.#native.acquireBatch();
      if (this.#frame[2]! < 0) return this.#frame[2]!;
      admitted += this.#frame[2]!;
      if (decisions) decisions.set(this.#decided(n), from);
    }
    return admitted;
  }

  /** The first decisions of a batch. Kept, because batches are mostly as long as the last one. */
  #decided(count: number): Int32Array {
    if (this.#decisions.length !== count) this.#decisions = this.#batchDecisions.subarray(0, count);
    return this.#decisions;
  }

  complete(handle: Handle, readBytes: number, writeBytes: number, durationNs: number): number {
    const frame = this.#frame;
    frame[0] = handle;
    frame[8] = readBytes;
    frame[9] = writeBytes;
    frame[10] = durationNs;
    this.#native.complete();
    return frame[2]!;
  }

  /** Handle 0 is the reservoir. Undefined for a stale handle. */
  peek(handle: Handle, cost: number): PeekResult | undefined {
    const frame = this.#frame;
    frame[0] = handle;
    frame[1] = cost;
    this.#native.peek();
    const decision = frame[2]!;
    const { own, tooLarge } = this.constants.decision;
    if (decision !== own && decision !== tooLarge) return undefined;
    return {
      tokens: frame[3]!,
      ratePerSec: frame[4]!,
      burst: frame[5]!,
      deposit: frame[6]!,
      waitMs: frame[7]!,
      tooLarge: decision === tooLarge,
    };
  }

  /** 1, or a misuse code: `badCost` also when more would come back than was ever charged. */
  refund(handle: Handle, tokens: number): number {
    this.#frame[0] = handle;
    this.#frame[1] = tokens;
    this.#native.refund();
    return this.#frame[2]!;
  }

  /** Charges beyond what was asked, into a debt of at most one burst. Tokens really charged, or a misuse code. */
  charge(handle: Handle, tokens: number): number {
    this.#frame[0] = handle;
    this.#frame[1] = tokens;
    this.#native.charge();
    return this.#frame[2]! < 0 ? this.#frame[2]! : this.#frame[3]!;
  }

  // ---- control plane ----

  /** @returns the handle. Throws TABLE_FULL. The target has no rate, burst or tokens until it is given some. */
  addTarget(options: { mayBorrow: boolean }): Handle {
    const handle = this.#native.addTarget(options.mayBorrow ? 1 : 0);
    if (handle < 0) this.#refuse(handle, 'addTarget');
    return handle;
  }

  removeTarget(handle: Handle): void {
    this.#check(this.#native.removeTarget(handle), 'removeTarget');
  }

  /** A ceiling over own, deposited and borrowed tokens together; burst 0 removes it. */
  setLimit(handle: Handle, ratePerSec: number, burst: number): void {
    this.#check(this.#native.setLimit(handle, ratePerSec, burst), 'setLimit');
  }

  /** What the target has while no controller is alive. Throws OVERCOMMITTED beyond the resource. */
  setFallback(handle: Handle, ratePerSec: number, burst: number): void {
    this.#check(this.#native.setFallback(handle, ratePerSec, burst), 'setFallback');
  }

  /** All fallbacks at once: `pairs[slot * 2]` rate, `[slot * 2 + 1]` burst; slot 0 is ignored. */
  setFallbacks(pairs: Float64Array, slots: number): void {
    this.#check(this.#native.setFallbacks(pairs, slots), 'setFallbacks');
  }

  /**
   * Gives a target that nothing was allocated to yet its fallback rate, burst and tokens, as far as the
   * reservoir has them left. One that has an allocation keeps it.
   */
  endow(handle: Handle): void {
    this.#check(this.#native.endow(handle), 'endow');
  }

  /**
   * Publishes rate and burst of every slot below `slots`, as `setFallbacks` lays them out; slot 0 is the
   * reservoir, or takes what the others leave. Throws OVERCOMMITTED and changes nothing when a sum breaks.
   */
  allocate(pairs: Float64Array, slots: number, reservoirTakesRest: boolean): void {
    this.#check(this.#native.allocate(pairs, slots, reservoirTakesRest), 'allocate');
  }

  /** Moves tokens and burst from the reservoir into a bucket, to expire. @returns tokens moved */
  deposit(handle: Handle, tokens: number, forMs: number): number {
    return this.#native.deposit(handle, tokens, forMs);
  }

  /** Ends a target's deposit now. @returns unused tokens that went back to the reservoir */
  withdraw(handle: Handle): number {
    return this.#native.withdraw(handle);
  }

  /** Ends every deposit that has expired. @returns unused tokens that went back to the reservoir */
  reclaimExpired(): number {
    return this.#native.reclaimExpired();
  }

  /** Hands what idle buckets overflowed to the reservoir, within the resource law, and reclaims deposits. */
  tick(): { returned: number; reservoir: number; levels: number } {
    this.#check(this.#native.tick(this.#tickOut), 'tick');
    return { returned: this.#tickOut[0]!, reservoir: this.#tickOut[1]!, levels: this.#tickOut[2]! };
  }

  /**
   * What each slot may borrow until this is set again, tokens.
   * @param stock tokens that borrowers leave in the reservoir, as far as it can hold them beside a request
   * @param mayTakeStock per slot: not 0 where the stock may be borrowed too; default nobody
   */
  setBorrowShares(shares: Float64Array, slots: number, stock = 0, mayTakeStock?: Uint8Array): void {
    this.#check(this.#native.setBorrowShares(shares, slots, stock, mayTakeStock), 'setBorrowShares');
  }

  setMayBorrow(handle: Handle, may: boolean): void {
    this.#check(this.#native.setMayBorrow(handle, may ? 1 : 0), 'setMayBorrow');
  }

  /**
   * Changes what becomes of a target's decisions, from the next request on in every thread and process, while they
   * go on. A target is added as `enforce`. It keeps its rate, burst and tokens; in `off` it is not leased. The
   * resource's law holds over what is charged: who is admitted uncharged takes nothing from anyone, and is counted apart.
   * @throws UNKNOWN_TARGET, INVALID_ARGUMENT
   */
  setMode(handle: Handle, mode: TargetMode): void {
    const code = Object.hasOwn(this.constants.mode, mode) ? this.constants.mode[mode] : undefined;
    if (code === undefined)
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `mode: expected 'enforce', 'shadow' or 'off', got ${JSON.stringify(mode)}`,
      );
    this.#check(this.#native.setMode(handle, code), 'setMode');
  }

  /** Undefined for a stale handle. */
  modeOf(handle: Handle): TargetMode | undefined {
    const { mode } = this.constants;
    const code = this.#native.modeOf(handle);
    return (['enforce', 'shadow', 'off'] as const).find((name) => mode[name] === code);
  }

  /**
   * Says that a controller is alive for so long. True when the last promise had lapsed: then every slot has
   * taken on its fallback and must be allocated anew.
   */
  extendValidity(forMs: number): boolean {
    const answer = this.#native.extendValidity(forMs);
    if (answer < 0) this.#refuse(answer, 'extendValidity');
    return answer === 1;
  }

  setResource(ratePerSec: number, burst: number): void {
    this.#check(this.#native.setResource(ratePerSec, burst), 'setResource');
  }

  // ---- the controller role, of tables that processes share ----

  /**
   * Takes the role for so long, unless somebody has it. What this attachment changes from then on is refused with
   * ROLE_LOST once another has taken it.
   * @returns the term, 0 if it is not to be had
   */
  takeRole(forMs: number): number {
    const term = this.#native.takeRole(forMs);
    if (term < 0) this.#refuse(term, 'takeRole');
    return term;
  }

  /** @throws ROLE_LOST */
  renewRole(forMs: number): void {
    this.#check(this.#native.renewRole(forMs), 'renewRole');
  }

  leaveRole(): void {
    this.#native.leaveRole();
  }

  role(): RoleState {
    this.#check(this.#native.roleState(this.#role), 'role');
    const [holder, term, repairs, valid] = this.#role as unknown as [number, number, number, number];
    return { holder, term, repairs, valid: valid === 1 };
  }

  // ---- targets by name, of tables that processes share ----

  /** The target of that name: the one there is, as it is, or a new one. @throws TABLE_FULL, INVALID_ARGUMENT */
  putTarget(
    name: string,
    options: { mayBorrow: boolean; settings: TargetSettings },
  ): { handle: Handle; existed: boolean } {
    if (Buffer.byteLength(name) > this.constants.longestName)
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `name: expected at most ${this.constants.longestName} bytes in a table shared by name, got ${Buffer.byteLength(name)}`,
      );
    const handle = this.#native.putTarget(name, options.mayBorrow ? 1 : 0, this.#written(options.settings));
    if (handle < 0) this.#refuse(handle, 'putTarget');
    return { handle, existed: this.#settings[5] === 1 };
  }

  /** Undefined where no target has that name. */
  lookUpTarget(name: string): { handle: Handle; settings: TargetSettings } | undefined {
    const handle = this.#native.lookUpTarget(name, this.#settings);
    if (handle === this.constants.status.stale) return undefined;
    if (handle < 0) this.#refuse(handle, 'lookUpTarget');
    const [reservation, weight, limit, limitBurst, throttlingCost] = this.#settings as unknown as [
      number,
      number,
      number,
      number,
      number,
    ];
    return { handle, settings: { reservation, weight, limit, limitBurst, throttlingCost } };
  }

  /** Tells the other processes what a target is owed. Changes no rate by itself. */
  describeTarget(handle: Handle, settings: TargetSettings): void {
    this.#check(this.#native.describeTarget(handle, this.#written(settings)), 'describeTarget');
  }

  /** Rises whenever a target comes, goes or is described anew. */
  get rosterVersion(): number {
    return this.#native.rosterVersion();
  }

  /** What has changed since a version; everything there is since version 0. */
  rosterSince(version: number): RosterChange[] {
    const flat = this.#native.roster(version);
    if (typeof flat === 'number') this.#refuse(flat, 'rosterSince');
    const changes: RosterChange[] = [];
    for (let at = 0; at < flat.length; at += 8) {
      const [slot, handle, name, reservation, weight, limit, limitBurst, throttlingCost] = flat.slice(at, at + 8) as [
        number,
        number,
        string,
        number,
        number,
        number,
        number,
        number,
      ];
      changes.push({ slot, handle, name, reservation, weight, limit, limitBurst, throttlingCost });
    }
    return changes;
  }

  #written({ reservation, weight, limit, limitBurst, throttlingCost }: TargetSettings): Float64Array {
    this.#settings.set([reservation, weight, limit, limitBurst, throttlingCost, 0]);
    return this.#settings;
  }

  // ---- reading ----

  /** Activity since this attachment collected last; the array is reused by the next call. */
  collect(): Activity {
    const columns = this.constants.collect.columns;
    const needed = this.#native.highWater() * columns;
    if (this.#activity.length < needed) this.#activity = new Float64Array(Math.max(needed * 2, 64 * columns));
    const rows = this.#native.collect(this.#activity);
    if (rows < 0) this.#refuse(rows, 'collect');
    return { rows, data: this.#activity };
  }

  /** Level, rate, burst and deposit per slot; the array is reused by the next call. */
  levels(): Activity {
    const columns = this.constants.levels.columns;
    const needed = this.#native.highWater() * columns;
    if (this.#levels.length < needed) this.#levels = new Float64Array(Math.max(needed * 2, 64 * columns));
    const rows = this.#native.levels(this.#levels);
    if (rows < 0) this.#refuse(rows, 'levels');
    return { rows, data: this.#levels };
  }

  /** Running totals of one target since it was added, in the columns of `constants.collect`. */
  totals(handle: Handle): Float64Array | undefined {
    return this.#native.totals(handle, this.#totals) === this.constants.status.ok ? this.#totals : undefined;
  }

  /** Sums over all slots, beside the resource's own rate and burst. */
  sums() {
    this.#check(this.#native.sums(this.#sums), 'sums');
    const [rate, burst, fallbackRate, fallbackBurst, resourceRate, resourceBurst, refundsDropped] = this
      .#sums as unknown as [number, number, number, number, number, number, number];
    return { rate, burst, fallbackRate, fallbackBurst, resourceRate, resourceBurst, refundsDropped };
  }

  /** Slots ever used, the reservoir (slot 0) included. */
  get slots(): number {
    return this.#native.highWater();
  }

  slotOf(handle: Handle): number {
    return handle % this.constants.indexSpan;
  }

  /** Region time, ms. */
  nowMs(): number {
    return this.#native.nowMs();
  }

  /** Moves a virtual clock. It may be moved back; no tokens come of it. */
  advanceTo(ms: number): void {
    this.#check(this.#native.setVirtualMs(ms), 'advanceTo');
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Detaches this thread. Memory goes when the last attachment has. */
  close(): void {
    this.#closed = true;
    this.#native.close();
  }

  #check(status: number, what: string): void {
    if (status < 0) this.#refuse(status, what);
  }

  #refuse(status: number, what: string): never {
    const { status: s, decision } = this.constants;
    switch (status) {
      case decision.closed:
        throw new ForetokenError('CLOSED', `${what}: the table is closed`);
      case s.stale:
        throw new ForetokenError('UNKNOWN_TARGET', `${what}: the handle is stale or was never given out`);
      case s.full:
        throw new ForetokenError('TABLE_FULL', `${what}: all ${this.capacity} slots are taken`);
      case s.overRate:
      case s.overBurst:
      case s.overFallbackRate:
      case s.overFallbackBurst: {
        const fallback = status === s.overFallbackRate || status === s.overFallbackBurst;
        const rate = status === s.overRate || status === s.overFallbackRate;
        throw new ForetokenError(
          'OVERCOMMITTED',
          `${what}: the ${fallback ? 'reserved' : 'allocated'} ${rate ? 'rates' : 'bursts'} together exceed the resource's`,
        );
      }
      case s.lapsed:
        throw new ForetokenError('INVALID_ARGUMENT', `${what}: no controller is alive; extendValidity comes first`);
      case s.deposed:
        throw new ForetokenError('ROLE_LOST', `${what}: another process has taken the controller role`);
      case s.busy:
        throw new ForetokenError('WORKER_FAILED', `${what}: the writer lock is held too long by another thread`);
      default:
        throw new ForetokenError('INVALID_ARGUMENT', `${what}: an argument has the wrong type, length or range`);
    }
  }
}

/** Copies a part of an array to where the native side reads it. */
function stage(to: Float64Array, values: ArrayLike<number>, from: number, count: number): void {
  if (values instanceof Float64Array)
    to.set(from === 0 && count === values.length ? values : values.subarray(from, from + count));
  else
    for (let i = 0; i < count; i++) {
      const value: unknown = values[from + i];
      // Refused one by one, as no cost.
      to[i] = typeof value === 'number' ? value : Number.NaN;
    }
}
