import { Controller } from './control/controller.js';
import type { Explanation } from './control/explain.js';
import type { StepReport } from './control/loop.js';
import type { RosterEntry } from './control/roster.js';
import { ForetokenError } from './errors.js';
import { declineTelemetry } from './onnx/telemetry.js';
import {
  type Cost,
  checkTarget,
  costOf,
  type ExplainOptions,
  type ForetokenOptions,
  type RequestInfo,
  type ResolvedOptions,
  refuse,
  resolveAttach,
  resolveExplain,
  resolveOptions,
  resolveWatch,
  show,
  type TargetOptions,
  targetModes,
} from './options.js';
import type { ShadowReport } from './shadow/report.js';
import { Leases } from './table/leases.js';
import { addon, type TargetMode } from './table/native.js';
import { BucketTable, type RoleState } from './table/table.js';
import { Waiters } from './table/waiters.js';
import { checkDecision, type Shared, Target } from './target.js';
import { isTargetName, type Known, refuseName, TargetBook, type TargetSpec } from './targets.js';

/** What another thread of this process needs to attach: plain data for `workerData` or a message. */
export interface ForetokenShare {
  token: string;
  targets: { name: string; handle: number }[];
  maxWaiting: number;
  overtake: boolean;
  /** `function`: it cannot cross, so whoever attaches has to bring it along. */
  cost: 'requests' | 'bytes' | 'function';
}

export interface AttachOptions {
  /** How requests become tokens in this thread. Default: as where the table was opened, unless that is by a function. */
  cost?: Cost;
}

/** Stands in for a function that this thread was not given: one token each would be a wrong price in silence. */
const unknownCost = (): never => {
  throw new ForetokenError(
    'INVALID_ARGUMENT',
    'request: expected its cost in tokens, as this thread was not given the cost function of the table; see attach',
  );
};

/** The data plane as one thread sees it: targets by name. */
class DataPlane {
  protected readonly table: BucketTable;
  protected readonly waiters: Waiters;
  protected readonly leases: Leases;
  #handles = new Float64Array(256);
  protected readonly byName = new Map<string, Target>();
  readonly #shared: Shared;

