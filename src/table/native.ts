import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ForetokenError } from '../errors.js';
import { packageRoot } from '../paths.js';

/** One table as one thread sees it. Hot functions take their arguments from `frame`; see native/README.md. */
export interface NativeTable {
  readonly token: string;
  /** What `ask` knows it by. */
  readonly number: number;
  readonly capacity: number;
  readonly virtual: boolean;
  /** What tells the time. */
  readonly clock: 'tsc' | 'monotonic' | 'virtual';
  readonly frame: ArrayBuffer;
  readonly batchHandles: ArrayBuffer;
  readonly batchCosts: ArrayBuffer;
  readonly batchDecisions: ArrayBuffer;
  /** The header and the buckets, to be read only: a lease is checked against them. Detached by `close`. */
  readonly words: ArrayBuffer;
  readonly unitsPerToken: number;
  readonly area?: ArrayBuffer;
  readonly named: boolean;
  acquireOrWait(): void;
  joinLine(): void;
  turnAway(): void;
  acquireInLine(): void;
  leaveLine(): void;
  acquireBatch(): void;
  lease(): void;
  complete(): void;
  peek(): void;
  refund(): void;
  charge(): void;
  addTarget(mayBorrow: 0 | 1): number;
  removeTarget(handle: number): number;
  setLimit(handle: number, ratePerSec: number, burst: number): number;
  setFallback(handle: number, ratePerSec: number, burst: number): number;
  setFallbacks(pairs: Float64Array, count: number): number;
  endow(handle: number): number;
  allocate(pairs: Float64Array, count: number, reservoirTakesRest: boolean): number;
  deposit(handle: number, tokens: number, forMs: number): number;
  withdraw(handle: number): number;
  reclaimExpired(): number;
  tick(out: Float64Array): number;
  setBorrowShares(shares: Float64Array, count: number, stock: number, mayTakeStock: Uint8Array | undefined): number;
  setMayBorrow(handle: number, may: 0 | 1): number;
  setMode(handle: number, mode: number): number;
  modeOf(handle: number): number;
  extendValidity(forMs: number): number;
  setResource(ratePerSec: number, burst: number): number;
  showLife(): number;
  setHoldsLine(holds: 0 | 1): void;
  takeRole(forMs: number): number;
  renewRole(forMs: number): number;
  leaveRole(): void;
  roleState(out: Float64Array): number;
  putTarget(name: string, mayBorrow: 0 | 1, settings: Float64Array): number;
  lookUpTarget(name: string, settings: Float64Array): number;
  describeTarget(handle: number, settings: Float64Array): number;
  rosterVersion(): number;
  roster(sinceVersion: number): (number | string)[] | number;
  collect(out: Float64Array): number;
  totals(handle: number, out: Float64Array): number;
  levels(out: Float64Array): number;
  sums(out: Float64Array): number;
  setVirtualMs(ms: number): number;
  nowMs(): number;
  highWater(): number;
  close(): void;
}

/**
 * What becomes of a target's decisions. `enforce`: they hold. `shadow`: they are made and counted as if they did, but
 * who would be denied or have to wait is admitted at once, without tokens. `off`: everybody is admitted without
 * tokens, and only counted. Misuse (a stale handle, a cost that is none) is refused in any mode.
 */
export type TargetMode = 'enforce' | 'shadow' | 'off';

type Codes<K extends string> = Readonly<Record<K, number>>;

