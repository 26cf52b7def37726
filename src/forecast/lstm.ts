import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ForetokenError, fromErrorRecord } from '../errors.js';
import { inTime } from '../in-time.js';
import {
  fingerprint,
  type LstmWeights,
  type ModelShape,
  parameterCount,
  readWeights,
  sameShape,
} from '../learn/model.js';
import { modelsFolder } from '../paths.js';
import { FeatureBank, featureCount, featureVersion } from './features.js';
import { type Forecaster, type ForecastFrame, quantileCount, quantileLevels } from './forecaster.js';
import { chunkRows, control, costs, type InferenceTask, type ModelMemory } from './inference-task.js';
import { InferenceWorker } from './inference-worker.js';
import type { StateWalk } from './state-walk.js';

/** The model that ships with the package; its weights lie beside it, with `.weights.bin` for `.onnx`. */
export const shippedModelPath: string = join(modelsFolder, 'foretoken-lstm.onnx');

export const weightsPathOf = (modelPath: string): string => `${modelPath.replace(/\.onnx$/, '')}.weights.bin`;

export interface LstmOptions {
  /** Most rows there can be. */
  rows: number;
  stepMs: number;
  /** Horizons of the forecasts, ms; between the model's own horizons they are interpolated, beyond its longest that one holds. */
  horizonsMs: readonly number[];
  /** The `.onnx` file; its weights are read from beside it. Default: the shipped model. */
  modelPath?: string;
  /** Weights instead of those beside the model. */
  weights?: LstmWeights;
  /** Name of the first model in frames. Default `lstm`. */
  name?: string;
  /** A step that takes longer is reported as failed. Default 5,000; Infinity waits, as a replay must. */
  deadlineMs?: number;
  /** Whether a worker that fails while it opens the model is tried again with the steps, instead of an error. Default false. */
  retries?: boolean;
}

/** A step that was handed over and is not known to be done. Its demand is shared: copying it to the thread takes longer. */
type PendingStep = InferenceTask['steps'][number];

/** The shipped model, the refined one, and its challenger. */
const mostModels = 3;
/** Steps whose memory is kept for later ones. */
const mostSpare = 2;
/** Steps kept for a worker that is late or has died. Beyond it the oldest are given up. */
const maxPendingSteps = 16;
/**
 * A worker that fails is tried again with the next step; one that fails again after so long, ms, and then after twice as
 * long each time: to begin one takes half a second of processor time.
 */
const firstPauseMs = 10_000;
const longestPauseMs = 300_000;
/** Workers that hang where they cannot be ended; while there are so many, none is begun. */
const mostLeftBehind = 3;
/** How long closing waits for what the worker is at, ms; it takes milliseconds. */
const closePatienceMs = 2_000;
let lastId = 0;

/**
 * The LSTM over all rows, streaming: state is carried from step to step in shared memory, and one worker
 * thread computes. A worker that dies or hangs is replaced and goes on where it stopped; a step it could not do in
 * time is made up with the next. After workers that failed one after the other none is tried for a while, and steps
 * are given up. Several models (refined and unrefined weights) can run over the same features.
 */
export class LstmForecaster implements Forecaster {
  readonly name: string;
  readonly #options: Required<Omit<LstmOptions, 'modelPath' | 'weights' | 'retries'>>;
  readonly #task: Omit<InferenceTask, 'steps' | 'guard'>;
  readonly #bank: FeatureBank;
  readonly #frames: ForecastFrame[] = [];
  readonly #versions = { last: 0 };
  readonly #pending: PendingStep[] = [];
  /** Memory of steps that are done. */
  readonly #spare: SharedArrayBuffer[] = [];
  #resets = new Set<number>();
  #stepIndex = 0;
  #running: Promise<void> | undefined;
  #closed = false;
  #worker: InferenceWorker | undefined;
  #leftBehind = 0;
  /** Workers that failed since one last answered, why the last did, and until when none is tried. */
  #failures = 0;
  #failure: ForetokenError | undefined;
  #pauseEndMs = 0;

