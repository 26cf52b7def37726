import type { AllocatorName } from '../allocate/allocator.js';
import type { RosterEntry } from '../control/roster.js';
import type { ForecastFrame } from '../forecast/forecaster.js';
import type { EngineName } from '../forecast/names.js';
import type { DemandMatrix } from '../history/store.js';
import type { ResolvedOptions } from '../options.js';
import type { Traffic } from './traffic.js';

/** What a shadow decides with, every part of it given. */
export interface ShadowSpec {
  name: string;
  engine: EngineName;
  allocator: AllocatorName;
}

/** What the shadows' thread is started with. */
export interface ShadowData {
  options: Omit<ResolvedOptions, 'cost' | 'onEvent'>;
}

/** What shadows are told, in this order: everything that the live loop saw. Slots are those of the live table. */
export type ToShadows =
  | { type: 'put'; slot: number; entry: RosterEntry }
  | { type: 'remove'; slot: number }
  /** The past, for forecasters of their own. */
  | { type: 'warm'; matrix: DemandMatrix }
  | { type: 'tick'; wallMs: number; traffic: Traffic; ratePerSec: number }
  /**
   * A step ended. What the live engine forecasts from there, where a shadow goes by it, and what its model does, where
   * one goes by that; none when the live step failed.
   */
  | { type: 'step'; wallMs: number; steps: number; live: ForecastFrame | undefined; model: ForecastFrame | undefined }
  | { type: 'stop' };

export type FromShadows =
  | { type: 'figures'; figures: ShadowFigures }
  | { type: 'event'; message: string }
  /** Nothing of it goes on. */
  | { type: 'failed'; message: string };

/**
 * What was asked for and denied since the shadows began, up to the end of a step. Arrays are by slot of the live table.
 * Denied live: not admitted at once, also those that mode `shadow` let pass. What modes of `off` let pass is left out.
 */
export interface ShadowFigures {
  sinceMs: number;
  timeMs: number;
  /** Steps played so far. */
  steps: number;
  asked: number;
  askedTokens: number;
  denied: number;
  deniedTokens: number;
  /** Whose figures they are. */
  handles: Float64Array;
  askedTokensBySlot: Float64Array;
  deniedTokensBySlot: Float64Array;
  shadows: readonly ShadowTally[];
}

/** What one shadow would have done in the same time. */
export interface ShadowTally extends ShadowSpec {
  denied: number;
  deniedTokens: number;
  deniedTokensBySlot: Float64Array;
  /** What each has from it now, tokens/s. */
  ratePerSecBySlot: Float64Array;
}