  protected constructor(table: BucketTable, cost: Cost, maxWaiting: number, overtake: boolean) {
    this.table = table;
    this.waiters = new Waiters(table, maxWaiting);
    this.leases = new Leases(table);
    table.holdLine(!overtake);
    this.#shared = {
      table,
      waiters: this.waiters,
      leases: this.leases,
      cost,
      explain: (name, options) => this.explain(name, options),
    };
  }

  /** @throws UNKNOWN_TARGET */
  target(name: string): Target {
    const found = this.byName.get(name);
    if (!found) throw new ForetokenError('UNKNOWN_TARGET', `no target is named ${show(name)}`);
    return found;
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /** Names of the targets this thread knows, in the order they were added. */
  get names(): string[] {
    return [...this.byName.keys()];
  }

  /** Tokens a request costs under the `cost` option. */
  costOf(request: RequestInfo): number {
    return costOf(this.#shared.cost, request);
  }

  protected make(name: string, handle: number): Target {
    const target = new Target(name, handle, this.#shared);
    this.byName.set(name, target);
    return target;
  }

  /** @throws NO_CONTROLLER: only the thread that opened the table can ask its controller */
  explain(_name: string, _options: ExplainOptions = {}): Promise<Explanation> {
    return Promise.reject(
      new ForetokenError(
        'NO_CONTROLLER',
        'explain: ask in the thread that opened the table; this one is attached to it',
      ),
    );
  }

  /**
   * Decides now, as `Target.tryAcquire` does, by a target's `handle`. For who has a great many targets and keeps their
   * handles in a `Float64Array`: at a million of them it takes half the time, as the object of a target is not in the
   * cache and need not be fetched. A handle means nothing in another table, and one from there is not always noticed.
   * @param request as for `Target.tryAcquire`
   * @throws INVALID_ARGUMENT for what is no number or a cost that is none, UNKNOWN_TARGET when nobody has that handle or
   *   it is of a target that was removed, CLOSED
   */
  tryAcquire(handle: number, request: number | RequestInfo = 1): boolean {
    if (typeof handle !== 'number')
      throw new ForetokenError('INVALID_ARGUMENT', `handle: expected a target's, got ${show(handle)}`);
    const cost = typeof request === 'number' ? request : costOf(this.#shared.cost, request);
    const decision = this.table.tryAcquire(handle, cost);
    if (decision === this.table.constants.decision.badHandle)
      throw new ForetokenError('UNKNOWN_TARGET', `no target has the handle ${handle}, or it was removed`);
    if (decision < 0) checkDecision(this.table, decision, cost, `target of handle ${handle}`);
    return decision > 0;
  }

  /**
   * Decides many requests with one clock read per 4,096. Fastest with typed arrays, which are copied in bulk.
   * @param targets one per request, or their handles
   * @param costs tokens, one per request, or one cost for all; default 1
   * @param decisions receives the answer; default: a new array
   * @returns one number per request: above 0 admitted, 0 denied, below 0 refused (bad cost, removed target)
   * @throws INVALID_ARGUMENT when lengths differ and for targets of another table, CLOSED
   */
  acquireBatch(
    targets: readonly Target[] | Float64Array,
    costs: ArrayLike<number> | number = 1,
    decisions: Int32Array = new Int32Array(targets?.length ?? 0),
  ): Int32Array {
    if (!Array.isArray(targets) && !(targets instanceof Float64Array))
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `targets: expected an array of targets or a Float64Array of handles, got ${show(targets)}`,
      );
    const count = targets.length;
    if (typeof costs !== 'number' && (typeof costs !== 'object' || costs?.length !== count))
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `costs: expected ${count} numbers, got ${typeof costs === 'object' && costs !== null ? costs.length : show(costs)}`,
      );
    if (!(decisions instanceof Int32Array) || decisions.length !== count)
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `decisions: expected an Int32Array of ${count}, got ${decisions instanceof Int32Array ? decisions.length : show(decisions)}`,
      );
    if (this.table.closed) throw new ForetokenError('CLOSED', 'acquireBatch: the table is closed');
    this.table.acquireBatch(
      targets instanceof Float64Array ? targets : this.#handlesOf(targets),
      costs,
      count,
      decisions,
    );
    return decisions;
  }

  #handlesOf(targets: readonly Target[]): Float64Array {
    const count = targets.length;
    if (this.#handles.length < count) this.#handles = new Float64Array(count * 2);
    Target.handlesOf(targets, this.table, this.#handles);
    return this.#handles;
  }
}

/**
 * A table attached from another thread: requests only. Its targets are those that were shared; close it
 * before the thread ends to have its waiters told.
 */
export class AttachedForetoken extends DataPlane implements Disposable {
  /** @throws CLOSED when the table is gone, INVALID_ARGUMENT when `share` is none, INVALID_OPTION */
  static attach(share: ForetokenShare, options: AttachOptions = {}): AttachedForetoken {
    if (!isShare(share))
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `share: expected what Foretoken.share() returned, got ${show(share)}`,
      );
    const cost = resolveAttach(options) ?? (share.cost === 'function' ? unknownCost : share.cost);
    const attached = new AttachedForetoken(BucketTable.attach(share.token), cost, share.maxWaiting, share.overtake);
    for (const { name, handle } of share.targets) attached.adopt(name, handle);
    return attached;
  }

  /**
   * Takes in a target that was added after the share was made.
   * @throws INVALID_ARGUMENT for a name or a handle that no target can have
   */
  adopt(name: string, handle: number): Target {
    if (!isTargetName(name)) refuseName(name);
    if (!isHandle(handle))
      throw new ForetokenError('INVALID_ARGUMENT', `handle: expected a target's, got ${show(handle)}`);
    return this.make(name, handle);
  }

  close(): void {
    this.waiters.close();
    this.leases.close();
    this.table.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Admits work to a shared resource on behalf of many targets. Requests are decided in native shared memory by
 * whichever thread asks; a controller in a thread of its own watches, forecasts and moves tokens.
 */
export class Foretoken extends DataPlane implements AsyncDisposable {
  readonly #options: ResolvedOptions;
  readonly #book: TargetBook;
  #controller: Controller | undefined;
  #closing: Promise<void> | undefined;

  private constructor(table: BucketTable, options: ResolvedOptions) {
    super(table, options.cost, options.maxWaiting, options.overtake);
    this.#options = options;
    this.#book = new TargetBook(table, options);
  }

  /**
   * With a `name`, the table of that name, which processes of one user share; it is made by the first and goes with the
   * last. One of them holds the controller role.
   * @throws INVALID_OPTION, saying which, what was expected and what came; HISTORY_UNAVAILABLE;
   *   NATIVE_UNAVAILABLE; WORKER_FAILED when the controller cannot start; by name, a REGION_* code that says why the
   *   table cannot be shared. A model that cannot be used is not an
   *   error: the next rung of the failure ladder forecasts, and `onEvent` says so.
   *
   * What is open does not keep the process alive, and is closed when that ends; who waits in `acquire`, or for the answer
   * of `explain` or `shadows`, does.
   */
  static async open(options: ForetokenOptions): Promise<Foretoken> {
    const resolved = resolveOptions(options);
    declineTelemetry();
    const table = BucketTable.create({
      capacity: resolved.capacity,
      ratePerSec: resolved.ratePerSec,
      burst: resolved.burst,
      clock: 'monotonic',
      ...(resolved.name === undefined ? {} : { name: resolved.name }),
    });
    const foretoken = new Foretoken(table, resolved);
    if (resolved.control) {
      const { cost: _cost, onEvent, ...plain } = resolved;
      const data = { token: table.token, options: plain, entries: [] };
      try {
        foretoken.#controller = await Controller.start(data, isolated(onEvent));
      } catch (error) {
        table.close();
        throw error;
      }
    }
    return foretoken;
  }

  /** The same table from another thread, see `share`. */
  static attach(share: ForetokenShare, options?: AttachOptions): AttachedForetoken {
    return AttachedForetoken.attach(share, options);
  }

  /** File of the history, or `memory`; empty without a controller, and while another process controls. */
  get historyLocation(): string {
    return this.#controller?.history ?? '';
  }

  /**
   * False once the controller has died or was never started: targets then have their fallback. With a `name`, whether
   * any process holds the controller role.
   */
  get controlled(): boolean {
    if (this.table.closed) return false;
    return this.table.isNamed ? this.table.role().holder !== 0 : (this.#controller?.alive ?? false);
  }

  /** The resource's mode; a target may have its own. */
  get mode(): TargetMode {
    return this.#book.mode;
  }

  /**
   * Changes the resource's mode while requests go on, for every thread and process. Targets with a mode of their own
   * keep it, except that `off` is off for all; they have it back afterwards. In a table opened by name modes lie in the
   * table: this sets the targets there are, but each process knows only of the own modes that it gave, and adds targets
   * in its own mode.
   * @throws INVALID_OPTION, CLOSED
   */
  setMode(mode: TargetMode): void {
    this.#open('setMode');
    if (!targetModes.includes(mode)) refuse('mode', `one of ${targetModes.map((m) => `"${m}"`).join(', ')}`, mode);
    this.#book.mode = mode;
  }

  /** Who holds the controller role of a table opened by name. @throws CLOSED */
  role(): RoleState {
    return this.table.role();
  }

  /** @throws UNKNOWN_TARGET */
  override target(name: string): Target {
    if (!this.table.isNamed || this.table.closed) return super.target(name);
    const known = this.#book.find(name);
    if (!known) throw new ForetokenError('UNKNOWN_TARGET', `no target is named ${show(name)}`);
    return this.#targetOf(known);
  }

  override has(name: string): boolean {
    return this.table.isNamed && !this.table.closed ? this.#book.find(name) !== undefined : super.has(name);
  }

  /**
   * Adds a target. Its name is any string that is not empty; in a table opened by name of at most 128 bytes. It has its
   * reservation, or without borrowing its weighted share, at once as far as that is not allocated to others, and where
   * borrowing is on draws on the reservoir; the controller allocates anew within milliseconds.
   * @throws DUPLICATE_TARGET, TABLE_FULL, OVERCOMMITTED when the reservations exceed the resource's rate,
   *   INVALID_OPTION, INVALID_ARGUMENT for a name that none can have, CLOSED
   */
  addTarget(name: string, options?: TargetOptions): Target {
    if (options !== undefined) checkTarget(options);
    return this.addTargets([{ name, ...options }])[0]!;
  }

  /**
   * Adds many at once: cheaper than one by one where borrowing is off. All or none. In a table opened by name a target
   * that another process added is taken as it is, and what is given here is set anew.
   * @throws what `addTarget` throws
   */
  addTargets(specs: readonly TargetSpec[]): Target[] {
    this.#open('addTargets');
    const added = this.#book.add(specs);
    for (const known of added) this.#tell(known);
    return added.map((known) => this.#targetOf(known));
  }

  /**
   * Changes what is given; the rest stays. Tokens held are kept: none come of a change, and what a smaller bucket cannot
   * hold goes back to the reservoir. A reservation is owed from the controller's next allocation on, within milliseconds.
   * @throws UNKNOWN_TARGET, OVERCOMMITTED (nothing is changed then), INVALID_OPTION, CLOSED
   */
  updateTarget(name: string, options: TargetOptions): void {
    this.#open('updateTarget');
    this.#tell(this.#book.update(name, options));
  }

  /**
   * Removes a target, for every process that shares it; whoever waits for it gets UNKNOWN_TARGET, and its handle is
   * stale from now on.
   * @throws UNKNOWN_TARGET, CLOSED
   */
  removeTarget(name: string): void {
    this.#open('removeTarget');
    const { handle } = this.#book.remove(name);
    this.byName.delete(name);
    if (!this.table.isNamed) this.#controller?.remove(handle);
    this.waiters.dismiss(handle, new ForetokenError('UNKNOWN_TARGET', `target ${name} was removed`));
  }

  /**
   * Why a target has the tokens it has: what was forecast, how far that was trusted, and what was made of it; as data,
   * and as sentences in `text`. With `atMs`, as it was recorded last up to that time: decisions are kept for an hour,
   * those of a step at its end as far as they changed by a tenth, of at most 500 targets a step.
   * @throws UNKNOWN_TARGET, also when nothing is recorded; NO_CONTROLLER without a controller, when it has died, and
   *   where another process controls; INVALID_OPTION, CLOSED, HISTORY_UNAVAILABLE
   */
  override async explain(name: string, options: ExplainOptions = {}): Promise<Explanation> {
    this.#open('explain');
    const atMs = resolveExplain(options);
    if (!this.#controller) throw new ForetokenError('NO_CONTROLLER', 'explain: opened without a controller');
    if (atMs === undefined) this.target(name);
    return this.#controller.explain(name, atMs);
  }

  /**
   * What was denied so far, live and by each shadow of the option `shadow`, of the same requests. Of the last step that
   * the shadows have played; empty where there are none.
   * @throws NO_CONTROLLER without a controller, when it has died, and where another process controls; CLOSED
   */
  async shadows(): Promise<ShadowReport> {
    this.#open('shadows');
    if (!this.#controller) throw new ForetokenError('NO_CONTROLLER', 'shadows: opened without a controller');
    return this.#controller.shadows();
  }

  /** For `workerData` or a message: lets another thread of this process `attach`, which brings a cost function along. */
  share(): ForetokenShare {
    this.#open('share');
    return {
      token: this.table.token,
      targets: [...this.byName.values()].map(({ name, handle }) => ({ name, handle })),
      maxWaiting: this.#options.maxWaiting,
      overtake: this.#options.overtake,
      cost: typeof this.#options.cost === 'function' ? 'function' : this.#options.cost,
    };
  }

  /**
   * Calls back after every step of the controller, with a row per target if asked; never without a controller, or while
   * another process controls. One at a time: the next replaces it, undefined ends it. It does not keep the process alive.
   * What it throws is an uncaught exception, as of any listener.
   * @throws INVALID_OPTION, CLOSED
   */
  watch(onStep: ((report: StepReport) => void) | undefined, options: { rows?: boolean } = {}): void {
    if (onStep !== undefined && typeof onStep !== 'function') refuse('onStep', 'a function or undefined', onStep);
    const withRows = resolveWatch(options);
    if (onStep) this.#open('watch');
    this.#controller?.watch(onStep && isolated(onStep), withRows);
  }

  /** Rejects who waits, stops the controller, closes the history. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.waiters.close();
      this.leases.close();
      try {
        await this.#controller?.stop();
      } finally {
        // Also who came to wait, or leased, while the controller was stopping.
        this.waiters.close();
        this.leases.close();
        this.table.close();
      }
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #open(what: string): void {
    if (this.#closing || this.table.closed) throw new ForetokenError('CLOSED', `${what}: closed`);
  }

  #targetOf({ name, handle }: Known): Target {
    const known = this.byName.get(name);
    return known?.handle === handle ? known : this.make(name, handle);
  }

  /** Where processes share a table the controller reads its roster. */
  #tell(known: Known): void {
    if (!this.table.isNamed) this.#controller?.put(entryOf(known));
  }
}

/** Slot 0 is the reservoir, which is nobody's. */
const isHandle = (handle: unknown): boolean =>
  Number.isSafeInteger(handle) && (handle as number) % addon().constants.indexSpan > 0;

const isShare = (share: ForetokenShare | null | undefined): boolean =>
  typeof share === 'object' &&
  share !== null &&
  typeof share.token === 'string' &&
  Number.isInteger(share.maxWaiting) &&
  ['requests', 'bytes', 'function'].includes(share.cost) &&
  Array.isArray(share.targets) &&
  share.targets.every((target) => isTargetName(target?.name) && isHandle(target.handle));

/** What a callback throws is its owner's to see, and must not keep what called it from going on. */
const isolated =
  <T>(callback: ((value: T) => void) | undefined) =>
  (value: T): void => {
    try {
      callback?.(value);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  };

const entryOf = ({ name, handle, settings }: Known): RosterEntry => ({
  name,
  handle,
  reservation: settings.reservation,
  weight: settings.weight,
  limit: settings.limit,
  limitBurst: settings.limitBurst,
  throttlingCost: settings.throttlingCost,
});
