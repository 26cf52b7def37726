import { ForetokenError } from '../errors.js';
import type { DemandMatrix } from '../history/store.js';
import type { LstmWeights } from '../learn/model.js';
import { readWeights } from '../learn/model.js';
import { type RefineRequest, type RefineResult, trainingStepCostMs } from '../learn/refine.js';
import { Refiner } from '../learn/refiner.js';
import { type Forecaster, type ForecastFrame, quantileCount, quantileLevels } from './forecaster.js';
import { LastValue } from './last.js';
import { LstmForecaster, shippedModelPath, weightsPathOf } from './lstm.js';
import { Mixture } from './mixture.js';
import { mostInReplay, RecentDemand, RefinementSchedule } from './schedule.js';

export type EngineName = 'auto' | 'lstm' | 'ewma' | 'last';

export interface EngineEvent {
  kind: 'engine' | 'model';
  message: string;
}

/** Forecasts of all rows for one horizon that has passed. Arrays hold until the callback returns. */
export interface ResolvedForecasts {
  horizonMs: number;
  /** Steps since they were made. */
  steps: number;
  rows: number;
  /** Tokens/s, per row. */
  q50: Float64Array;
  q90: Float64Array;
  actual: Float64Array;
  /** Index into `engines` per row. */
  engine: Uint8Array;
  engines: readonly string[];
}

export interface EngineOptions {
  /** Most rows there can be; memory grows with the rows used. */
  rows: number;
  stepMs: number;
  horizonsMs: readonly number[];
  /** Default `auto`: a mixture of the LSTM, refined and not, and classical forecasters. */
  engine?: EngineName;
  /** Whether the LSTM is refined on what this engine sees. Default true. */
  refine?: boolean;
  seed?: number;
  modelPath?: string;
  /** Waits for inference and refinement however long they take, so that a run can be repeated. Default false. */
  deterministic?: boolean;
  onEvent?: (event: EngineEvent) => void;
  onResolved?: (resolved: ResolvedForecasts) => void;
}

/** Names by index in frames: what dominated a row's forecast. */
const engineNames = ['classical', 'lstm', 'lstm-refined'] as const;
/** Longest that warming keeps the thread from its ticks, ms, beyond one step's work. */
const warmSliceMs = 10;
const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);

/**
 * The forecaster a user gets. Rungs, each used where the one above fails: model, classical forecasters, last
 * value. One event tells of every change of rung; a model that failed for a step is asked again in the next.
 */
export class ForecastEngine implements Forecaster {
  readonly name: EngineName;
  readonly #options: EngineOptions & { refine: boolean; seed: number; deterministic: boolean };
  readonly #lstm: LstmForecaster | undefined;
  readonly #weights: LstmWeights | undefined;
  readonly #mixture: Mixture;
  readonly #last: LastValue;
  readonly #recent: RecentDemand;
  readonly #schedule: RefinementSchedule;
  #refiner: Refiner | undefined;
  #refining: Promise<void> | undefined;
  #refined: LstmWeights | undefined;
  #frame: ForecastFrame;
  readonly #spentMs = { score: 0, mix: 0 };
  #lstmWorks = true;
  #closed = false;

  /**
   * Opens what the options ask for. A model that is missing or corrupt is an event, not an error.
   * @throws ForetokenError INVALID_OPTION
   */
  static async open(options: EngineOptions): Promise<ForecastEngine> {
    const wantsModel = (options.engine ?? 'auto') === 'auto' || options.engine === 'lstm';
    let lstm: LstmForecaster | undefined;
    let weights: LstmWeights | undefined;
    if (wantsModel) {
      try {
        const modelPath = options.modelPath ?? shippedModelPath;
        weights = await readWeights(weightsPathOf(modelPath));
        lstm = await LstmForecaster.open({
          rows: options.rows,
          stepMs: options.stepMs,
          horizonsMs: options.horizonsMs,
          modelPath,
          weights,
          deadlineMs: options.deterministic ? Number.POSITIVE_INFINITY : Math.max(50, options.stepMs / 2),
        });
      } catch (error) {
        if (!(error instanceof ForetokenError) || error.code === 'INVALID_OPTION') throw error;
        options.onEvent?.({ kind: 'engine', message: `no model, classical forecasters instead: ${error.message}` });
      }
    }
    return new ForecastEngine(options, lstm, weights);
  }

