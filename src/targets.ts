import { ForetokenError } from './errors.js';
import {
  checkTarget,
  type ResolvedOptions,
  type ResolvedTarget,
  resolveTarget,
  show,
  type TargetOptions,
} from './options.js';
import type { TargetMode } from './table/native.js';
import type { BucketTable, Handle } from './table/table.js';

/** A target this thread knows, and what it is owed. */
export interface Known {
  name: string;
  handle: Handle;
  settings: ResolvedTarget;
  /** Whether this process added it: adding it once more is a mistake then. */
  isOwn?: true;
}

/** A target to be added: its name and what it is given. */
export type TargetSpec = { name: string } & TargetOptions;

/** Half of a surrogate pair would be stored as something else, and two such names as the same. */
export const isTargetName = (name: unknown): name is string =>
  typeof name === 'string' && name !== '' && name.isWellFormed();

export function refuseName(name: unknown): never {
  throw new ForetokenError(
    'INVALID_ARGUMENT',
    `name: expected a string of whole characters that is not empty, got ${show(name)}`,
  );
}

/**
 * Sums of fractions are off by some 1e-16 of themselves: ten times a tenth of the rate may come to more than the rate.
 * What the table itself allows is exact.
 */
const roundingSlack = 1 + 1e-12;

/** What changes about a target; the rest stays, also what is given as undefined. */
function merge(before: ResolvedTarget, given: TargetOptions): ResolvedTarget {
  checkTarget(given);
  const options: TargetOptions = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const { limit, limitBurst, ...rest } = before;
  const finite = Number.isFinite(limit) ? { limit, limitBurst } : {};
  const merged = { ...rest, ...finite, ...options };
  if (options.limit !== undefined && options.limitBurst === undefined) delete merged.limitBurst;
  return resolveTarget(merged);
}

/** What reservations must fit into. */
type Bounds = Pick<ResolvedOptions, 'minRatePerSec' | 'rate'>;

const reservedBy = (everyone: readonly Known[]): number =>
  everyone.reduce((sum, { settings }) => sum + settings.reservation, 0);

function overcommitted(everyone: readonly Known[], { minRatePerSec, rate }: Bounds): ForetokenError {
  return new ForetokenError(
    'OVERCOMMITTED',
    `reservations: expected at most ${minRatePerSec} tokens/s together, which the resource serves${rate === 'adaptive' ? ' at least' : ''}, got ${reservedBy(everyone)}`,
  );
}

/**
 * Targets by name and what each is owed. In a table that processes share by name all of that lies in the table: who
 * adds a name that exists gets the target there is, and what holds for all is computed from everyone's targets.
 */
export class TargetBook {
  readonly #table: BucketTable;
  readonly #options: Bounds & Pick<ResolvedOptions, 'burst' | 'borrow'>;
  /** Modes that targets were given of their own. */
  readonly #modes = new Map<string, TargetMode>();
  #mode: TargetMode;
  readonly #known = new Map<string, Known>();
  /** Of a shared table: everyone's, by slot, as of a version of its roster. */
  readonly #shared = new Map<number, Known>();
  #version = 0;

  constructor(table: BucketTable, options: Bounds & Pick<ResolvedOptions, 'burst' | 'borrow' | 'mode'>) {
    this.#table = table;
    this.#options = options;
    this.#mode = options.mode;
  }

  /** The resource's mode. */
  get mode(): TargetMode {
    return this.#mode;
  }

