import { featureCount } from '../forecast/features.js';
import { Periods } from '../forecast/period.js';
import type { PreparedSeries } from './dataset.js';
import { placeHorizons } from './horizons.js';
import { type LstmWeights, type ModelShape, outputCount } from './model.js';
import { pinball } from './pinball.js';
import { sequenceModel } from './sequence-graph.js';
import { createSession, floats, runSession, type Session, tensor } from './session.js';

/** The two levels that are scored. */
export const scoredLevels = [0.5, 0.9] as const;

export interface Score {
  horizonSteps: number;
  /** Pinball at 0.5 plus pinball at 0.9, mean over rows and steps, over the mean demand of a row. */
  score: number;
  /** The part of each level. */
  parts: [number, number];
  /** Part of the scored steps of rows with demand in every tenth step or more, with demand ≤ q90. */
  coverage90: number;
}

/** Called with each forecast: `horizon` is an index into those asked for, forecasts are tokens a step. */
export type Visit = (row: number, step: number, horizon: number, q50: number, q90: number) => void;

/** Scores weights on series by running them from each series' start. */
export class Scorer implements AsyncDisposable {
  readonly #session: Session;
  readonly #shape: ModelShape;

  static async open(shape: ModelShape): Promise<Scorer> {
    return new Scorer(await createSession(sequenceModel(shape), 'scoring graph'), shape);
  }

  private constructor(session: Session, shape: ModelShape) {
    this.#session = session;
    this.#shape = shape;
  }

  /**
   * @param fromStep,toStep scored are forecasts made after these steps whose horizon ends before `toStep`
   * @param startStep see `forecast`
   */
  async score(
    weights: LstmWeights,
    prepared: PreparedSeries,
    horizonSteps: readonly number[],
    fromStep: number,
    toStep = prepared.series.steps,
    startStep = 0,
  ): Promise<Score[]> {
    const tallies = horizonSteps.map((horizon) => new Tally(prepared, horizon, fromStep, toStep));
    const visit: Visit = (row, step, horizon, q50, q90) => tallies[horizon]!.add(row, step, q50, q90);
    await this.forecast(weights, prepared, horizonSteps, fromStep, toStep, visit, startStep);
    return tallies.map((tally) => tally.result());
  }

  /**
   * Runs the weights to `toStep` and shows every forecast from `fromStep` on.
   * @param startStep where the state starts from nothing; `warmSteps` before `fromStep` are as good as all
   */
  async forecast(
    weights: LstmWeights,
    prepared: PreparedSeries,
    horizonSteps: readonly number[],
    fromStep: number,
    toStep: number,
    visit: Visit,
    startStep = 0,
  ): Promise<void> {
    const { hidden } = this.#shape;
    const { rows } = prepared.series;
    const parameters = tensor(weights.values, [weights.values.length]);
    for (let firstRow = 0; firstRow < rows; firstRow += rowsAtOnce) {
      const count = Math.min(rowsAtOnce, rows - firstRow);
      let h = new Float32Array(count * hidden);
      let c = new Float32Array(count * hidden);
      for (let firstStep = startStep; firstStep < toStep; firstStep += stepsAtOnce) {
        const length = Math.min(stepsAtOnce, toStep - firstStep);
        const block = { firstRow, count, firstStep, length };
        const out = await runSession(
          this.#session,
          {
            x: tensor(blockFeatures(prepared, block), [length, count, featureCount]),
            h0: tensor(h, [count, hidden]),
            c0: tensor(c, [count, hidden]),
            parameters,
          },
          ['quantiles', 'hT', 'cT'],
        );
        h = floats(out.hT).slice();
        c = floats(out.cT).slice();
        // A row without a history has no state: the model has not seen it.
        for (let b = 0; b < count; b++) {
          if (prepared.scale[prepared.at(firstRow + b, firstStep + length - 1)]! > 0) continue;
          h.fill(0, b * hidden, (b + 1) * hidden);
          c.fill(0, b * hidden, (b + 1) * hidden);
        }
        this.#show(floats(out.quantiles), prepared, block, horizonSteps, fromStep, visit);
      }
    }
  }

  #show(
    quantiles: Float32Array,
    prepared: PreparedSeries,
    block: Block,
    horizonSteps: readonly number[],
    fromStep: number,
    visit: Visit,
  ): void {
    const { horizons, levels } = this.#shape;
    const grid = placeHorizons(horizonSteps, horizons);
    const [median, high] = scoredLevels.map((level) => levels.indexOf(level)) as [number, number];
    for (let t = Math.max(0, fromStep - block.firstStep); t < block.length; t++)
      for (let b = 0; b < block.count; b++) {
        const row = block.firstRow + b;
        const step = block.firstStep + t;
        const scale = prepared.scale[prepared.at(row, step)]!;
        const base = (t * block.count + b) * outputCount(this.#shape);
        grid.forEach(({ low, high: far, share }, k) => {
          const value = (level: number) => {
            const from = quantiles[base + low * levels.length + level]!;
            return scale * (from + share * (quantiles[base + far * levels.length + level]! - from));
          };
          visit(row, step, k, value(median), value(high));
        });
      }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session.release();
  }
}

