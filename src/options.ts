import { type AllocatorName, allocatorNames } from './allocate/allocator.js';
import { defaultThrottlingCost } from './allocate/quantile.js';
import { ForetokenError } from './errors.js';
import { type EngineName, engineChoices } from './forecast/names.js';
import { defaultRefinementCpuPart } from './forecast/schedule.js';
import type { ShadowSpec } from './shadow/protocol.js';
import type { TargetMode } from './table/native.js';
import { isRegionName } from './table/regions.js';

/** What a request is, to a cost function: its bytes, and whatever else the caller put on it. */
export interface RequestInfo {
  /** From 0; default 0. */
  readBytes?: number;
  writeBytes?: number;
  [key: string]: unknown;
}

/** How a request becomes tokens: one each, its bytes (at least 1), or a function of it. */
export type Cost = 'requests' | 'bytes' | ((request: RequestInfo) => number);

export type { EngineName };

export interface HistoryOptions {
  /** Folder of the DuckDB file; made if it is missing. */
  path: string;
}

export interface RefineOptions {
  /** Part of one core, measured, that refinement takes at most on average; 0.001 to 1. Default 0.1. */
  cpuPart?: number;
}

export interface ForetokenOptions {
  /**
   * What the resource serves, tokens/s; above 0, up to 1e15. With `rate: 'adaptive'` where finding it begins; default the geometric
   * mean of the bounds.
   */
  ratePerSec?: number;
  /**
   * `fixed`: `ratePerSec` is the limit. `adaptive`: the limit is found from the processing times reported with
   * `complete({ durationMs })`, between `minRatePerSec` and `maxRatePerSec`. Default `fixed`.
   */
  rate?: 'fixed' | 'adaptive';
  /** Bounds of an adaptive rate, tokens/s; reservations must fit into the lower one. At most a million to one. */
  minRatePerSec?: number;
  maxRatePerSec?: number;
  /**
   * Shares the table with other processes of this user that open the same name: 1 to 64 letters, digits, dots, dashes
   * and underscores. All must give the same `ratePerSec`, `burst` and `capacity`. Default: a table of this process.
   */
  name?: string;
  /**
   * What it can take at once, tokens; above 0, up to 1e15. Default: one second's worth, of `minRatePerSec` where that is
   * given; at least 1.
   */
  burst?: number;
  /** Most targets at once, 1 to 16,777,214. Default 1024; memory is touched only as they are added. */
  capacity?: number;
  /** Whether a target that is short may take from what others leave. Default true. */
  borrow?: boolean;
  /** Default `requests`. */
  cost?: Cost;
  /**
   * How rates follow forecasts: `max-min`, `proportional`, or `credit`, where a share left to others earns
   * credits that later bursts spend. Default `max-min`.
   */
  allocator?: AllocatorName;
  /**
   * What becomes of decisions. `enforce`: they hold. `shadow`: they are made and counted, but who would be denied or
   * have to wait is admitted at once. `off`: everybody is admitted and only counted, so that forecasts go on learning.
   * A target may have a mode of its own. Changed by `setMode`. Default `enforce`.
   */
  mode?: TargetMode;
  /**
   * What forecasts. Default `auto`: a mixture of the LSTM and classical forecasters, and of ETS and Prophet for the 16
   * busiest targets at horizons of two minutes and more. Where the one asked for has no forecast, classical forecasters do it.
   */
  engine?: EngineName;
  /**
   * Other engines and allocators to try on the same live traffic, at most 4: what each would have denied is counted by
   * `shadows()`, in `explain` and in step reports, and none of it reaches a request. What a shadow does not give is as in
   * the table itself.
   *
   * Precision: a shadow sees sums per tick. The requests of a target in a tick cost the same in it and come evenly
   * spread; what has to wait counts as denied. One that does what the table does denies within 5 % of what is denied live
   * and 0.5 % of what is asked (on recorded traffic): give `{}` as one of them to see how near it is on yours.
   *
   * Cost: one thread for all of them, in which each takes one and a half times what the live loop takes for a tick, and
   * three times what it takes to plan a step (`npm run bench -- --shadow 10000`); memory as another table of this
   * capacity; an engine that the live one does not compute anyway, its forecasts and refinement once more. Shadows that fall 20 s behind
   * are ended, with an event. Default none.
   */
  shadow?: readonly ShadowOptions[];
  /**
   * Whether a target's forecasts are planned with only once they have proved themselves against a reactive estimate, and
   * no longer once they cost clearly more. Where nothing is lent and the allocator is `proportional` this changes nothing:
   * there forecasts are weighed against the past anyway. Default false: all forecasts are planned with from the first on.
   */
  trust?: boolean;
  /**
   * Whether the LSTM is refined on this system's own history, in a thread of its own, and what of one core that may take.
   * Default true, which is `{ cpuPart: 0.1 }`.
   */
  refine?: boolean | RefineOptions;
  /** A model other than the one that ships: path of its `.onnx` file, its weights beside it, as `foretoken train` writes both. */
  modelPath?: string;
  /**
   * Where history lies. `memory` forgets it at the end, and keeps at most a million rows of each kind meanwhile (84 bytes a
   * row, 300 of a decision). Default `memory`.
   */
  history?: 'memory' | HistoryOptions;
  /** Period of collecting, forecasting and allocating, ms; 100 to 60,000. Default 1000. */
  stepMs?: number;
  /** Period of monitoring and adjusting, ms; 10 to `stepMs`. Default 100. */
  tickMs?: number;
  /** How far ahead to forecast, ms; 1 to 8 of them, each from `stepMs` to 600,000. Default 5 s, 30 s, 5 min. */
  horizonsMs?: readonly number[];
  /** How long allocations outlive a controller that stopped, ms; two ticks to 600,000. Default 2000, at least two ticks. */
  failSafeMs?: number;
  /**
   * False: no controller; targets keep reservations, or weighted shares where borrowing is off, and an adaptive limit stays
   * where it begins unless another process that shares the table controls it. Default true.
   */
  control?: boolean;
  /** Most requests that may wait, over all targets of a thread, 1 to 10,000,000. Default 100,000. */
  maxWaiting?: number;
  /**
   * Whether `tryAcquire` may pass those who wait for the same target. Default false: while requests of a target wait,
   * those that do not are denied.
   */
  overtake?: boolean;
  /** Seed of everything that draws at random, a whole number below 2^32. Default 1. */
  seed?: number;
  /**
   * Told of what happens in the control plane: a rung of the failure ladder, a promoted model, a failure. What it throws
   * is an uncaught exception, as of any listener, and does nothing else.
   */
  onEvent?: (event: ForetokenEvent) => void;
}