/** The addon's own numbers; nothing of them is written down twice. */
export interface NativeConstants {
  readonly batch: number;
  readonly maxCapacity: number;
  readonly indexSpan: number;
  /** Native memory of a target, and what each thread that asks, and each that leases it, adds. */
  readonly bytesPerTarget: number;
  readonly bytesPerTargetAndThread: number;
  readonly bytesPerLease: number;
  /** What a target adds that has ever been in another mode than `enforce`. */
  readonly bytesPerUncharged: number;
  /** Threads that can lease at once, over all processes. */
  readonly lanes: number;
  /** How long a line is held, and a thread's place in it, after they were last heard of. */
  readonly holdMs: number;
  /** Of a target in a named table, bytes of UTF-8. */
  readonly longestName: number;
  readonly frame: Codes<
    | 'handle'
    | 'cost'
    | 'decision'
    | 'level'
    | 'rate'
    | 'burst'
    | 'deposit'
    | 'waitMs'
    | 'readBytes'
    | 'writeBytes'
    | 'durationNs'
    | 'held'
    | 'left'
    | 'served'
    | 'epoch'
    | 'promise'
    | 'nowMs'
    | 'ticket'
  >;
  readonly collect: Codes<
    | 'generation'
    | 'arrivals'
    | 'admitted'
    | 'denied'
    | 'demandTokens'
    | 'admittedTokens'
    | 'borrowedTokens'
    | 'readBytes'
    | 'writeBytes'
    | 'completions'
    | 'durationNs'
    | 'waitingTokens'
    | 'passed'
    | 'passedTokens'
    | 'unmetered'
    | 'unmeteredTokens'
    | 'columns'
  >;
  readonly levels: Codes<'level' | 'rate' | 'burst' | 'deposit' | 'columns'>;
  readonly decision: Codes<
    | 'own'
    | 'borrowed'
    | 'uncharged'
    | 'denied'
    | 'badHandle'
    | 'badCost'
    | 'tooLarge'
    | 'closed'
    | 'contended'
    | 'noSeat'
  >;
  readonly mode: Codes<TargetMode>;
  readonly status: Codes<
    | 'ok'
    | 'stale'
    | 'invalid'
    | 'overRate'
    | 'overBurst'
    | 'overFallbackRate'
    | 'overFallbackBurst'
    | 'full'
    | 'busy'
    | 'lapsed'
    | 'deposed'
  >;
  readonly refusal: Codes<
    | 'none'
    | 'system'
    | 'notOne'
    | 'abi'
    | 'size'
    | 'clock'
    | 'owner'
    | 'notReady'
    | 'options'
    | 'crowded'
    | 'pidSpace'
    | 'inUse'
    | 'missing'
  >;
}

/** Why a named region could not be had: a number of `constants.refusal`; 0 is none. */
export interface NativeRefusal {
  refusal: number;
  /** The system's own words, where it was the system. */
  reason: string;
}

export interface NativeRegion {
  name: string;
  bytes: number;
  refusal: number;
  inUse: boolean;
  capacity: number;
  targets: number;
  ratePerSec: number;
  burst: number;
  controller: number;
  processes: number[];
}

interface Addon {
  createTable(options: {
    capacity: number;
    rate: number;
    burst: number;
    virtual: boolean;
    /** CLOCK_MONOTONIC also where the processor's counter would do. */
    system: boolean;
    areaBytes: number;
    /** Shared by the processes of one user under this name. */
    name?: string;
  }): NativeTable | NativeRefusal | null;
  attachTable(token: string): NativeTable | null;
  listRegions(): NativeRegion[];
  removeRegion(name: string, force: boolean): NativeRefusal;
  readonly constants: NativeConstants;
  /** Decides what `ask` says: table, handle, cost; the decision comes back as the fourth double. */
  acquire(): void;
  readonly ask: ArrayBuffer;
}

function load(): Addon {
  const candidates = [
    join(packageRoot, 'build', 'Release', 'foretoken.node'),
    join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`, 'foretoken.node'),
  ];
  const require = createRequire(import.meta.url);
  let cause: unknown;
  for (const file of candidates) {
    if (!existsSync(file)) continue;
    try {
      return require(file) as Addon;
    } catch (error) {
      cause = error;
    }
  }
  throw new ForetokenError(
    'NATIVE_UNAVAILABLE',
    `the native addon ${cause ? 'cannot be loaded' : 'is not built'} for ${process.platform}-${process.arch}; ` +
      'run `npm rebuild foretoken` (needs a C++20 compiler and CMake 3.20 or newer)',
    { cause },
  );
}

let loaded: Addon | undefined;

export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

let asked: Float64Array | undefined;

/** The addon's `ask` as this thread's one view of it. */
export function ask(): Float64Array {
  asked ??= new Float64Array(addon().ask);
  return asked;
}