interface Block {
  firstRow: number;
  count: number;
  firstStep: number;
  length: number;
}

/** A run of the graph takes so many rows and steps: more would only take more memory. */
const rowsAtOnce = 256;
const stepsAtOnce = 128;

function blockFeatures(prepared: PreparedSeries, { firstRow, count, firstStep, length }: Block): Float32Array {
  const x = new Float32Array(length * count * featureCount);
  for (let t = 0; t < length; t++)
    for (let b = 0; b < count; b++) {
      const from = prepared.at(firstRow + b, firstStep + t) * featureCount;
      x.set(prepared.features.subarray(from, from + featureCount), (t * count + b) * featureCount);
    }
  return x;
}

/** Sums up forecasts of one horizon against what came. */
export class Tally {
  readonly #busy: boolean[];
  readonly #sums: [number, number] = [0, 0];
  #count = 0;
  #covered = 0;
  #watched = 0;

  constructor(
    readonly prepared: PreparedSeries,
    readonly horizonSteps: number,
    readonly fromStep: number,
    readonly toStep: number,
  ) {
    const { rows, steps, data } = prepared.series;
    this.#busy = Array.from({ length: rows }, (_, row) => {
      let active = 0;
      for (let step = fromStep; step < toStep; step++) if (data[step * rows + row]! > 0) active++;
      return active >= (toStep - fromStep) / 10 && steps > 0;
    });
  }

  add(row: number, step: number, q50: number, q90: number): void {
    if (step < this.fromStep || step + this.horizonSteps >= this.toStep) return;
    const actual = this.prepared.ahead(row, step, this.horizonSteps);
    this.#sums[0] += pinball(0.5, actual, q50);
    this.#sums[1] += pinball(0.9, actual, q90);
    this.#count++;
    if (!this.#busy[row]) return;
    this.#watched++;
    if (actual <= q90) this.#covered++;
  }

  result(): Score {
    const { series } = this.prepared;
    let total = 0;
    for (let i = this.fromStep * series.rows; i < this.toStep * series.rows; i++) total += series.data[i]!;
    const mean = total / Math.max(1, (this.toStep - this.fromStep) * series.rows);
    const unit = Math.max(1e-12, mean * Math.max(1, this.#count));
    const parts: [number, number] = [this.#sums[0] / unit, this.#sums[1] / unit];
    const coverage90 = this.#covered / Math.max(1, this.#watched);
    return { horizonSteps: this.horizonSteps, score: parts[0] + parts[1], parts, coverage90 };
  }
}

const baselineSpans = [1, 5, 10, 30, 60, 300];
const q50Factors = [0.5, 1];
const q90Factors = [1, 1.5, 2, 3];

/**
 * The best q50 and the best q90 of last value and EWMAs times fixed factors, each chosen with hindsight, per horizon.
 * Scored as `Tally` does.
 * @param seasonal adds the value one detected period earlier; finding periods takes a millisecond and a half a step
 */
export function bestBaselines(
  prepared: PreparedSeries,
  horizonSteps: readonly number[],
  fromStep: number,
  toStep = prepared.series.steps,
  seasonal = false,
): number[] {
  const { rows, data } = prepared.series;
  const bases = baselineSpans.length + (seasonal ? 1 : 0);
  const sums = horizonSteps.map(() => ({
    low: new Float64Array(bases * q50Factors.length),
    high: new Float64Array(bases * q90Factors.length),
    count: 0,
  }));
  const ewma = baselineSpans.map(() => new Float64Array(rows));
  const periods = new Periods();
  let total = 0;
  for (let step = 0; step < toStep; step++) {
    const demand = data.subarray(step * rows, (step + 1) * rows);
    if (seasonal) periods.observe(demand, rows);
    baselineSpans.forEach((span, base) => {
      const values = ewma[base]!;
      for (let row = 0; row < rows; row++) values[row]! += (2 / (span + 1)) * (demand[row]! - values[row]!);
    });
    if (step < fromStep) continue;
    for (let row = 0; row < rows; row++) total += demand[row]!;
    horizonSteps.forEach((horizon, k) => {
      if (step + horizon >= toStep) return;
      const { low, high } = sums[k]!;
      sums[k]!.count += rows;
      for (let row = 0; row < rows; row++) {
        const actual = prepared.ahead(row, step, horizon);
        for (let base = 0; base < bases; base++) {
          let value = base < baselineSpans.length ? ewma[base]![row]! : periods.seasonal(row, horizon);
          if (Number.isNaN(value)) value = demand[row]!;
          for (let f = 0; f < q50Factors.length; f++)
            low[base * q50Factors.length + f]! += pinball(0.5, actual, q50Factors[f]! * value);
          for (let f = 0; f < q90Factors.length; f++)
            high[base * q90Factors.length + f]! += pinball(0.9, actual, q90Factors[f]! * value);
        }
      }
    });
  }
  const mean = total / Math.max(1, (toStep - fromStep) * rows);
  return sums.map(({ low, high, count }) => (Math.min(...low) + Math.min(...high)) / Math.max(1e-12, mean * count));
}