/** What a shadow does otherwise than the table itself; nothing: it shows how far shadows and reality agree. */
export interface ShadowOptions {
  engine?: EngineName;
  allocator?: AllocatorName;
}

/** Something the control plane wants known. */
export interface ForetokenEvent {
  /**
   * Stable, what programs should branch on. `engine`: a rung of the failure ladder, down or up. `model`: a refined model on
   * trial, promoted or withdrawn. `history`: records lost, stored again, or used to warm forecasters; a state not read or
   * not kept. `controller`: it died, or something it tried failed. `resumed`: allocations had lapsed and begin anew.
   * `role`: the controller role of a shared table was taken, lost, or could not be acted on. `limit`: an adaptive rate fell,
   * or cannot be found. `shadow`: shadows ended or one was left out.
   */
  kind: 'engine' | 'model' | 'history' | 'controller' | 'resumed' | 'role' | 'limit' | 'shadow';
  /** For people. */
  message: string;
  /** Unix ms. */
  timeMs: number;
}

export interface TargetOptions {
  /** Rate it is always owed, tokens/s; 0 to 1e15, all together at most the resource's. Default 0. */
  reservation?: number;
  /** Its part of what is shared, relative to others; 1e-9 to 1e9. Default 1. */
  weight?: number;
  /**
   * Rate it never exceeds, tokens/s, however idle the resource; above 0, up to 1e15, at least the reservation. Infinity is
   * none, as is the default.
   */
  limit?: number;
  /** Burst of that limit, tokens; above 0, up to 1e15. Default one second of the limit, at least 1. */
  limitBurst?: number;
  /**
   * What becomes of its decisions, whatever the resource's mode, unless that is `off`: then the target is off as well.
   * `inherit` follows the resource's. Default `inherit`.
   */
  mode?: TargetMode | 'inherit';
  /**
   * What denying it a token costs, against keeping one idle for it: at a cost of c it is given the c / (1 + c) quantile
   * of its demand, and tokens are laid up for a burst of it the earlier the dearer it is. Above 0 up to 1e6; default 32.
   */
  throttlingCost?: number;
}

