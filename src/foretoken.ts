import { Controller } from './control/controller.js';
import type { StepReport } from './control/loop.js';
import type { RosterEntry } from './control/roster.js';
import { ForetokenError } from './errors.js';
import {
  type Cost,
  costOf,
  type ForetokenOptions,
  type RequestInfo,
  type ResolvedOptions,
  type ResolvedTarget,
  resolveOptions,
  resolveTarget,
  type TargetOptions,
} from './options.js';
import { BucketTable } from './table/table.js';
import { Waiters } from './table/waiters.js';
import { Target } from './target.js';

/** What another thread of this process needs to attach: plain data for `workerData` or a message. */
export interface ForetokenShare {
  token: string;
  targets: { name: string; handle: number }[];
  maxWaiting: number;
  overtake: boolean;
  cost: 'requests' | 'bytes';
}

/** The data plane as one thread sees it: targets by name. */
class DataPlane {
  protected readonly table: BucketTable;
  protected readonly waiters: Waiters;
  protected readonly byName = new Map<string, Target>();
  readonly #cost: Cost;

  protected constructor(table: BucketTable, cost: Cost, maxWaiting: number, overtake: boolean) {
    this.table = table;
    this.waiters = new Waiters(table, maxWaiting);
    table.holdLine(!overtake);
    this.#cost = cost;
  }

