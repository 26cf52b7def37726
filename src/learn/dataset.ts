import { FeatureBank, featureCount } from '../forecast/features.js';

/** Demand per step of several rows, `data[step · rows + row]`, tokens a step. */
export interface DemandSeries {
  name: string;
  stepMs: number;
  rows: number;
  steps: number;
  data: Float32Array;
  /** Where each row stands in the table it comes from, if not at its own place: its period is searched in turn. */
  places?: readonly number[];
}

/** Sums requests into steps: what `collect` would have seen. */
export function binRequests(
  requests: { timesMs: Float64Array; target: Uint32Array; cost: Float64Array; names: readonly string[] },
  options: { name: string; stepMs: number; durationMs: number },
): DemandSeries {
  const { name, stepMs, durationMs } = options;
  const rows = requests.names.length;
  const steps = Math.floor(durationMs / stepMs);
  const data = new Float32Array(steps * rows);
  for (let i = 0; i < requests.timesMs.length; i++) {
    const step = Math.floor(requests.timesMs[i]! / stepMs);
    if (step >= steps) break;
    data[step * rows + requests.target[i]!]! += requests.cost[i]!;
  }
  return { name, stepMs, rows, steps, data };
}

/** A series with what the model sees and what it is asked for, all computed once. */
export class PreparedSeries {
  readonly series: DemandSeries;
  /** `features[(row · steps + step) · featureCount + k]`: as known at the end of the step. */
  readonly features: Float32Array;
  /** `scale[row · steps + step]`: 0 while the row is inactive. */
  readonly scale: Float32Array;
  /** Tokens a step of each row, over all steps. */
  readonly rowMean: Float64Array;
  /** Tokens a step of a row, mean over rows. */
  readonly mean: number;
  readonly #sums: Float64Array;

  constructor(series: DemandSeries) {
    const { rows, steps, data, places } = series;
    this.series = series;
    this.features = new Float32Array(rows * steps * featureCount);
    this.scale = new Float32Array(rows * steps);
    this.#sums = new Float64Array(rows * (steps + 1));
    this.rowMean = new Float64Array(rows);
    const bank = new FeatureBank(rows);
    for (let step = 0; step < steps; step++) {
      const demand = data.subarray(step * rows, (step + 1) * rows);
      bank.advanceTotal(demand.reduce((sum, value) => sum + value, 0));
      for (let row = 0; row < rows; row++) {
        const at = row * steps + step;
        const place = places?.[row] ?? row;
        if (bank.advance(row, demand[row]!, this.features, at * featureCount, place)) this.scale[at] = bank.scale(row);
        const sum = row * (steps + 1) + step;
        this.#sums[sum + 1] = this.#sums[sum]! + demand[row]!;
      }
    }
    for (let row = 0; row < rows; row++)
      this.rowMean[row] = this.#sums[(row + 1) * (steps + 1) - 1]! / Math.max(1, steps);
    this.mean = this.rowMean.reduce((sum, value) => sum + value, 0) / Math.max(1, rows);
  }

  /** Index into `scale` of a row's step. */
  at(row: number, step: number): number {
    return row * this.series.steps + step;
  }

  /** Mean demand of the `horizon` steps after `step`, tokens a step. The horizon must lie inside the series. */
  ahead(row: number, step: number, horizon: number): number {
    const base = row * (this.series.steps + 1) + step + 1;
    return (this.#sums[base + horizon]! - this.#sums[base]!) / horizon;
  }
}
