import { type ErrorRecord, ForetokenError, messageOf, toErrorRecord } from '../errors.js';
import { type GridPoint, placeHorizons } from '../learn/horizons.js';
import type { ModelShape } from '../learn/model.js';
import { RunGuard } from '../learn/run-guard.js';
import { createSession, guardRuns, indices, runSession, type Session, type Tensor, tensor } from '../learn/session.js';
import { FeatureBank, featureCount } from './features.js';
import { quantileCount } from './forecaster.js';
import { chunkRows, control, costs, type InferenceTask } from './inference-task.js';

/** A model's state of all rows. */
type Recurrent = Record<'h' | 'c', Float32Array>;

/** What a worker keeps between tasks; it can be made anew from any task. */
class Engine {
  readonly id: number;
  readonly #session: Session;
  readonly #shape: ModelShape;
  readonly #bank: FeatureBank;
  readonly #x = new Float32Array(chunkRows * featureCount);
  readonly #h: Float32Array;
  readonly #c: Float32Array;
  readonly #nextH: Float32Array;
  readonly #nextC: Float32Array;
  /** Horizons of the model that are computed, and where those of the task lie among them. */
  readonly #computed: readonly number[];
  readonly #places: readonly GridPoint[];
  /** Indices of the model's outputs at those. */
  readonly #outputs: Tensor;
  readonly #grid: Float32Array;
  readonly #chunkFeatures: Float32Array;
  readonly #active: Uint32Array;
  readonly #parameters: { version: number; values: Float32Array }[] = [];

  static async open(task: InferenceTask): Promise<Engine> {
    // The runtime takes no shared memory.
    const session = await createSession(new Uint8Array(task.graph).slice(), task.source);
    if (!session.inputNames.includes('outputs'))
      throw new ForetokenError('MODEL_UNAVAILABLE', `${task.source}: another version made this graph; train it anew`);
    const engine = new Engine(task, session);
    await engine.#try(task);
    return engine;
  }

  private constructor(task: InferenceTask, session: Session) {
    this.id = task.id;
    this.#session = session;
    this.#shape = task.shape;
    this.#bank = new FeatureBank(task.rows, task.features);
    this.#chunkFeatures = new Float32Array(task.chunk.features);
    this.#active = new Uint32Array(task.chunk.rows);
    const states = chunkRows * task.shape.hidden;
    [this.#h, this.#c, this.#nextH, this.#nextC] = Array.from({ length: 4 }, () => new Float32Array(states)) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const { horizons } = task.shape;
    const steps = task.horizonsMs.map((horizonMs) => horizonMs / task.stepMs);
    const ends = placeHorizons(steps, horizons).flatMap(({ low, high, share }) => (share === 1 ? [high] : [low, high]));
    const used = [...new Set(ends)].sort((a, b) => a - b);
    this.#computed = used.map((index) => horizons[index]!);
    this.#places = placeHorizons(steps, this.#computed);
    const levels = [...Array(quantileCount).keys()];
    this.#outputs = indices(used.flatMap((index) => levels.map((level) => index * quantileCount + level)));
    this.#grid = new Float32Array(chunkRows * this.#computed.length * quantileCount);
  }

  /** Forecasts for a row of zeros, which no state knows of: whether graph and weights fit together shows in no other way. */
  async #try({ models, source }: InferenceTask): Promise<void> {
    try {
      await this.#infer(new Float32Array(models[0]!.weights).slice(), 1);
    } catch (error) {
      if (error instanceof ForetokenError) throw error;
      throw new ForetokenError('MODEL_UNAVAILABLE', `${source}: graph and weights do not fit: ${messageOf(error)}`);
    }
  }

  async run(task: InferenceTask): Promise<void> {
    const words = new Int32Array(task.control);
    task.models.forEach((model, i) => {
      if (this.#parameters[i]?.version !== model.version)
        this.#parameters[i] = { version: model.version, values: new Float32Array(model.weights).slice() };
    });
    for (const step of task.steps) {
      if (Atomics.load(words, control.step) !== step.index) {
        for (const row of step.resets) {
          this.#bank.reset(row);
          this.#silence(task, row);
        }
        let total = 0;
        for (let row = 0; row < step.demand.length; row++) total += step.demand[row]!;
        this.#bank.advanceTotal(total);
        Atomics.store(words, control.rowsFeatured, 0);
        Atomics.store(words, control.rowsDone, 0);
        Atomics.store(words, control.step, step.index);
      }
      while (Atomics.load(words, control.rowsDone) < step.demand.length) await this.#chunk(task, step.demand, words);
    }
  }

  /** Takes in rows from `rowsDone` on until a chunk of active ones is full or the rows are at their end. */
  async #chunk(task: InferenceTask, demand: Float64Array, words: Int32Array): Promise<void> {
    const results = task.models.map((model) => new Float32Array(model.quantiles));
    const states = task.models.map((model) => ({ h: new Float32Array(model.h), c: new Float32Array(model.c) }));
    const { hidden } = this.#shape;
    const spent = new Float64Array(task.costs);
    const began = performance.now();
    // Another worker may have been lost while its models computed: features that took the demand in must not again.
    if (Atomics.load(words, control.rowsFeatured) <= Atomics.load(words, control.rowsDone))
      this.#feature(task, demand, states, words);
    const count = Atomics.load(words, control.active);
    this.#x.set(this.#chunkFeatures.subarray(0, count * featureCount));
    const featured = performance.now();
    for (let model = Atomics.load(words, control.modelsDone); count > 0 && model < task.models.length; model++) {
      const { h, c } = states[model]!;
      this.#overRuns(count, (first, at, length) => {
        copy(h, at * hidden, length * hidden, this.#h, first * hidden);
        copy(c, at * hidden, length * hidden, this.#c, first * hidden);
      });
      await this.#infer(this.#parameters[model]!.values, count);
      // The runtime may have taken so long that another worker has this memory now.
      guard.check();
      this.#overRuns(count, (first, at, length) => {
        copy(this.#nextH, first * hidden, length * hidden, h, at * hidden);
        copy(this.#nextC, first * hidden, length * hidden, c, at * hidden);
      });
      this.#publish(task, results[model]!, count);
      Atomics.store(words, control.modelsDone, model + 1);
    }
    Atomics.store(words, control.rowsDone, Atomics.load(words, control.rowsFeatured));
    spent[costs.features]! += featured - began;
    spent[costs.model]! += performance.now() - featured;
  }

