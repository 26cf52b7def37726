import { type AllocatorName, allocatorNames } from '../allocate/allocator.js';
import { ForetokenError } from '../errors.js';
import type { EngineName } from '../forecast/names.js';
import type { Trace } from '../workload/trace.js';
import type { Rate } from './units.js';

export const armNames = ['static', 'reactive', 'foretoken', 'oracle', 'pool', 'shared'] as const;
export type ArmName = (typeof armNames)[number];

/** What a replay is asked for; left out: the default. */
export interface ReplayOptions {
  cost?: 'requests' | 'bytes';
  /** Default 4x. */
  rate?: Rate;
  /** The resource's burst as a time at its rate, ms; default 1000. */
  burstMs?: number;
  /** Default 1000. */
  stepMs?: number;
  /** Default: on with borrowing. */
  adjust?: boolean;
  borrow?: boolean;
  allocator?: AllocatorName;
  /** Default: all that apply. */
  arms?: readonly ArmName[];
  hogs?: number;
  holders?: number;
  /** Fraction of the duration that is learnt from and not scored; default 0.5. */
  warmup?: number;
  /** What Foretoken forecasts with; default `auto`. */
  engine?: EngineName;
  /** A model other than the one that ships: path of its `.onnx` file. */
  model?: string;
  refine?: boolean;
  seed?: number;
  /** Whether every arm's head-room is swept too. Default false. */
  pareto?: boolean;
}

/** Every option as used. */
export interface ReplaySettings {
  cost: 'requests' | 'bytes';
  /** Tokens/s. */
  ratePerSec: number;
  /** Tokens. */
  burst: number;
  burstMs: number;
  stepMs: number;
  adjust: boolean;
  borrow: boolean;
  allocator: AllocatorName;
  arms: ArmName[];
  hogs: number;
  holders: number;
  warmup: number;
  engine: EngineName;
  /** Left out: the one that ships. */
  model?: string;
  refine: boolean;
  seed: number;
}

/** Costs that no request has are not what the largest is for: bins of nothing cost nothing. */
const largest = (values: Float64Array): number => values.reduce((a, b) => Math.max(a, b), 0);

export interface Demand {
  tokens: number;
  /** Tokens/s over the whole trace; Infinity if it lasts no time. */
  meanRate: number;
  largestCost: number;
  meanCost: number;
}

export function demandOf(trace: Trace): Demand {
  const tokens = trace.cost.reduce((a, b) => a + b, 0);
  return {
    tokens,
    meanRate: tokens / (trace.durationMs / 1000),
    largestCost: largest(trace.cost),
    meanCost: tokens / trace.requests,
  };
}

const invalid = (message: string): ForetokenError => new ForetokenError('INVALID_OPTION', message);

/**
 * Fills in defaults and what depends on the trace.
 * @throws ForetokenError INVALID_OPTION when options contradict each other or the trace
 */
export function settle(options: ReplayOptions, trace: Trace, demand: Demand): ReplaySettings {
  const borrow = options.borrow ?? false;
  const holders = options.holders ?? 0;
  const hogs = options.hogs ?? 0;
  if (borrow && holders > 0)
    throw invalid('--borrow: expected off with --holders, because holders cannot lend to each other, got on');
  if (options.adjust && holders > 0)
    throw invalid('--adjust: expected off with --holders, which hold a lease for the whole step, got on');
  const arms = options.arms ?? armNames.filter((name) => name !== 'shared' || borrow);
  if (arms.includes('shared') && !borrow)
    throw invalid('--arms: expected shared only with --borrow on, which is all it does, got --borrow off');

  if (options.pareto && arms.every((name) => name === 'pool'))
    throw invalid('--pareto: expected an arm with head-room in --arms, got pool alone');

  const rate = options.rate ?? { timesMean: 4 };
  const ratePerSec = 'tokensPerSec' in rate ? rate.tokensPerSec : rate.timesMean * demand.meanRate;
  if (!(ratePerSec > 0 && ratePerSec <= 1e15))
    throw invalid(
      `--rate: expected a rate above 0 and up to 1e15 tokens/s, got ${ratePerSec}` +
        (trace.durationMs === 0 ? ' because the trace has no duration; give it in tokens/s' : ''),
    );
  const burstMs = options.burstMs ?? 1000;
  const burst = Math.max((burstMs / 1000) * ratePerSec, 2 * demand.largestCost * (trace.names.length + hogs));
  if (!(burst <= 1e15)) throw invalid(`--burst: expected at most 1e15 tokens, got ${burst}`);
  return {
    cost: options.cost ?? 'requests',
    ratePerSec,
    burst,
    burstMs,
    stepMs: options.stepMs ?? 1000,
    adjust: options.adjust ?? borrow,
    borrow,
    allocator: options.allocator ?? (allocatorNames[0] as AllocatorName),
    arms: armNames.filter((name) => arms.includes(name)),
    hogs,
    holders,
    warmup: options.warmup ?? 0.5,
    engine: options.engine ?? 'auto',
    ...(options.model !== undefined && { model: options.model }),
    refine: options.refine ?? true,
    seed: options.seed ?? 1,
  };
}
