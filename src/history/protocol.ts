import type { ErrorRecord } from '../errors.js';
import type { GatePlace } from './exit-gate.js';
import type { HistorySettings } from './options.js';
import type { DemandMatrix, Resolution } from './store.js';

/** What the worker is started with. */
export interface WorkerSettings extends HistorySettings {
  path: string;
  memoryLimitMb: number;
  place?: GatePlace | undefined;
}

/**
 * A record on its way to the worker. `buffer` holds the fields as doubles, column after column, then
 * the caller's numbers of the targets as 32-bit integers; it may be longer than that.
 */
export type PackedRecord = {
  timeMs: number;
  rows: number;
  buffer: ArrayBuffer;
  /** Names whose numbers the worker has not heard of yet; `reset` makes it forget the earlier ones. */
  names?: { reset: boolean; list: string[] };
} & (
  | { kind: 'step'; stepMs: number }
  | { kind: 'forecasts'; horizonMs: number; engine: string }
  | { kind: 'decisions'; shape: string; fields: number }
);

/** What can be asked of the worker: arguments and answer. Calls are answered in order. */
export interface Calls {
  /** One transaction. The answer gives the buffers back for the next records. */
  append: { args: PackedRecord[]; answer: ArrayBuffer[] };
  series: { args: { target: string; resolution: Resolution; fromMs: number; toMs: number }; answer: Float64Array };
  recentDemand: {
    args: { steps: number; stepMs: number; toMs: number | undefined; targets: readonly string[] | undefined };
    answer: DemandMatrix;
  };
  /** `rows`: time, horizon, number of the engine, q50, q90, actual, one forecast after another. */
  forecasts: {
    args: { target: string; fromMs: number; toMs: number };
    answer: { engines: Record<number, string>; rows: Float64Array };
  };
  /** `rows`: time, number of the shape, then as many numbers as a decision may have, one decision after another. */
  decisions: {
    args: { target: string; fromMs: number; toMs: number };
    answer: { shapes: Record<number, string>; rows: Float64Array };
  };
  compact: { args: null; answer: null };
  /** The worker closes the file, answers and ends. */
  close: { args: null; answer: null };
}

export type CallName = keyof Calls;

export type ToWorker = { [K in CallName]: { id: number; call: K; args: Calls[K]['args'] } }[CallName];

export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'refused'; error: ErrorRecord }
  | { kind: 'answer'; id: number; answer: Calls[CallName]['answer'] }
  | { kind: 'failed'; id: number; error: ErrorRecord }
  /** Something nobody waits for went wrong: a compaction that ran by itself. */
  | { kind: 'trouble'; error: ErrorRecord }
  /** The last word of a worker that must be started anew. */
  | { kind: 'ending'; error: ErrorRecord };
