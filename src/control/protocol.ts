import type { ErrorRecord } from '../errors.js';
import type { ForetokenEvent, ResolvedOptions } from '../options.js';
import type { ShadowReport } from '../shadow/report.js';
import type { Explanation } from './explain.js';
import type { StepReport } from './loop.js';
import type { RosterEntry } from './roster.js';

/** What the controller's thread is started with. Only data crosses threads, so functions stay behind. */
export interface ControllerData {
  token: string;
  options: Omit<ResolvedOptions, 'cost' | 'onEvent'>;
  /** Targets there are already. */
  entries: RosterEntry[];
  /** One Int32, 1 once the thread has closed everything it opened. */
  ended: SharedArrayBuffer;
}

/** Answered by `answered` of the same id. */
export type Question =
  | { type: 'explain'; id: number; name: string; atMs: number | undefined }
  | { type: 'shadows'; id: number };

export type ToController =
  | { type: 'put'; entry: RosterEntry }
  | { type: 'remove'; handle: number }
  | Question
  /** Whether step reports carry a row per target. */
  | { type: 'watch'; rows: boolean }
  | { type: 'stop' };

export type FromController =
  | { type: 'ready'; history: string }
  /** The controller role came to this process later. */
  | { type: 'taken'; history: string }
  | { type: 'failed'; error: ErrorRecord }
  /** Everything it opened is closed. */
  | { type: 'ended' }
  | { type: 'event'; event: ForetokenEvent }
  | { type: 'step'; report: StepReport }
  | { type: 'answered'; id: number; answer: Explanation | ShadowReport | ErrorRecord };