  /**
   * @throws ForetokenError INVALID_OPTION; MODEL_UNAVAILABLE with the path and the reason; WORKER_FAILED, unless it `retries`:
   * see `failure` then
   */
  static async open(options: LstmOptions): Promise<LstmForecaster> {
    const { rows, stepMs, horizonsMs } = options;
    if (!Number.isInteger(rows) || rows < 1) throw invalid('rows', 'a whole number, at least 1', rows);
    if (!(stepMs > 0 && Number.isFinite(stepMs))) throw invalid('stepMs', 'a positive number', stepMs);
    if (horizonsMs.length === 0 || !horizonsMs.every((horizon) => horizon > 0 && Number.isFinite(horizon)))
      throw invalid('horizonsMs', 'one or more positive numbers', horizonsMs);
    const modelPath = options.modelPath ?? shippedModelPath;
    const weights = options.weights ?? (await readWeights(weightsPathOf(modelPath)));
    const graph = await readModel(modelPath);
    const forecaster = new LstmForecaster(options, modelPath, graph, weights);
    try {
      // An empty task opens the session and tries it, so that a bad model is found here and not at the first step.
      await forecaster.#run([]);
    } catch (error) {
      if (options.retries && forecaster.failure?.code === 'WORKER_FAILED') return forecaster;
      await forecaster.close();
      throw error;
    }
    return forecaster;
  }