  private constructor(options: EngineOptions, lstm: LstmForecaster | undefined, weights: LstmWeights | undefined) {
    this.name = options.engine ?? 'auto';
    this.#options = { refine: true, seed: 1, deterministic: false, ...options };
    this.#lstm = lstm;
    this.#weights = weights;
    this.#mixture = new Mixture({
      stepMs: options.stepMs,
      horizonsMs: options.horizonsMs,
      externals: this.name === 'auto' && lstm ? 2 : 0,
      seasonal: this.name !== 'ewma',
    });
    this.#last = new LastValue(options.stepMs);
    this.#recent = new RecentDemand();
    this.#schedule = new RefinementSchedule(
      options.stepMs,
      trainingStepCostMs,
      options.deterministic ? mostInReplay : Number.POSITIVE_INFINITY,
    );
    this.#frame = this.#newFrame(64);
  }

  async step(demand: Float64Array, rows: number): Promise<ForecastFrame> {
    if (this.#closed) throw new ForetokenError('CLOSED', 'the engine was closed');
    if (!(Number.isInteger(rows) && rows >= 0 && rows <= this.#options.rows && rows <= demand.length))
      throw new ForetokenError('INVALID_ARGUMENT', `rows: expected 0 to ${this.#options.rows}, got ${rows}`);
    this.#fit(rows);
    const clean = usable(demand, rows);
    this.#recent.push(clean, rows);
    // The model computes in its own thread while this one scores what has become due.
    const inference = this.#infer(clean, rows);
    if (this.name === 'last') this.#last.predict(clean, rows, this.#frame);
    else {
      const began = performance.now();
      this.#mixture.observe(clean, rows, (resolved) => this.#resolve(resolved));
      const scored = performance.now();
      const frames = await inference;
      const inferred = performance.now();
      const external = [frames?.[0]?.quantiles, this.#refined ? frames?.[1]?.quantiles : undefined];
      this.#mixture.predict(rows, this.name === 'auto' && this.#lstm ? external : [], this.#frame);
      if (this.name === 'lstm' && frames) this.#copy(frames[this.#refined ? 1 : 0]!, rows);
      this.#spentMs.score += scored - began;
      this.#spentMs.mix += performance.now() - inferred;
    }
    await this.#maybeRefine();
    return this.#frame;
  }

  reset(row: number): void {
    this.#mixture.reset(row);
    this.#lstm?.reset(row);
    this.#recent.reset(row);
  }

  /**
   * Takes in recent history as if it were happening, after a restart. Lets the thread do other things meanwhile;
   * no `step` may come in between.
   * @param rowOf row of a target, or undefined to leave it out
   * @param signal ends it early: what has been taken in stays
   * @returns steps taken in
   */
  async warm(
    matrix: DemandMatrix,
    rowOf: (target: string) => number | undefined,
    signal?: AbortSignal,
  ): Promise<number> {
    if (matrix.steps === 0 || matrix.stepMs !== this.#options.stepMs) return 0;
    const columns = matrix.targets.map((target) => {
      const row = rowOf(target);
      return row !== undefined && row < this.#options.rows ? row : undefined;
    });
    const rows = columns.reduce<number>((most, row) => Math.max(most, (row ?? -1) + 1), 0);
    if (rows === 0) return 0;
    this.#fit(rows);
    await this.#warmModel(matrix, rowOf);
    const demand = new Float64Array(rows);
    let yieldedMs = performance.now();
    for (let step = 0; step < matrix.steps; step++) {
      if (this.#closed || signal?.aborted) return step;
      demand.fill(0);
      columns.forEach((row, column) => {
        if (row !== undefined) demand[row] = matrix.data[step * columns.length + column]!;
      });
      const clean = usable(demand, rows);
      this.#recent.push(clean, rows);
      this.#mixture.observe(clean, rows);
      this.#mixture.predict(rows, [], this.#frame);
      if (performance.now() - yieldedMs < warmSliceMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      yieldedMs = performance.now();
    }
    return matrix.steps;
  }

  /** What the parts of all steps so far took, ms. Features and model run beside the scoring, in another thread. */
  get spentMs(): { features: number; model: number; score: number; mix: number } {
    return { ...(this.#lstm?.spentMs ?? { features: 0, model: 0 }), ...this.#spentMs };
  }

  /** Losses so far of each kind of forecaster, pooled over rows, relative to mean demand; one entry per horizon. */
  scores(): ReturnType<Mixture['scores']> {
    return this.#mixture.scores();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#refiner?.close();
    await this.#refining?.catch(() => {});
    await this.#lstm?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A model that cannot be warmed begins cold; the others need not. */
  async #warmModel(matrix: DemandMatrix, rowOf: (target: string) => number | undefined): Promise<void> {
    try {
      await this.#lstm?.warm(matrix, rowOf);
    } catch (error) {
      if (!(error instanceof ForetokenError) || error.code !== 'WORKER_FAILED') throw error;
      this.#tell('engine', `the model starts without history: ${error.message}`);
    }
  }

  async #infer(demand: Float64Array, rows: number): Promise<readonly ForecastFrame[] | undefined> {
    if (!this.#lstm) return undefined;
    try {
      const frames = await this.#lstm.stepAll(demand, rows);
      if (!this.#lstmWorks) this.#tell('engine', 'the model forecasts again');
      this.#lstmWorks = true;
      return frames;
    } catch (error) {
      if (!(error instanceof ForetokenError) || error.code !== 'WORKER_FAILED') throw error;
      if (this.#lstmWorks) this.#tell('engine', `classical forecasters for now: ${error.message}`);
      this.#lstmWorks = false;
      return undefined;
    }
  }

  async #maybeRefine(): Promise<void> {
    if (!this.#options.refine || !this.#lstm || !this.#weights || this.#refining) return;
    const trainingSteps = this.#schedule.due(this.#recent.steps);
    if (trainingSteps === 0) return;
    const demand = this.#recent.matrix();
    if (demand.rows === 0) return;
    this.#refiner ??= new Refiner();
    const request: RefineRequest = {
      weights: this.#refined ?? this.#weights,
      demand,
      stepMs: this.#options.stepMs,
      trainingSteps,
      seed: this.#options.seed,
    };
    const work = this.#refiner.run(request).then(
      (result) => this.#take(result),
      (error: unknown) => {
        if (this.#closed) return;
        this.#tell('model', `refinement failed: ${error instanceof Error ? error.message : String(error)}`);
      },
    );
    this.#refining = work.finally(() => {
      this.#refining = undefined;
    });
    if (this.#options.deterministic) await this.#refining;
  }

  #take(result: RefineResult): void {
    if (this.#closed) return;
    this.#schedule.spent(result.trainingSteps);
    const scores = `${result.challengerScore.toFixed(4)} against ${result.championScore.toFixed(4)} on unseen steps`;
    if (!result.promoted) {
      this.#tell('model', `challenger refused: ${scores}`);
      return;
    }
    if (this.#refined) this.#lstm!.setWeights(result.weights, 1);
    else this.#lstm!.addModel(engineNames[2], result.weights);
    this.#refined = result.weights;
    this.#tell('model', `challenger promoted: ${scores}`);
  }

  #resolve(resolved: Parameters<NonNullable<Parameters<Mixture['observe']>[2]>>[0]): void {
    const { onResolved, horizonsMs } = this.#options;
    if (!onResolved) return;
    const { rows, quantiles } = resolved;
    const median = new Float64Array(rows);
    const upper = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      median[row] = quantiles[row * quantileCount + q50]!;
      upper[row] = quantiles[row * quantileCount + q90]!;
    }
    onResolved({
      horizonMs: horizonsMs[resolved.horizon]!,
      steps: resolved.steps,
      rows,
      q50: median,
      q90: upper,
      actual: resolved.actual,
      engine: resolved.engine,
      engines: engineNames,
    });
  }

  #copy(frame: ForecastFrame, rows: number): void {
    const count = rows * frame.horizonsMs.length;
    this.#frame.quantiles.set(frame.quantiles.subarray(0, count * quantileCount));
    this.#frame.engine.fill(this.#refined ? 2 : 1, 0, count);
  }

  #newFrame(rows: number): ForecastFrame {
    const { horizonsMs } = this.#options;
    return {
      rows: 0,
      horizonsMs,
      quantiles: new Float32Array(rows * horizonsMs.length * quantileCount),
      engines: engineNames,
      engine: new Uint8Array(rows * horizonsMs.length),
    };
  }

  #fit(rows: number): void {
    if (rows * this.#options.horizonsMs.length > this.#frame.engine.length) this.#frame = this.#newFrame(rows * 2);
  }

  #tell(kind: EngineEvent['kind'], message: string): void {
    this.#options.onEvent?.({ kind, message });
  }
}

/** What is no demand counts as none, and more than a double can hold as very much. */
function usable(demand: Float64Array, rows: number): Float64Array {
  const clean = demand.slice(0, rows);
  for (let row = 0; row < rows; row++)
    if (!(clean[row]! >= 0 && clean[row]! <= 1e15)) clean[row] = clean[row]! > 1e15 ? 1e15 : 0;
  return clean;
}
