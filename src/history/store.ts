/**
 * What happened in one step, one row per target that was active in it. All arrays have the length
 * of `targets`. Counts are of this step alone, not running totals.
 */
export interface StepRecord {
  /** Unix time in ms at which the step began. */
  timeMs: number;
  stepMs: number;
  targets: readonly string[];
  arrivals: Float64Array;
  admitted: Float64Array;
  /** Decided to be denied; also those that shadow admitted all the same. */
  denied: Float64Array;
  /** Tokens asked for, admitted or not: the demand. */
  demandTokens: Float64Array;
  admittedTokens: Float64Array;
  readBytes: Float64Array;
  writeBytes: Float64Array;
  /** Requests whose completion was reported, and the sum of their processing times. */
  completions: Float64Array;
  durationNs: Float64Array;
}

/**
 * Forecasts whose horizon has passed, beside what came. All arrays have the length of `targets`.
 * Rates are tokens/s, the mean over the horizon.
 */
export interface ForecastRecord {
  /** Unix time in ms at which the forecast was made: the end of the last step it knew. */
  timeMs: number;
  horizonMs: number;
  /** Name of the engine that made them. */
  engine: string;
  targets: readonly string[];
  q50: Float64Array;
  q90: Float64Array;
  actual: Float64Array;
}

/**
 * Why targets got what they got: one row per target of `fields` numbers each, column after column. What the numbers
 * are is for whoever reads them; the store keeps them and their `shape`.
 */
export interface DecisionRecord {
  /** Unix time in ms of the decision. */
  timeMs: number;
  /** Says what the fields are; one of few. */
  shape: string;
  /** Numbers per target, 1 to 48. */
  fields: number;
  targets: readonly string[];
  /** `values[field * targets.length + row]`; any number, also NaN and infinities. */
  values: Float64Array;
}

/** What is recorded about one target at one time. */
export interface DecisionPoint {
  timeMs: number;
  shape: string;
  values: Float64Array;
}

/** One row of a target's series at some resolution; `*Max` are maxima of the steps it covers. */
export interface SeriesPoint {
  timeMs: number;
  arrivals: number;
  admitted: number;
  denied: number;
  demandTokens: number;
  /** Largest demand of one step within the point, tokens. */
  demandTokensMax: number;
  admittedTokens: number;
  readBytes: number;
  writeBytes: number;
  completions: number;
  durationNs: number;
}

/** The resolutions kept: raw steps, then 10 s, 1 min and 1 h rollups. */
export type Resolution = 'step' | '10s' | '1m' | '1h';

/** Demand of the last steps, oldest first: `data[step * targets.length + column]`, tokens a step. */
export interface DemandMatrix {
  timeMs: number;
  stepMs: number;
  steps: number;
  targets: readonly string[];
  data: Float32Array;
}

/**
 * Where the history lies. Writes are queued and never block the caller; a failed write is counted and
 * reported by `health`, it does not throw into the loop.
 */
export interface HistoryStore extends AsyncDisposable {
  /** Where it lies, for people: a path, `memory`, a URL. */
  readonly location: string;
  appendStep(record: StepRecord): void;
  appendForecasts(record: ForecastRecord): void;
  appendDecisions(record: DecisionRecord): void;
  /** Resolves when everything appended so far can be read back and survives a crash. */
  flush(): Promise<void>;
  /** Points of one target in [fromMs, toMs), oldest first. */
  series(target: string, resolution: Resolution, fromMs: number, toMs: number): Promise<SeriesPoint[]>;
  /**
   * Demand of up to `steps` steps of `stepMs` before `toMs`, for all targets seen in them. Gaps are zeros.
   * @param toMs Unix ms. Default: the end of the newest step
   * @param targets only these, of those that were seen. Default: all
   */
  recentDemand(steps: number, stepMs: number, toMs?: number, targets?: readonly string[]): Promise<DemandMatrix>;
  /** Resolved forecasts of one target in [fromMs, toMs). */
  forecasts(
    target: string,
    fromMs: number,
    toMs: number,
  ): Promise<{ timeMs: number; horizonMs: number; engine: string; q50: number; q90: number; actual: number }[]>;
  /** What is recorded about decisions on one target in [fromMs, toMs), oldest first. */
  decisions(target: string, fromMs: number, toMs: number): Promise<DecisionPoint[]>;
  /** Folds steps into rollups and deletes what is past its retention. Also runs by itself. */
  compact(): Promise<void>;
  /**
   * `up`: whether writes and reads reach the store now. `pending`, `written`, `failed`: records
   * (steps and forecasts) waiting, stored and lost since the store was opened. `lastError` stays
   * after the store has recovered.
   */
  health(): { up: boolean; pending: number; written: number; failed: number; lastError?: string };
  close(): Promise<void>;
}