export interface AcquireOptions {
  /** Longest wait, ms; 0 to 3,600,000. Default 30,000. */
  deadlineMs?: number;
  /** Ends the wait when it is aborted. Default: none. */
  signal?: AbortSignal;
}

export interface ExplainOptions {
  /** As it was at this time, Unix ms. Default: as it is now. */
  atMs?: number;
}

/** Options as used: copied, defaulted, checked. */
export type ResolvedOptions = Required<Omit<ForetokenOptions, 'name' | 'modelPath' | 'onEvent' | 'shadow' | 'refine'>> &
  Pick<ForetokenOptions, 'name' | 'modelPath' | 'onEvent'> & {
    shadow: readonly ShadowSpec[];
    refine: boolean;
    refineCpuPart: number;
  };
export type ResolvedTarget = {
  reservation: number;
  weight: number;
  limit: number;
  limitBurst: number;
  throttlingCost: number;
};

export const targetModes: readonly TargetMode[] = ['enforce', 'shadow', 'off'];
export const defaultHorizonsMs: readonly number[] = [5_000, 30_000, 300_000];
/** None is shorter than a step. */
export const defaultHorizonsFor = (stepMs: number): number[] => [
  ...new Set(defaultHorizonsMs.map((horizonMs) => Math.max(horizonMs, stepMs))),
];
export const longestHorizonMs = 600_000;
export const mostHorizons = 8;
/** Each costs about what the live loops cost, in another thread. */
const mostShadows = 4;
const defaultDeadlineMs = 30_000;
const longestDeadlineMs = 3_600_000;
const largestNumber = 1e15;
/** An adaptive rate's bounds lie at most that far apart: the table's fixed point resolves no more. */
const mostSpan = 1e6;

/** Longest value that an error spells out, in characters. */
const longestShown = 200;

/** A value as an error names it: never throws, whatever it is, and stays a message that can be read. */
export const show = (value: unknown): string => {
  if (typeof value === 'function') return 'a function';
  if (value !== null && typeof value === 'object') {
    const length = lengthOf(value);
    return length === undefined ? 'an object' : `an array of ${length}`;
  }
  const shown =
    typeof value === 'string'
      ? JSON.stringify(value.slice(0, longestShown + 1))
      : `${String(value)}${typeof value === 'bigint' ? 'n' : ''}`;
  return shown.length > longestShown ? `${shown.slice(0, longestShown)}…` : shown;
};

/** How many an array holds; undefined of what is none, and of a proxy that throws. */
function lengthOf(value: object): number | undefined {
  try {
    return Array.isArray(value) ? value.length : undefined;
  } catch {
    return undefined;
  }
}

export function refuse(name: string, expected: string, got: unknown): never {
  throw new ForetokenError('INVALID_OPTION', `${name}: expected ${expected}, got ${show(got)}`);
}

interface Range {
  min: number;
  max: number;
  integer?: boolean;
  /** Whether `min` itself is excluded. */
  above?: boolean;
}

export function numberOption(name: string, value: unknown, fallback: number | undefined, range: Range): number {
  if (value === undefined && fallback !== undefined) return fallback;
  const { min, max, integer, above } = range;
  const fits =
    typeof value === 'number' &&
    (above ? value > min : value >= min) &&
    value <= max &&
    (!integer || Number.isInteger(value));
  if (!fits)
    refuse(name, `a ${integer ? 'whole ' : ''}number ${above ? `above ${min}` : `from ${min}`} up to ${max}`, value);
  return value;
}

function booleanOption(name: string, value: unknown, fallback: boolean): boolean {
  if (value === undefined) return fallback;
  return typeof value === 'boolean' ? value : refuse(name, 'true or false', value);
}