  /** @throws UNKNOWN_TARGET */
  target(name: string): Target {
    const found = this.byName.get(name);
    if (!found) throw new ForetokenError('UNKNOWN_TARGET', `no target is named ${JSON.stringify(name)}`);
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
    return costOf(this.#cost, request);
  }

  protected make(name: string, handle: number): Target {
    const target = new Target(name, handle, this.table, this.waiters, this.#cost);
    this.byName.set(name, target);
    return target;
  }

  /**
   * Decides many requests with one clock read per 4,096.
   * @param targets one per request
   * @param costs tokens, one per request; default 1 each
   * @returns one number per request: above 0 admitted, 0 denied, below 0 refused (bad cost, removed target)
   */
  acquireBatch(targets: readonly Target[], costs?: ArrayLike<number>): Int32Array {
    if (costs && costs.length !== targets.length)
      throw new ForetokenError('INVALID_ARGUMENT', `costs: expected ${targets.length} numbers, got ${costs.length}`);
    if (this.table.closed) throw new ForetokenError('CLOSED', 'acquireBatch: the table is closed');
    const count = targets.length;
    const handles = new Float64Array(count);
    for (let i = 0; i < count; i++) handles[i] = targets[i]!.handle;
    const decisions = new Int32Array(count);
    this.table.acquireBatch(handles, costs ?? new Float64Array(count).fill(1), count, decisions);
    return decisions;
  }
}

/**
 * A table attached from another thread: requests only. Its targets are those that were shared; close it
 * before the thread ends to have its waiters told.
 */
export class AttachedForetoken extends DataPlane implements Disposable {
  /** @throws CLOSED when the table is gone, INVALID_ARGUMENT when `share` is none */
  static attach(share: ForetokenShare): AttachedForetoken {
    if (share === null || typeof share !== 'object' || typeof share.token !== 'string' || !Array.isArray(share.targets))
      throw new ForetokenError('INVALID_ARGUMENT', 'share: expected what Foretoken.share() returned');
    const attached = new AttachedForetoken(
      BucketTable.attach(share.token),
      share.cost,
      share.maxWaiting,
      share.overtake,
    );
    for (const { name, handle } of share.targets) attached.adopt(name, handle);
    return attached;
  }

  /** Takes in a target that was added after the share was made. */
  adopt(name: string, handle: number): Target {
    return this.make(name, handle);
  }

  close(): void {
    this.waiters.close();
    this.table.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

interface Known {
  target: Target;
  settings: ResolvedTarget;
}

/**
 * Admits work to a shared resource on behalf of many targets. Requests are decided in native shared memory by
 * whichever thread asks; a controller in a thread of its own watches, forecasts and moves tokens.
 */
export class Foretoken extends DataPlane implements AsyncDisposable {
  readonly #options: ResolvedOptions;
  readonly #known = new Map<string, Known>();
  #controller: Controller | undefined;
  #closing: Promise<void> | undefined;

  private constructor(table: BucketTable, options: ResolvedOptions) {
    super(table, options.cost, options.maxWaiting, options.overtake);
    this.#options = options;
  }

  /**
   * @throws INVALID_OPTION, saying which, what was expected and what came; HISTORY_UNAVAILABLE;
   *   NATIVE_UNAVAILABLE; WORKER_FAILED when the controller cannot start. A model that cannot be used is not an
   *   error: the next rung of the failure ladder forecasts, and `onEvent` says so.
   */
  static async open(options: ForetokenOptions): Promise<Foretoken> {
    const resolved = resolveOptions(options);
    const table = BucketTable.create({
      capacity: resolved.capacity,
      ratePerSec: resolved.ratePerSec,
      burst: resolved.burst,
      clock: 'monotonic',
    });
    const foretoken = new Foretoken(table, resolved);
    if (resolved.control) {
      const { cost: _cost, onEvent, ...plain } = resolved;
      const data = { token: table.token, options: plain, entries: [] };
      try {
        foretoken.#controller = await Controller.start(data, (event) => onEvent?.(event));
      } catch (error) {
        table.close();
        throw error;
      }
    }
    return foretoken;
  }

  /** The same table from another thread, see `share`. */
  static attach(share: ForetokenShare): AttachedForetoken {
    return AttachedForetoken.attach(share);
  }

  /** Where the history lies; empty without a controller. */
  get historyLocation(): string {
    return this.#controller?.history ?? '';
  }

  /** False once the controller has died or was never started: targets then have their fallback. */
  get controlled(): boolean {
    return this.#controller?.alive ?? false;
  }

  /**
   * Adds a target. It has its reservation, or without borrowing its weighted share, at once as far as that is not
   * allocated to others, and where borrowing is on draws on the reservoir; the controller allocates anew within
   * milliseconds.
   * @throws DUPLICATE_TARGET, TABLE_FULL, OVERCOMMITTED when the reservations exceed the resource's rate,
   *   INVALID_OPTION, CLOSED
   */
  addTarget(name: string, options?: TargetOptions): Target {
    return this.addTargets([{ name, ...options }])[0]!;
  }

  /** Adds many at once: cheaper than one by one where borrowing is off. All or none. */
  addTargets(specs: readonly ({ name: string } & TargetOptions)[]): Target[] {
    this.#open('addTargets');
    const added: Known[] = [];
    try {
      for (const { name, ...options } of specs) {
        if (typeof name !== 'string' || name === '')
          throw new ForetokenError(
            'INVALID_ARGUMENT',
            `name: expected a string that is not empty, got ${typeof name === 'string' ? JSON.stringify(name) : String(name)}`,
          );
        if (this.#known.has(name))
          throw new ForetokenError('DUPLICATE_TARGET', `a target named ${JSON.stringify(name)} exists`);
        const settings = resolveTarget(options);
        const handle = this.table.addTarget({ mayBorrow: this.#options.borrow });
        const known = { target: this.make(name, handle), settings };
        this.#known.set(name, known);
        added.push(known);
        this.#applyLimit(known);
      }
      this.#applyFallbacks(added);
    } catch (error) {
      for (const { target } of added) this.#drop(target);
      if (added.length > 0) this.#applyFallbacks([]);
      throw error;
    }
    for (const known of added) {
      this.table.endow(known.target.handle);
      this.#controller?.put(entryOf(known));
    }
    return added.map(({ target }) => target);
  }

  /**
   * Changes what is given; the rest stays. Tokens held are kept up to the new burst; none come of a change.
   * @throws UNKNOWN_TARGET, OVERCOMMITTED (nothing is changed then), INVALID_OPTION
   */
  updateTarget(name: string, options: TargetOptions): void {
    this.#open('updateTarget');
    const known = this.#find(name);
    const before = known.settings;
    const { limit, limitBurst, ...rest } = before;
    const finite = Number.isFinite(limit) ? { limit, limitBurst } : {};
    const merged = { ...rest, ...finite, ...options };
    if (options.limit !== undefined && options.limitBurst === undefined) delete merged.limitBurst;
    known.settings = resolveTarget(merged);
    try {
      this.#applyFallbacks([known]);
    } catch (error) {
      known.settings = before;
      this.#applyFallbacks([known]);
      throw error;
    }
    this.#applyLimit(known);
    this.#controller?.put(entryOf(known));
  }

  /** Removes a target; whoever waits for it gets UNKNOWN_TARGET, and its handle is stale from now on. */
  removeTarget(name: string): void {
    this.#open('removeTarget');
    const { target } = this.#find(name);
    this.#drop(target);
    this.#controller?.remove(target.handle);
    this.#applyFallbacks([]);
    this.waiters.dismiss(target.handle, new ForetokenError('UNKNOWN_TARGET', `target ${name} was removed`));
  }

  /** For `workerData` or a message: lets another thread of this process `attach`. A cost function cannot cross. */
  share(): ForetokenShare {
    this.#open('share');
    return {
      token: this.table.token,
      targets: [...this.byName.values()].map(({ name, handle }) => ({ name, handle })),
      maxWaiting: this.#options.maxWaiting,
      overtake: this.#options.overtake,
      cost: typeof this.#options.cost === 'function' ? 'requests' : this.#options.cost,
    };
  }

  /** Calls back after every step of the controller, with a row per target if asked. Undefined ends it. */
  watch(onStep: ((report: StepReport) => void) | undefined, options: { rows?: boolean } = {}): void {
    this.#controller?.watch(onStep, options.rows ?? false);
  }

  /** Rejects who waits, stops the controller, closes the history. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.waiters.close();
      await this.#controller?.stop();
      this.table.close();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #open(what: string): void {
    if (this.#closing || this.table.closed) throw new ForetokenError('CLOSED', `${what}: closed`);
  }

  #find(name: string): Known {
    const known = this.#known.get(name);
    if (!known) throw new ForetokenError('UNKNOWN_TARGET', `no target is named ${JSON.stringify(name)}`);
    return known;
  }

  #drop(target: Target): void {
    this.table.removeTarget(target.handle);
    this.#known.delete(target.name);
    this.byName.delete(target.name);
  }

  #applyLimit({ target, settings }: Known): void {
    if (Number.isFinite(settings.limit)) this.table.setLimit(target.handle, settings.limit, settings.limitBurst);
    else this.table.setLimit(target.handle, 0, 0);
  }

  /**
   * What holds without a controller (law 6): with borrowing each has its reservation and the reservoir the
   * rest; without it, nothing may lie idle, so what is not reserved is divided by weight.
   */
  #applyFallbacks(changed: readonly Known[]): void {
    const { ratePerSec, burst, borrow } = this.#options;
    if (borrow) {
      for (const { target, settings } of changed)
        this.table.setFallback(target.handle, settings.reservation, (burst * settings.reservation) / ratePerSec);
      return;
    }
    let reserved = 0;
    let weights = 0;
    for (const { settings } of this.#known.values()) {
      reserved += settings.reservation;
      weights += settings.weight;
    }
    if (reserved > ratePerSec)
      throw new ForetokenError(
        'OVERCOMMITTED',
        `reservations add up to ${reserved} tokens/s, the resource serves ${ratePerSec}`,
      );
    const slots = this.table.slots;
    const pairs = new Float64Array(slots * 2);
    for (const { target, settings } of this.#known.values()) {
      const slot = this.table.slotOf(target.handle);
      const rate = settings.reservation + ((ratePerSec - reserved) * settings.weight) / weights;
      pairs[slot * 2] = rate;
      pairs[slot * 2 + 1] = (burst * rate) / ratePerSec;
    }
    this.table.setFallbacks(pairs, slots);
  }
}

const entryOf = ({ target, settings }: Known): RosterEntry => ({
  name: target.name,
  handle: target.handle,
  reservation: settings.reservation,
  weight: settings.weight,
  limit: settings.limit,
});
