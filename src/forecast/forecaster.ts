/** The quantile levels every forecast carries, ascending. q50 and q90 are the ones that are scored. */
export const quantileLevels = [0.5, 0.75, 0.9, 0.97, 0.99] as const;
export const quantileCount = quantileLevels.length;

/**
 * Forecasts of all rows at the end of a step. A row is one series: a target's slot in the product, a
 * target or a holder in a replay.
 */
export interface ForecastFrame {
  rows: number;
  horizonsMs: readonly number[];
  /**
   * Quantiles of the mean demand rate over each horizon, tokens/s:
   * `quantiles[(row * horizonsMs.length + horizon) * quantileCount + level]`; ascending in `level`,
   * finite, never negative. Valid until the next `step`.
   */
  quantiles: Float32Array;
  /** Name of what made each row's forecast. Index into `engines`, one per row and horizon. */
  engines: readonly string[];
  engine: Uint8Array;
}

/**
 * Turns a stream of demand into forecasts. Implementations keep their own state per row and are
 * deterministic for a seed and a sequence of calls.
 */
export interface Forecaster extends AsyncDisposable {
  readonly name: string;
  /**
   * Takes in the step that just ended and forecasts from its end.
   * @param demand tokens asked for in the step, per row; may be longer than `rows`
   * @param rows rows in use, at most the capacity the forecaster was opened with
   */
  step(demand: Float64Array, rows: number): Promise<ForecastFrame>;
  /** Forgets a row, because its slot was given to another target. */
  reset(row: number): void;
  close(): Promise<void>;
}