export function choiceOption<T extends string>(name: string, value: unknown, fallback: T, choices: readonly T[]): T {
  if (value === undefined) return fallback;
  return choices.includes(value as T)
    ? (value as T)
    : refuse(name, `one of ${choices.map((c) => JSON.stringify(c)).join(', ')}`, value);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && lengthOf(value) === undefined;

function plainObject(name: string, value: unknown, known: readonly string[]): Record<string, unknown> {
  if (!isObject(value)) refuse(name, 'an object', value);
  for (const key of Object.keys(value))
    if (!known.includes(key))
      refuse(`${name === 'options' ? '' : `${name}.`}${key}`, `a known option (${known.join(', ')})`, key);
  return value;
}

const openKeys: readonly (keyof ForetokenOptions)[] = [
  'name',
  'ratePerSec',
  'rate',
  'minRatePerSec',
  'maxRatePerSec',
  'burst',
  'capacity',
  'borrow',
  'cost',
  'allocator',
  'mode',
  'engine',
  'shadow',
  'trust',
  'refine',
  'modelPath',
  'history',
  'stepMs',
  'tickMs',
  'horizonsMs',
  'failSafeMs',
  'control',
  'maxWaiting',
  'overtake',
  'seed',
  'onEvent',
];

export function resolveOptions(given: ForetokenOptions): ResolvedOptions {
  const o = plainObject('options', given, openKeys);
  const rates = ratesOption(o);
  const stepMs = numberOption('stepMs', o.stepMs, 1000, { min: 100, max: 60_000, integer: true });
  const tickMs = numberOption('tickMs', o.tickMs, Math.min(100, stepMs), { min: 10, max: stepMs, integer: true });
  if (o.onEvent !== undefined && typeof o.onEvent !== 'function') refuse('onEvent', 'a function', o.onEvent);
  if (o.name !== undefined && !isRegionName(o.name))
    refuse('name', '1 to 64 letters, digits, dots, dashes or underscores', o.name);
  if (o.modelPath !== undefined && (typeof o.modelPath !== 'string' || o.modelPath === ''))
    refuse('modelPath', 'a path', o.modelPath);
  const control = booleanOption('control', o.control, true);
  const allocator = choiceOption('allocator', o.allocator, 'max-min', allocatorNames);
  const engine = choiceOption('engine', o.engine, 'auto', engineChoices);
  return {
    ...rates,
    burst: numberOption('burst', o.burst, Math.max(1, rates.minRatePerSec), {
      min: 0,
      above: true,
      max: largestNumber,
    }),
    capacity: numberOption('capacity', o.capacity, 1024, { min: 1, max: 16_777_214, integer: true }),
    borrow: booleanOption('borrow', o.borrow, true),
    cost: costOption(o.cost),
    allocator,
    mode: choiceOption('mode', o.mode, 'enforce', targetModes),
    engine,
    shadow: shadowOption(o.shadow, { control, engine, allocator }),
    trust: booleanOption('trust', o.trust, false),
    ...refineOption(o.refine),
    history: historyOption(o.history),
    stepMs,
    tickMs,
    horizonsMs: horizonsOption(o.horizonsMs, stepMs),
    failSafeMs: numberOption('failSafeMs', o.failSafeMs, Math.max(2000, 2 * tickMs), { min: 2 * tickMs, max: 600_000 }),
    control,
    maxWaiting: numberOption('maxWaiting', o.maxWaiting, 100_000, { min: 1, max: 10_000_000, integer: true }),
    overtake: booleanOption('overtake', o.overtake, false),
    seed: numberOption('seed', o.seed, 1, { min: 0, max: 2 ** 32 - 1, integer: true }),
    ...(o.name === undefined ? {} : { name: o.name as string }),
    ...(o.modelPath === undefined ? {} : { modelPath: o.modelPath as string }),
    ...(o.onEvent === undefined ? {} : { onEvent: o.onEvent as (event: ForetokenEvent) => void }),
  };
}

/** Where the rate is fixed it is its own bounds. */
function ratesOption(
  o: Record<string, unknown>,
): Pick<ResolvedOptions, 'rate' | 'ratePerSec' | 'minRatePerSec' | 'maxRatePerSec'> {
  const rate = choiceOption('rate', o.rate, 'fixed', ['fixed', 'adaptive'] as const);
  const above = { min: 0, above: true, max: largestNumber };
  if (rate === 'fixed') {
    for (const name of ['minRatePerSec', 'maxRatePerSec'])
      if (o[name] !== undefined) refuse(name, 'none unless rate is "adaptive"', o[name]);
    const ratePerSec = numberOption('ratePerSec', o.ratePerSec, undefined, above);
    return { rate, ratePerSec, minRatePerSec: ratePerSec, maxRatePerSec: ratePerSec };
  }
  const minRatePerSec = numberOption('minRatePerSec', o.minRatePerSec, undefined, above);
  const maxRatePerSec = numberOption('maxRatePerSec', o.maxRatePerSec, undefined, {
    min: minRatePerSec,
    max: Math.min(largestNumber, minRatePerSec * mostSpan),
  });
  const middle = Math.min(maxRatePerSec, Math.sqrt(minRatePerSec) * Math.sqrt(maxRatePerSec));
  const bounds = { min: minRatePerSec, max: maxRatePerSec };
  return {
    rate,
    ratePerSec: numberOption('ratePerSec', o.ratePerSec, Math.max(minRatePerSec, middle), bounds),
    minRatePerSec,
    maxRatePerSec,
  };
}

function costOption(value: unknown): Cost {
  if (value === undefined) return 'requests';
  if (value === 'requests' || value === 'bytes' || typeof value === 'function') return value as Cost;
  return refuse('cost', '"requests", "bytes" or a function', value);
}

function historyOption(value: unknown): 'memory' | HistoryOptions {
  if (value === undefined || value === 'memory') return 'memory';
  if (!isObject(value)) refuse('history', '"memory" or {path}', value);
  const { path } = plainObject('history', value, ['path']);
  if (typeof path !== 'string' || path === '') refuse('history.path', 'the path of a folder', path);
  return { path };
}

function refineOption(value: unknown): Pick<ResolvedOptions, 'refine' | 'refineCpuPart'> {
  const off = { refine: false, refineCpuPart: defaultRefinementCpuPart };
  if (value === false) return off;
  if (value === undefined || value === true) return { ...off, refine: true };
  if (!isObject(value)) refuse('refine', 'true, false or {cpuPart}', value);
  const { cpuPart } = plainObject('refine', value, ['cpuPart']);
  const range = { min: 0.001, max: 1 };
  return { refine: true, refineCpuPart: numberOption('refine.cpuPart', cpuPart, defaultRefinementCpuPart, range) };
}

function shadowOption(
  value: unknown,
  live: { control: boolean; engine: EngineName; allocator: AllocatorName },
): ShadowSpec[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > mostShadows)
    refuse('shadow', `an array of at most ${mostShadows} shadows`, value);
  if (value.length > 0 && !live.control) refuse('shadow', 'none where control is false', value);
  const names = new Set<string>();
  return value.map((given, i) => {
    const o = plainObject(`shadow[${i}]`, given, ['engine', 'allocator']);
    const engine = choiceOption(`shadow[${i}].engine`, o.engine, live.engine, engineChoices);
    const allocator = choiceOption(`shadow[${i}].allocator`, o.allocator, live.allocator, allocatorNames);
    const name = `${engine}/${allocator}`;
    if (names.has(name)) refuse(`shadow[${i}]`, 'each only once', name);
    names.add(name);
    return { name, engine, allocator };
  });
}