  /** Changes the resource's mode. In a table shared by name that reaches the targets there are, whoever added them. */
  set mode(mode: TargetMode) {
    this.#mode = mode;
    for (const { name, handle } of this.#everyone()) if (this.#isThere(handle)) this.#applyMode(name, handle);
  }

  /** Undefined where no target has that name. */
  find(name: string): Known | undefined {
    const known = this.#known.get(name);
    if (!this.#table.isNamed) return known;
    const there = this.#table.lookUpTarget(name);
    if (!there) {
      this.#known.delete(name);
      return undefined;
    }
    if (known?.handle === there.handle) {
      known.settings = there.settings;
      return known;
    }
    const found = { name, ...there };
    this.#known.set(name, found);
    return found;
  }

  /**
   * All or none.
   * @throws DUPLICATE_TARGET, TABLE_FULL, OVERCOMMITTED, INVALID_OPTION, INVALID_ARGUMENT
   */
  add(specs: readonly TargetSpec[]): Known[] {
    if (!Array.isArray(specs) || specs.some((spec) => typeof spec !== 'object' || spec === null))
      throw new ForetokenError('INVALID_ARGUMENT', 'targets: expected an array of { name, … }');
    const added: Known[] = [];
    /** Those whose mode is set: a target that another process added keeps its own unless one is given here. */
    const moded: { known: Known; own: TargetOptions['mode'] }[] = [];
    /** Puts back what was there before, in the order it was changed. */
    const undo: (() => void)[] = [];
    try {
      for (const { name, ...options } of specs) {
        if (!isTargetName(name)) refuseName(name);
        const before = this.#known.get(name);
        if (before?.isOwn && this.#isThere(before.handle))
          throw new ForetokenError('DUPLICATE_TARGET', `a target named ${JSON.stringify(name)} exists`);
        const { known, isNew } = this.#put(name, options, undo);
        this.#known.set(name, known);
        if (isNew || options.mode !== undefined) moded.push({ known, own: options.mode });
        added.push(known);
        this.#applyLimit(known);
      }
      this.#applyFallbacks(added);
    } catch (error) {
      for (const { name } of added) this.#known.delete(name);
      for (const act of undo.reverse()) act();
      if (added.length > 0) this.#applyFallbacks([]);
      throw error;
    }
    for (const { known, own } of moded) this.#setOwnMode(known, own ?? 'inherit');
    for (const { handle } of added) this.#table.endow(handle);
    return added;
  }

  /** @throws UNKNOWN_TARGET, OVERCOMMITTED (nothing is changed then), INVALID_OPTION */
  update(name: string, options: TargetOptions): Known {
    const known = this.#must(name);
    const before = known.settings;
    this.#describe(known, merge(before, options));
    try {
      this.#applyFallbacks([known]);
    } catch (error) {
      this.#describe(known, before);
      this.#applyFallbacks([known]);
      throw error;
    }
    this.#applyLimit(known);
    if (options.mode !== undefined) this.#setOwnMode(known, options.mode);
    return known;
  }

  /** @throws UNKNOWN_TARGET */
  remove(name: string): Known {
    const known = this.#must(name);
    this.#table.removeTarget(known.handle);
    this.#known.delete(name);
    this.#modes.delete(name);
    this.#applyFallbacks([]);
    return known;
  }

  #must(name: string): Known {
    const known = this.find(name);
    if (!known) throw new ForetokenError('UNKNOWN_TARGET', `no target is named ${show(name)}`);
    return known;
  }

  /** Another process may have removed it. */
  #isThere(handle: Handle): boolean {
    return this.#table.totals(handle) !== undefined;
  }

  #put(name: string, options: TargetOptions, undo: (() => void)[]): { known: Known; isNew: boolean } {
    const settings = resolveTarget(options);
    const mayBorrow = this.#options.borrow;
    if (!this.#table.isNamed) {
      const handle = this.#table.addTarget({ mayBorrow });
      undo.push(() => this.#table.removeTarget(handle));
      return { known: { name, handle, settings, isOwn: true }, isNew: true };
    }
    const { handle, existed } = this.#table.putTarget(name, { mayBorrow, settings });
    if (!existed) {
      undo.push(() => this.#table.removeTarget(handle));
      return { known: { name, handle, settings, isOwn: true }, isNew: true };
    }
    const known: Known = {
      name,
      handle,
      settings: this.#table.lookUpTarget(name)?.settings ?? settings,
      isOwn: true,
    };
    const before = known.settings;
    if (Object.keys(options).length === 0) return { known, isNew: false };
    this.#describe(known, merge(before, options));
    undo.push(() => {
      this.#describe(known, before);
      this.#applyLimit(known);
      if (this.#options.borrow) this.#applyFallbacks([known]);
    });
    return { known, isNew: false };
  }

  #setOwnMode({ name, handle }: Known, mode: TargetMode | 'inherit'): void {
    if (mode === 'inherit') this.#modes.delete(name);
    else this.#modes.set(name, mode);
    this.#applyMode(name, handle);
  }

  #applyMode(name: string, handle: Handle): void {
    const mode = this.#mode === 'off' ? 'off' : (this.#modes.get(name) ?? this.#mode);
    if (this.#table.modeOf(handle) !== mode) this.#table.setMode(handle, mode);
  }

  #describe(known: Known, settings: ResolvedTarget): void {
    known.settings = settings;
    if (this.#table.isNamed) this.#table.describeTarget(known.handle, settings);
  }

  #applyLimit({ handle, settings }: Known): void {
    if (Number.isFinite(settings.limit)) this.#table.setLimit(handle, settings.limit, settings.limitBurst);
    else this.#table.setLimit(handle, 0, 0);
  }

  /**
   * What holds without a controller (law 6): with borrowing each has its reservation and the reservoir the
   * rest; without it, nothing may lie idle, so what is not reserved is divided by weight.
   */
  #applyFallbacks(changed: readonly Known[]): void {
    const { minRatePerSec: ratePerSec, burst, borrow } = this.#options;
    if (borrow) {
      // The table goes by its rate of now, which may be above the least; their parts of the burst, which stays, tell.
      for (const { handle, settings } of changed)
        try {
          this.#table.setFallback(handle, settings.reservation, (burst * settings.reservation) / ratePerSec);
        } catch (error) {
          if (!(error instanceof ForetokenError) || error.code !== 'OVERCOMMITTED') throw error;
          throw overcommitted(this.#everyone(), this.#options);
        }
      return;
    }
    // Whoever else added a target meanwhile may have divided before this did, and without this one's.
    do this.#divide();
    while (this.#table.isNamed && this.#table.rosterVersion !== this.#version);
  }

  #divide(): void {
    const { minRatePerSec: ratePerSec, burst } = this.#options;
    const everyone = this.#everyone();
    const reserved = this.#checkReserved(everyone);
    let weights = 0;
    for (const { settings } of everyone) weights += settings.weight;
    const free = Math.max(0, ratePerSec - reserved);
    const slots = this.#table.slots;
    const pairs = new Float64Array(slots * 2);
    for (const { handle, settings } of everyone) {
      const slot = this.#table.slotOf(handle);
      if (slot >= slots) continue;
      const rate = settings.reservation + (free * settings.weight) / weights;
      pairs[slot * 2] = rate;
      pairs[slot * 2 + 1] = (burst * rate) / ratePerSec;
    }
    this.#table.setFallbacks(pairs, slots);
  }

  /** @returns the sum of the reservations. @throws OVERCOMMITTED */
  #checkReserved(everyone: readonly Known[]): number {
    const reserved = reservedBy(everyone);
    if (reserved > this.#options.minRatePerSec * roundingSlack) throw overcommitted(everyone, this.#options);
    return reserved;
  }

  #everyone(): readonly Known[] {
    if (!this.#table.isNamed) return [...this.#known.values()];
    const version = this.#table.rosterVersion;
    for (const { slot, handle, name, ...settings } of this.#table.rosterSince(this.#version)) {
      if (handle === 0) this.#shared.delete(slot);
      else this.#shared.set(slot, { name, handle, settings });
    }
    this.#version = version;
    return [...this.#shared.values()];
  }
}