  private constructor(options: LstmOptions, source: string, graph: SharedArrayBuffer, weights: LstmWeights) {
    checkWeights(weights, weights.shape, `${source}: `);
    const { rows, stepMs, horizonsMs, name = 'lstm', deadlineMs = 5_000 } = options;
    this.name = name;
    this.#options = { rows, stepMs, horizonsMs: [...horizonsMs], name, deadlineMs };
    const words = new SharedArrayBuffer(4 * control.length);
    const features = new SharedArrayBuffer(FeatureBank.byteLength(rows));
    this.#bank = new FeatureBank(rows, features);
    this.#task = {
      id: ++lastId,
      source,
      graph,
      shape: weights.shape,
      rows,
      stepMs,
      horizonsMs: this.#options.horizonsMs,
      control: words,
      costs: new SharedArrayBuffer(8 * costs.length),
      features,
      chunk: {
        features: new SharedArrayBuffer(4 * chunkRows * featureCount),
        rows: new SharedArrayBuffer(4 * chunkRows),
      },
      models: [],
    };
    this.addModel(name, weights);
  }

  /** What all steps so far took in the worker, ms. */
  get spentMs(): { features: number; model: number } {
    const spent = new Float64Array(this.#task.costs);
    return { features: spent[costs.features]!, model: spent[costs.model]! };
  }

  /** Models that run, in the order of the frames of `stepAll`. */
  get models(): readonly string[] {
    return this.#frames.map((frame) => frame.engines[0]!);
  }

  /** Why the worker failed last; undefined once one has answered since. */
  get failure(): ForetokenError | undefined {
    return this.#failure;
  }

  get shape(): ModelShape {
    return this.#task.shape;
  }

  /**
   * Runs other weights beside those there are, over the same features. Its state starts as the first
   * model's, so weights refined from it need no warming.
   * @returns index of its frame in `stepAll`
   * @throws ForetokenError MODEL_UNAVAILABLE if the weights do not fit
   */
  addModel(name: string, weights: LstmWeights): number {
    const { shape, models } = this.#task;
    checkWeights(weights, shape);
    const { rows, horizonsMs } = this.#options;
    const model: ModelMemory = {
      weights: new SharedArrayBuffer(weights.values.byteLength),
      version: ++this.#versions.last,
      h: new SharedArrayBuffer(4 * rows * shape.hidden),
      c: new SharedArrayBuffer(4 * rows * shape.hidden),
      quantiles: new SharedArrayBuffer(4 * rows * horizonsMs.length * quantileCount),
    };
    new Float32Array(model.weights).set(weights.values);
    const first = models[0];
    if (first) for (const key of ['h', 'c'] as const) new Float32Array(model[key]).set(new Float32Array(first[key]));
    models.push(model);
    this.#frames.push({
      rows: 0,
      horizonsMs,
      quantiles: new Float32Array(model.quantiles),
      engines: [name],
      engine: new Uint8Array(rows * horizonsMs.length),
    });
    return models.length - 1;
  }

  /** Ends a model but the first; those after it move up. */
  dropModel(model: number): void {
    if (model < 1) throw new ForetokenError('INVALID_ARGUMENT', `model: expected 1 or more, got ${model}`);
    this.#task.models.splice(model, 1);
    this.#frames.splice(model, 1);
  }

  /**
   * Swaps a model's weights; they hold from the next step on, and its state stays.
   * @throws ForetokenError MODEL_UNAVAILABLE if they do not fit
   */
  setWeights(weights: LstmWeights, model = 0): void {
    const { models, shape } = this.#task;
    checkWeights(weights, shape);
    const old = models[model];
    if (!old) throw new ForetokenError('INVALID_ARGUMENT', `there are ${models.length} models, none at ${model}`);
    // New memory, because a worker may be reading the old.
    const memory = new SharedArrayBuffer(weights.values.byteLength);
    new Float32Array(memory).set(weights.values);
    models[model] = { ...old, weights: memory, version: ++this.#versions.last };
  }

  async step(demand: Float64Array, rows: number): Promise<ForecastFrame> {
    return (await this.stepAll(demand, rows))[0]!;
  }

  /**
   * Like `step`, with a frame per model. The arrays are the forecaster's own and hold until the next step.
   * @param deadlineMs default: the one it was opened with
   * @throws ForetokenError WORKER_FAILED if the worker is late, died or hangs: the step is then made up with the next, unless
   * several failed; MODEL_UNAVAILABLE as `open`, after a worker failed there; CLOSED; INVALID_ARGUMENT
   */
  async stepAll(
    demand: Float64Array,
    rows: number,
    deadlineMs = this.#options.deadlineMs,
  ): Promise<readonly ForecastFrame[]> {
    if (this.#closed) throw new ForetokenError('CLOSED', 'the forecaster was closed');
    if (!(Number.isInteger(rows) && rows >= 0 && rows <= this.#options.rows && rows <= demand.length))
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `rows must be 0 to ${Math.min(this.#options.rows, demand.length)}, got ${rows}`,
      );
    const index = ++this.#stepIndex;
    if (performance.now() < this.#pauseEndMs) throw fromErrorRecord(this.#failure!);
    const own = this.#room(rows);
    own.set(demand.subarray(0, rows));
    // What is not a demand counts as none: one bad number would stay in a row's averages for ever.
    for (let row = 0; row < rows; row++)
      if (!(own[row]! >= 0 && own[row]! <= maxDemand)) own[row] = own[row]! > maxDemand ? maxDemand : 0;
    if (this.#pending.length === maxPendingSteps) this.#giveUp(1);
    this.#pending.push({ index, demand: own, resets: [...this.#resets] });
    this.#resets.clear();
    const late = () =>
      new ForetokenError('WORKER_FAILED', `the inference worker did not answer within ${deadlineMs} ms`);
    await inTime(deadlineMs, this.#drain(), late);
    for (const frame of this.#frames) frame.rows = rows;
    return this.#frames;
  }

  reset(row: number): void {
    if (!(Number.isInteger(row) && row >= 0 && row < this.#options.rows))
      throw new ForetokenError('INVALID_ARGUMENT', `row must be 0 to ${this.#options.rows - 1}, got ${row}`);
    this.#resets.add(row);
  }

  /** Whether every step handed over has been taken in. */
  get isIdle(): boolean {
    return this.#pending.length === 0 && !this.#running;
  }

  /** Waits until every step handed over has been taken in. @throws ForetokenError WORKER_FAILED if one cannot be */
  settled(): Promise<void> {
    return this.#drain();
  }

  /** Takes over another's row, features and state; every model here goes on from the other's first. Both are idle. */
  adopt(other: LstmForecaster, from: number, row: number): void {
    const { hidden } = this.#task.shape;
    const features = new Float32Array(FeatureBank.rowFloats);
    other.#bank.readRow(from, features, 0);
    this.#bank.writeRow(row, features, 0);
    for (const key of ['h', 'c'] as const) {
      const state = new Float32Array(other.#task.models[0]![key], 4 * from * hidden, hidden);
      for (const model of this.#task.models) new Float32Array(model[key], 4 * row * hidden, hidden).set(state);
    }
    // What was to be forgotten of the row was so before this.
    this.#resets.delete(row);
  }

  /** Forgets all rows, and all of them together. While it is idle. */
  clear(): void {
    const { features, models } = this.#task;
    for (const memory of [features, ...models.flatMap(({ h, c, quantiles }) => [h, c, quantiles])])
      new Uint8Array(memory).fill(0);
    this.#resets.clear();
  }

  /**
   * See `StateWalk`. While it is idle. States are put back into the models that have the weights they were made with; a
   * model that was not there goes on from the first one's.
   */
  walk(walk: StateWalk): void {
    const { models, rows, shape } = this.#task;
    for (const row of this.#resets) this.#bank.reset(row);
    this.#bank.walk(walk);
    const prints = models.map(({ weights }) => fingerprint(new Float32Array(weights)));
    const left = new Set(models.slice(1));
    const count = walk.count(models.length, mostModels);
    for (let i = 0; i < count; i++) {
      const print = walk.number(prints[i] ?? 0);
      const model = models[prints.indexOf(print)];
      if (model) left.delete(model);
      for (const key of ['h', 'c'] as const) {
        const bytes = 4 * rows * shape.hidden;
        walk.rows(new Float32Array(model?.[key] ?? new SharedArrayBuffer(bytes)), shape.hidden);
      }
    }
    walk.afterwards(() => {
      // What was to be forgotten was so before this.
      this.#resets.clear();
      const [first] = models;
      for (const model of left)
        for (const key of ['h', 'c'] as const) new Float32Array(model[key]).set(new Float32Array(first![key]));
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#worker?.stop();
    // Ending a thread while the runtime computes aborts the process: the run in flight ends first.
    const ending = this.#running?.catch(() => {}) ?? Promise.resolve();
    await inTime(closePatienceMs, ending, () => new Error('it hangs')).catch(() => {});
    await this.#worker?.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Hands over what is pending until nothing is. One task is under way at a time. */
  async #drain(): Promise<void> {
    while (this.#pending.length > 0) {
      if (this.#running) await this.#running;
      else {
        const steps = [...this.#pending];
        const run = this.#run(steps).then(() => {
          const done = steps.at(-1)!.index;
          while (this.#pending.length > 0 && this.#pending[0]!.index <= done)
            this.#spare.push(this.#pending.shift()!.demand.buffer as SharedArrayBuffer);
          this.#spare.splice(mostSpare);
        });
        this.#running = run.finally(() => {
          this.#running = undefined;
        });
        await this.#running;
      }
    }
  }

  #room(rows: number): Float64Array {
    const spare = this.#spare.pop();
    const fits = spare && spare.byteLength >= 8 * rows;
    return new Float64Array(fits ? spare : new SharedArrayBuffer(8 * rows), 0, rows);
  }

  /** Gives up the oldest pending steps. */
  #giveUp(count: number): void {
    for (const { resets } of this.#pending.splice(0, count)) for (const row of resets) this.#resets.add(row);
  }

  async #run(steps: PendingStep[]): Promise<void> {
    try {
      const record = await this.#begun().run({ ...this.#task, steps });
      if (record) throw fromErrorRecord(record);
      this.#failures = 0;
      this.#failure = undefined;
    } catch (error) {
      if (!this.#closed && error instanceof ForetokenError) await this.#failed(error);
      throw error;
    }
  }

  /** The worker there is, or another for one that died. */
  #begun(): InferenceWorker {
    if (this.#closed) throw new ForetokenError('CLOSED', 'the forecaster was closed');
    if (this.#leftBehind >= mostLeftBehind)
      throw new ForetokenError('WORKER_FAILED', `${this.#leftBehind} inference workers hang`);
    if (this.#worker?.isGone) {
      void this.#worker.end();
      this.#worker = undefined;
    }
    this.#worker ??= new InferenceWorker();
    return this.#worker;
  }

  async #failed(error: ForetokenError): Promise<void> {
    this.#failure = error;
    const again = ++this.#failures - 2;
    if (again >= 0) {
      this.#pauseEndMs = performance.now() + Math.min(firstPauseMs * 2 ** again, longestPauseMs);
      this.#giveUp(this.#pending.length);
    }
    // Others see that it is being ended, and do not hand over anything until its memory is at rest.
    const worker = this.#worker;
    this.#worker = undefined;
    const left = await worker?.end();
    if (!left) return;
    this.#leftBehind++;
    void left.gone.then(() => {
      this.#leftBehind--;
    });
  }
}

/** More tokens a step than this would overflow float32 sums of squares. */
const maxDemand = 1e15;

const invalid = (name: string, expected: string, got: unknown): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `${name} must be ${expected}, got ${String(got)}`);

async function readModel(path: string): Promise<SharedArrayBuffer> {
  try {
    const bytes = await readFile(path);
    const shared = new SharedArrayBuffer(bytes.length);
    new Uint8Array(shared).set(bytes);
    return shared;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ForetokenError('MODEL_UNAVAILABLE', `${path}: cannot be read: ${reason}`, { cause });
  }
}

function checkWeights(weights: LstmWeights, shape: ModelShape, source = ''): void {
  const fail = (reason: string): never => {
    throw new ForetokenError('MODEL_UNAVAILABLE', `${source}the weights do not fit: ${reason}`);
  };
  if (weights.featureVersion !== featureVersion)
    fail(`made for features ${weights.featureVersion}, these are ${featureVersion}`);
  if (weights.shape.inputs !== featureCount)
    fail(`made for ${weights.shape.inputs} features, there are ${featureCount}`);
  if (`${weights.shape.levels}` !== `${quantileLevels}`) fail(`made for levels ${weights.shape.levels}`);
  if (!sameShape(weights.shape, shape)) fail('they are of another shape than the model');
  if (weights.values.length !== parameterCount(shape))
    fail(`${weights.values.length} of ${parameterCount(shape)} parameters`);
}