function horizonsOption(value: unknown, stepMs: number): readonly number[] {
  if (value === undefined) return defaultHorizonsFor(stepMs);
  if (!Array.isArray(value) || value.length === 0 || value.length > mostHorizons)
    refuse('horizonsMs', `an array of 1 to ${mostHorizons} numbers`, value);
  // Not `map`, which leaves holes as they are.
  const horizons = Array.from(value, (h, i) =>
    numberOption(`horizonsMs[${i}]`, h, undefined, { min: stepMs, max: longestHorizonMs }),
  );
  return [...new Set(horizons)].sort((a, b) => a - b);
}

const targetKeys = ['reservation', 'weight', 'limit', 'limitBurst', 'mode', 'throttlingCost'] as const;

/** The shape alone: an object without options that no target has. */
export const checkTarget = (given: unknown): Record<string, unknown> => plainObject('target', given, targetKeys);

export function resolveTarget(given: TargetOptions = {}): ResolvedTarget {
  const o = checkTarget(given);
  choiceOption('mode', o.mode, 'inherit', [...targetModes, 'inherit']);
  const reservation = numberOption('reservation', o.reservation, 0, { min: 0, max: largestNumber });
  const limit = o.limit === undefined || o.limit === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : o.limit;
  if (limit !== Number.POSITIVE_INFINITY)
    numberOption('limit', limit, undefined, { min: 0, above: true, max: largestNumber });
  if ((limit as number) < reservation) refuse('limit', `at least the reservation, ${reservation}`, limit);
  return {
    reservation,
    // Not any number above 0: what is divided by a sum of weights must come out as a number.
    weight: numberOption('weight', o.weight, 1, { min: 1e-9, max: 1e9 }),
    limit: limit as number,
    limitBurst:
      o.limitBurst === undefined
        ? Math.max(1, limit as number)
        : numberOption('limitBurst', o.limitBurst, undefined, { min: 0, above: true, max: largestNumber }),
    throttlingCost: numberOption('throttlingCost', o.throttlingCost, defaultThrottlingCost, {
      min: 0,
      above: true,
      max: 1e6,
    }),
  };
}