  /** Takes a chunk's demand into the features, and lays those of its active rows down for the models. */
  #feature(task: InferenceTask, demand: Float64Array, states: readonly Recurrent[], words: Int32Array): void {
    const { hidden } = this.#shape;
    let row = Atomics.load(words, control.rowsDone);
    let count = 0;
    for (; row < demand.length && count < chunkRows; row++) {
      const isNew = !this.#bank.isActive(row);
      // Most rows of most tables: what was forecast for such a row is nothing, and stays so.
      if (isNew && demand[row] === 0) continue;
      if (this.#bank.advance(row, demand[row]!, this.#chunkFeatures, count * featureCount)) {
        if (isNew)
          for (const { h, c } of states) {
            h.fill(0, row * hidden, (row + 1) * hidden);
            c.fill(0, row * hidden, (row + 1) * hidden);
          }
        this.#active[count++] = row;
      } else this.#silence(task, row);
    }
    Atomics.store(words, control.active, count);
    Atomics.store(words, control.modelsDone, 0);
    Atomics.store(words, control.rowsFeatured, row);
  }

  /** Nothing is forecast for a row from here on. */
  #silence(task: InferenceTask, row: number): void {
    const outputs = task.horizonsMs.length * quantileCount;
    for (const { quantiles } of task.models) new Float32Array(quantiles, 4 * row * outputs, outputs).fill(0);
  }

  /** Visits runs of active rows that lie side by side: copying them at once is ten times faster than one by one. */
  #overRuns(count: number, visit: (first: number, row: number, length: number) => void): void {
    const active = this.#active;
    for (let first = 0; first < count; ) {
      let end = first + 1;
      while (end < count && active[end] === active[end - 1]! + 1) end++;
      visit(first, active[first]!, end - first);
      first = end;
    }
  }

  async #infer(parameters: Float32Array, count: number): Promise<void> {
    const { hidden, inputs } = this.#shape;
    const horizons = this.#computed.length;
    const view = (data: Float32Array, width: number) => tensor(data.subarray(0, count * width), [count, width]);
    await runSession(
      this.#session,
      {
        features: view(this.#x, inputs),
        h: view(this.#h, hidden),
        c: view(this.#c, hidden),
        parameters: tensor(parameters, [parameters.length]),
        outputs: this.#outputs,
      },
      {
        quantiles: tensor(this.#grid.subarray(0, count * horizons * quantileCount), [count * horizons, quantileCount]),
        nextH: view(this.#nextH, hidden),
        nextC: view(this.#nextC, hidden),
      },
    );
  }

  /** From quantiles over the scale at the grid's horizons to tokens/s at those asked for. */
  #publish(task: InferenceTask, results: Float32Array, count: number): void {
    const places = this.#places;
    const outputs = this.#computed.length * quantileCount;
    for (let i = 0; i < count; i++) {
      const row = this.#active[i]!;
      const toRate = (this.#bank.scale(row) * 1000) / task.stepMs;
      let to = row * places.length * quantileCount;
      for (const { low, high, share } of places) {
        const near = i * outputs + low * quantileCount;
        const far = i * outputs + high * quantileCount;
        for (let level = 0; level < quantileCount; level++) {
          const value = this.#grid[near + level]!;
          results[to++] = toRate * (value + share * (this.#grid[far + level]! - value));
        }
      }
    }
  }
}

/** Beside many that sleep, rows that lie side by side are few, and a view costs more than to copy one. */
function copy(from: Float32Array, at: number, length: number, to: Float32Array, place: number): void {
  if (length > 128) to.set(from.subarray(at, at + length), place);
  else for (let i = 0; i < length; i++) to[place + i] = from[at + i]!;
}

let engine: Engine | undefined;
let guard: RunGuard;

/** Takes in the task's steps. Returns an error as a value, because structured clone would drop its code. */
export default async function infer(task: InferenceTask): Promise<ErrorRecord | undefined> {
  try {
    guard = new RunGuard(task.guard);
    // The runtime is loaded: it was held until then, see `InferenceWorker`.
    guard.release();
    guard.check();
    guardRuns(guard);
    if (engine?.id !== task.id) engine = await Engine.open(task);
    await engine.run(task);
    return undefined;
  } catch (error) {
    return toErrorRecord(error, 'WORKER_FAILED');
  }
}