export function resolveAcquire(given: AcquireOptions = {}): { deadlineMs: number; signal: AbortSignal | undefined } {
  const o = plainObject('acquire', given, ['deadlineMs', 'signal']);
  if (o.signal !== undefined && !(o.signal instanceof AbortSignal)) refuse('signal', 'an AbortSignal', o.signal);
  return {
    deadlineMs: numberOption('deadlineMs', o.deadlineMs, defaultDeadlineMs, { min: 0, max: longestDeadlineMs }),
    signal: o.signal as AbortSignal | undefined,
  };
}

export function resolveAttach(given: { cost?: Cost }): Cost | undefined {
  const { cost } = plainObject('attach', given, ['cost']);
  return cost === undefined ? undefined : costOption(cost);
}

export function resolveExplain(given: ExplainOptions): number | undefined {
  const { atMs } = plainObject('explain', given, ['atMs']);
  return atMs === undefined ? undefined : numberOption('atMs', atMs, undefined, { min: 0, max: largestNumber });
}

/** @returns whether rows are asked for */
export function resolveWatch(given: { rows?: boolean }): boolean {
  const { rows } = plainObject('watch', given, ['rows']);
  return booleanOption('rows', rows, false);
}

/** Tokens a request costs under an option. Bytes cost at least 1. Throws INVALID_ARGUMENT for a cost that is none. */
export function costOf(cost: Cost, request: RequestInfo): number {
  if (request === null || typeof request !== 'object')
    throw new ForetokenError('INVALID_ARGUMENT', `request: expected a cost or an object, got ${show(request)}`);
  if (cost === 'requests') return 1;
  if (cost === 'bytes')
    return Math.max(1, countOf('readBytes', request.readBytes) + countOf('writeBytes', request.writeBytes));
  return checkCost(cost(request));
}

/** What was reported about a request; 0 if nothing was. Throws INVALID_ARGUMENT. */
export function countOf(name: string, value: unknown): number {
  if (value === undefined) return 0;
  if (typeof value !== 'number' || !(value >= 0) || !Number.isFinite(value))
    throw new ForetokenError('INVALID_ARGUMENT', `${name}: expected a finite number from 0, got ${show(value)}`);
  return value;
}

export function checkCost(tokens: unknown): number {
  if (typeof tokens !== 'number' || !(tokens > 0) || !Number.isFinite(tokens))
    throw new ForetokenError('INVALID_ARGUMENT', `cost: expected a finite number above 0, got ${show(tokens)}`);
  return tokens;
}
