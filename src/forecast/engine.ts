import { ForetokenError, messageOf } from '../errors.js';
import type { DemandMatrix } from '../history/store.js';
import { Lineage } from '../learn/lineage.js';
import { fingerprint, type LstmWeights, readWeights } from '../learn/model.js';
import type { RefineRequest, RefineResult } from '../learn/refine.js';
import { Refiner } from '../learn/refiner.js';
import { Trial } from '../learn/trial.js';
import { LiveWatch } from '../learn/watch.js';
import { declineTelemetry } from '../onnx/telemetry.js';
import { Blend } from './blend.js';
import { featureVersion } from './features.js';
import { type Forecaster, type ForecastFrame, quantileCount, quantileLevels } from './forecaster.js';
import { LastValue } from './last.js';
import { LongRange } from './long-range.js';
import { LstmForecaster, shippedModelPath, weightsPathOf } from './lstm.js';
import { Mixture, type Resolved } from './mixture.js';
import { ModelHealth } from './model-health.js';
import { type EngineName, type FittedKind, fittedKinds } from './names.js';
import {
  defaultRefinementCpuPart,
  mostInReplay,
  RecentDemand,
  RefinementSchedule,
  trainingStepCostMs,
} from './schedule.js';
import { StateWalk } from './state-walk.js';

export type { EngineName } from './names.js';

export interface EngineEvent {
  kind: 'engine' | 'model';
  message: string;
}

/** Forecasts for one horizon that has passed, of the rows that were scored this time. */
export interface ResolvedForecasts {
  horizonMs: number;
  /** Steps since they were made. */
  steps: number;
  /** Ascending; the arrays below have an entry for each of these. */
  rows: readonly number[];
  /** Tokens/s. */
  q50: Float64Array;
  q90: Float64Array;
  actual: Float64Array;
  /** Index into `engines`. */
  engine: Uint8Array;
  engines: readonly string[];
}

export interface EngineOptions {
  /** Most rows there can be; memory grows with the rows used. */
  rows: number;
  stepMs: number;
  horizonsMs: readonly number[];
  /**
   * Default `auto`: a mixture of the LSTM, refined and not, of classical forecasters, and for the busiest rows and
   * horizons of two minutes and more of ETS and Prophet. Where `ets` or `prophet` has nothing, classical forecasters do it.
   */
  engine?: EngineName;
  /** Whether the LSTM is refined on what this engine sees. Default true. */
  refine?: boolean;
  /** Part of one core that refinement may take, above 0 and at most 1. Default 0.1. */
  refineCpuPart?: number;
  seed?: number;
  modelPath?: string;
  /** Where refined models are kept, so that a restart goes on with them. Default: nowhere. */
  refinedFolder?: string;
  /** Waits for inference and refinement however long they take, so that a run can be repeated. Default false. */
  deterministic?: boolean;
  /** Whether rows that nobody asks under sleep: see `Sleepers`. Default true; false is there to compare with. */
  sleeps?: boolean;
  onEvent?: (event: EngineEvent) => void;
  onResolved?: (resolved: ResolvedForecasts) => void;
}

/**
 * Gives the demand of up to so many of the latest steps, and whose row is whose by then.
 * @param rows those wanted
 */
export type PastDemand = (
  steps: number,
  rows: readonly number[],
) => Promise<{ matrix: DemandMatrix; rowOf: (target: string) => number | undefined }>;

/** The forecasters beside the models. */
interface Members {
  mixture: Mixture;
  longRange?: LongRange;
  /** Of what is fitted into the mixture. */
  blend?: Blend;
}

function walkMembers(walk: StateWalk, { mixture, longRange, blend }: Members): void {
  mixture.walk(walk);
  longRange?.walk(walk);
  blend?.walk(walk);
}

/** Names by index in frames: what dominated a row's forecast. */
const engineNames = ['classical', 'lstm', 'lstm-refined', 'ets', 'prophet'] as const;
/** The forecasters that are fitted, of each engine that has any. */
const fittedKindsOf: Partial<Record<EngineName, readonly FittedKind[]>> = {
  auto: fittedKinds,
  ets: ['ets'],
  prophet: ['prophet'],
};
/**
 * Targets times steps of history in which forecasts are made, and scored, while warming: the latest ones, at least so many
 * steps. Those before are only taken in, which costs less than half, and is what forecasts right after a restart hang on most:
 * averages, rhythm and the model's state more than who was right.
 */
const warmForecasts = 150_000;
const leastWarmForecasts = 10;
/** How long the model may take for a step at least, ms; while warming more, as nobody waits and its thread may only just begin. */
const leastDeadlineMs = 50;
const warmDeadlineMs = 2000;
/** Steps in which nobody asked, one after the other, that refinement is shown of a history: who was not there saw more. */
const mostSilence = 100;
/** Codes of what befalls a model that was opened; it may pass. */
const modelFailures: readonly string[] = ['WORKER_FAILED', 'MODEL_UNAVAILABLE'];
/** Longest that warming keeps the thread from its ticks, ms, beyond one step's work. */
const warmSliceMs = 10;
const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);

/**
 * The forecaster a user gets. Rungs, each used where the one above fails: model, classical forecasters, last
 * value. One event tells of every change of rung that is news, see `ModelHealth`; a model that failed for a step is asked
 * again in the next.
 */
export class ForecastEngine implements Forecaster {
  readonly name: EngineName;
  readonly #options: EngineOptions & { refine: boolean; refineCpuPart: number; seed: number; deterministic: boolean };
  readonly #lstm: LstmForecaster | undefined;
  readonly #weights: LstmWeights | undefined;
  #members: Members;
  readonly #last: LastValue;
  readonly #recent: RecentDemand;
  readonly #schedule: RefinementSchedule;
  #refiner: Refiner | undefined;
  /** Where refinement finds more than this engine has seen. */
  #past: PastDemand | undefined;
  #pastWorks = true;
  #refining: Promise<void> | undefined;
  readonly #lineage: Lineage | undefined;
  #watch: LiveWatch;
  /** Rows that were given to others since what is known was last walked through to be kept. */
  #forgotten = new Set<number>();
  /** Rows that history is being taken in for, by its columns; undefined of those that are left out. */
  #warming: (number | undefined)[] | undefined;
  /** What refinement came to, until the next step. */
  #refined: RefineResult | undefined;
  #trial: Trial | undefined;
  #frame: ForecastFrame;
  /** What the models said in the last step, the shipped one first; undefined where they could not. */
  #modelFrames: readonly ForecastFrame[] | undefined;
  readonly #spentMs = { score: 0, mix: 0 };
  /** Settles when the refined versions on disk are what they should be. */
  #writing: Promise<void> = Promise.resolve();
  /** Engines warmed with the past of rows, by row the place within, that wait for the next step. */
  readonly #late: { beside: ForecastEngine; rows: Map<number, number>; done: () => void }[] = [];
  readonly #health: ModelHealth;
  #closed = false;
  #letGo = (): void => {};
  /** Resolves when it is closed. */
  readonly #end = new Promise<undefined>((resolve) => {
    this.#letGo = () => resolve(undefined);
  });

  /**
   * Opens what the options ask for. A model that is missing or corrupt is an event, not an error; where only its worker
   * failed it is tried again with the steps, unless they are to be repeatable.
   * @throws ForetokenError INVALID_OPTION
   */
  static async open(options: EngineOptions): Promise<ForecastEngine> {
    declineTelemetry();
    const wantsModel = (options.engine ?? 'auto') === 'auto' || options.engine === 'lstm';
    let lstm: LstmForecaster | undefined;
    let weights: LstmWeights | undefined;
    let lineage: Lineage | undefined;
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
          retries: options.deterministic !== true,
        });
        lineage = await Lineage.open(options.refine === false ? undefined : options.refinedFolder, weights);
        for (const reason of lineage.damaged)
          options.onEvent?.({ kind: 'model', message: `a refined version is passed over: ${reason}` });
        if (lineage.latest) lstm.addModel(engineNames[2], lineage.latest);
      } catch (error) {
        if (!(error instanceof ForetokenError) || error.code === 'INVALID_OPTION') throw error;
        options.onEvent?.({ kind: 'engine', message: `no model, classical forecasters instead: ${error.message}` });
      }
    }
    return new ForecastEngine(options, lstm, weights, lineage);
  }

  private constructor(
    options: EngineOptions,
    lstm: LstmForecaster | undefined,
    weights: LstmWeights | undefined,
    lineage: Lineage | undefined,
  ) {
    this.name = options.engine ?? 'auto';
    this.#options = {
      refine: true,
      refineCpuPart: defaultRefinementCpuPart,
      seed: 1,
      deterministic: false,
      ...options,
    };
    this.#lstm = lstm;
    this.#weights = weights;
    this.#lineage = lineage;
    this.#watch = new LiveWatch(options);
    this.#members = this.#newMembers();
    this.#last = new LastValue(options.stepMs);
    this.#recent = new RecentDemand();
    this.#schedule = new RefinementSchedule({
      stepMs: options.stepMs,
      costMs: trainingStepCostMs,
      cpuPart: this.#options.refineCpuPart,
      ...(options.deterministic ? { mostInAll: mostInReplay } : {}),
    });
    this.#frame = this.#newFrame(64);
    this.#health = new ModelHealth(options.stepMs, (message) => this.#tell('engine', message));
    if (lstm?.failure) this.#health.failed(lstm.failure.message);
  }

  async step(demand: Float64Array, rows: number): Promise<ForecastFrame> {
    if (this.#closed) throw new ForetokenError('CLOSED', 'the engine was closed');
    if (!(Number.isInteger(rows) && rows >= 0 && rows <= this.#options.rows && rows <= demand.length))
      throw new ForetokenError('INVALID_ARGUMENT', `rows: expected 0 to ${this.#options.rows}, got ${rows}`);
    this.#fit(rows);
    this.#adopt();
    this.#beginTrial();
    const clean = usable(demand, rows);
    this.#recent.push(clean, rows);
    if (this.name === 'last') this.#last.predict(clean, rows, this.#frame);
    else {
      const frames = await this.#forecast(clean, rows, (resolved) => this.#resolve(resolved));
      this.#modelFrames = this.#judge(frames, clean, rows);
      if (this.name === 'lstm' && this.#modelFrames) this.#copy(this.#modelFrames, rows, this.#frame);
    }
    this.#maybeWithdraw();
    if (this.#trial?.isOver) this.#endTrial();
    await this.#maybeRefine();
    return this.#frame;
  }

  reset(row: number): void {
    for (const { rows } of this.#late) rows.delete(row);
    this.#forgotten.add(row);
    // The rest of that history is no longer this row's.
    const column = this.#warming?.indexOf(row) ?? -1;
    if (column >= 0) this.#warming![column] = undefined;
    const { mixture, longRange, blend } = this.#members;
    mixture.reset(row);
    this.#lstm?.reset(row);
    longRange?.reset(row);
    blend?.reset(row);
    this.#recent.reset(row);
  }

  /**
   * What another engine must share with this one to go on from what this one knows: forecasters, model, steps and
   * horizons. Undefined where nothing is to be known, as of the last value.
   */
  get likeness(): string | undefined {
    if (this.name === 'last') return undefined;
    const { stepMs, horizonsMs, sleeps = true } = this.#options;
    const model = this.#weights && this.#lstm ? fingerprint(this.#weights.values) : 0;
    return JSON.stringify({ engine: this.name, stepMs, horizonsMs, sleeps, model, features: featureVersion });
  }

  /**
   * Walks through all that forecasts hang on, so that it can be kept: see `StateWalk`. It may be copied until the next step.
   * What refinement has yet to learn from is not among it.
   * @param rows to be kept, ascending
   * @param silent those that nobody ever asked under, of which only the age is known
   * @returns undefined while a model is late; `forgotten`: rows that are reset from now on, to be left out
   */
  save(rows: Int32Array, silent?: Int32Array): { walk: StateWalk; forgotten: ReadonlySet<number> } | undefined {
    if (this.#closed || this.#lstm?.isIdle === false) return undefined;
    this.#forgotten = new Set();
    const walk = StateWalk.saving(rows, silent);
    this.#walkModels(walk);
    walkMembers(walk, this.#members);
    return { walk, forgotten: this.#forgotten };
  }

  /** Waits until a model that is late has made up for it; `save` says nothing before. */
  async settled(): Promise<void> {
    await this.#lstm?.settled();
  }

  /** Whether a row has ever been asked under. */
  knows(row: number): boolean {
    return this.#members.mixture.knows(row);
  }

  /**
   * Goes on from where an engine of the same likeness was, instead of from nothing. No step has been taken, and none
   * may come in between.
   * @param walk one that puts back
   * @param read fills what it is given with the bytes that come next
   * @throws what `read` throws; ForetokenError HISTORY_UNAVAILABLE if this is not such a state: it begins from nothing then
   */
  async restore(walk: StateWalk, read: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    const members = this.#newMembers();
    this.#forgotten = new Set();
    try {
      if (walk.size > this.#options.rows)
        throw new ForetokenError('INVALID_ARGUMENT', `${walk.size} rows, of ${this.#options.rows} there can be`);
      const found = this.#walkModels(walk);
      walkMembers(walk, members);
      await walk.load(read);
      [this.#watch, this.#trial] = [found.watch, found.trial];
      void this.#members.longRange?.close();
      this.#members = members;
      // Rows that were given to others meanwhile: what was put back is not theirs.
      for (const row of this.#forgotten) this.reset(row);
    } catch (error) {
      // The models' state is put back in place.
      this.#lstm?.clear();
      for (let last = (this.#lstm?.models.length ?? 0) - 1; last > (this.#lineage?.latest ? 1 : 0); last--)
        this.#lstm!.dropModel(last);
      throw error;
    }
  }

  /**
   * Takes in recent history as if it were happening, after a restart. Lets the thread do other things meanwhile;
   * no `step` may come in between.
   * @param rowOf row of a target, or undefined to leave it out
   * @param options `signal` ends it early: what has been taken in stays. `rows` there are; default: up to the last of these.
   * `known`: the first steps are known already, as what was `restore`d goes so far: only refinement is shown them; default:
   * nothing was restored
   * @returns steps taken in
   */
  async warm(
    matrix: DemandMatrix,
    rowOf: (target: string) => number | undefined,
    options: { signal?: AbortSignal | undefined; rows?: number; known?: number } = {},
  ): Promise<number> {
    const { signal, known } = options;
    if (matrix.steps === 0 || matrix.stepMs !== this.#options.stepMs) return 0;
    const columns = matrix.targets.map((target) => {
      const row = rowOf(target);
      return row !== undefined && row < this.#options.rows ? row : undefined;
    });
    const used = columns.reduce<number>((most, row) => Math.max(most, (row ?? -1) + 1), 0);
    if (used === 0 && known === undefined) return 0;
    const rows = Math.max(used, Math.min(options.rows ?? 0, this.#options.rows));
    this.#fit(rows);
    const demand = new Float64Array(rows);
    const targets = columns.filter((row) => row !== undefined).length;
    const fitting = Math.max(leastWarmForecasts, Math.floor(warmForecasts / targets));
    const first = known ?? matrix.steps - fitting;
    this.#warming = columns;
    let yieldedMs = performance.now();
    try {
      for (let step = 0; step < matrix.steps; step++) {
        if (this.#closed || signal?.aborted) return step;
        demand.fill(0);
        columns.forEach((row, column) => {
          if (row !== undefined) demand[row] = matrix.data[step * columns.length + column]!;
        });
        const clean = usable(demand, rows);
        this.#recent.push(clean, rows);
        if (step >= first) {
          const frames = await this.#forecast(clean, rows);
          if (known !== undefined) this.#judge(frames, clean, rows);
        } else if (known === undefined) await this.#takeIn(clean, rows);
        if (performance.now() - yieldedMs < warmSliceMs) continue;
        await new Promise((resolve) => setImmediate(resolve));
        yieldedMs = performance.now();
      }
      return matrix.steps;
    } catch (error) {
      // Closed meanwhile: where it was is not known any more, and does not matter.
      if (this.#closed) return 0;
      throw error;
    } finally {
      this.#warming = undefined;
    }
  }

  /**
   * Takes in the past of targets that were added while steps go on, beside them: an engine of its own is warmed with
   * it and with the steps that end meanwhile, and what that knows of a row is taken over before the next one.
   * @param matrix the past up to the last step
   * @param rowOf row of a target to be warmed, or undefined to leave it out; asked again when it is ready
   * @returns targets that will be taken over
   */
  async warmLate(
    matrix: DemandMatrix,
    rowOf: (target: string) => number | undefined,
    signal?: AbortSignal,
  ): Promise<number> {
    const columns = [...matrix.targets.keys()].filter((column) => rowOf(matrix.targets[column]!) !== undefined);
    const targets = columns.map((column) => matrix.targets[column]!);
    if (targets.length === 0 || this.#closed) return 0;
    const data = new Float32Array(matrix.steps * targets.length);
    for (let step = 0; step < matrix.steps; step++)
      columns.forEach((column, i) => {
        data[step * targets.length + i] = matrix.data[step * matrix.targets.length + column]!;
      });
    let taken = this.#recent.steps;
    const { onEvent: _, onResolved: __, refinedFolder: ___, ...options } = this.#options;
    await using beside = await ForecastEngine.open({ ...options, rows: targets.length, refine: false });
    const places = new Map(targets.map((target, i) => [target, i]));
    const steps = await beside.warm({ ...matrix, targets, data }, (target) => places.get(target), { signal });
    if (steps < matrix.steps) return 0;
    const rows = new Map<number, number>();
    targets.forEach((target, i) => {
      const row = rowOf(target);
      if (row !== undefined && row < this.#options.rows) rows.set(row, i);
    });
    const demand = new Float64Array(targets.length);
    for (; taken < this.#recent.steps; taken++) {
      for (const [row, i] of rows) demand[i] = this.#recent.at(taken + 1, row);
      await beside.#forecast(demand, targets.length);
    }
    if (this.#closed) return 0;
    await new Promise<void>((resolve) => {
      this.#late.push({ beside, rows, done: resolve });
      if (this.#closed) resolve();
    });
    return rows.size;
  }

  /** Says where refinement finds what there was before this engine; without it, or while it fails, what was seen here must do. */
  learnFrom(past: PastDemand): void {
    this.#past = past;
  }

  /** What the parts of all steps so far took, ms. Features and model run beside the scoring, in another thread. */
  get spentMs(): { features: number; model: number; score: number; mix: number } {
    return { ...(this.#lstm?.spentMs ?? { features: 0, model: 0 }), ...this.#spentMs };
  }

  /** Processor time that fitting ETS and Prophet took in their own thread so far, ms. */
  get fittingMs(): Partial<Record<FittedKind, number>> {
    const { kinds, spentMs } = this.#members.longRange ?? { kinds: [], spentMs: [] };
    return Object.fromEntries(kinds.map((kind, k) => [kind, spentMs[k]!]));
  }

  /**
   * What the engine `lstm` would have said at the end of the last step, in a frame of its own; undefined without a
   * model that works. No forecast is computed for it.
   */
  modelFrame(): ForecastFrame | undefined {
    const frames = this.#modelFrames;
    if (!frames) return undefined;
    const rows = Math.min(this.#frame.rows, frames[0]!.rows);
    const frame = { ...this.#newFrame(rows), rows };
    this.#copy(frames, rows, frame);
    return frame;
  }

  /** Losses so far of each kind of forecaster, pooled over rows, relative to mean demand; one entry per horizon. */
  scores(): ReturnType<Mixture['scores']> {
    return this.#members.mixture.scores();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#letGo();
    for (const { done } of this.#late.splice(0)) done();
    await this.#refiner?.close();
    await this.#refining?.catch(() => {});
    await this.#writing;
    await this.#members.longRange?.close();
    await this.#lstm?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Takes over rows that were warmed beside. */
  #adopt(): void {
    // A model that is still busy with steps it was late for would overwrite them.
    if (this.#late.length === 0 || this.#lstm?.isIdle === false) return;
    for (const { beside, rows, done } of this.#late.splice(0)) {
      for (const [row, from] of rows) {
        this.#members.mixture.adopt(beside.#members.mixture, from, row);
        if (this.#lstm && beside.#lstm) this.#lstm.adopt(beside.#lstm, from, row);
      }
      done();
    }
  }

  /** The one way a step goes, whether it happens now or is taken in from the history. */
  async #forecast(
    demand: Float64Array,
    rows: number,
    onResolved?: (resolved: Resolved) => void,
  ): Promise<readonly ForecastFrame[] | undefined> {
    const frames = await this.#takeIn(demand, rows, onResolved);
    const inferred = performance.now();
    const serving = this.#serving(frames);
    const external = this.name === 'auto' && this.#lstm ? [serving?.[0]?.quantiles, serving?.[1]?.quantiles] : [];
    const { mixture, longRange } = this.#members;
    mixture.predict(rows, external, this.#frame, longRange && ((h) => this.#lookFar(h)));
    this.#spentMs.mix += performance.now() - inferred;
    return frames;
  }

  /** Shows everyone a step's demand. @returns what the models say, undefined where they cannot */
  async #takeIn(
    demand: Float64Array,
    rows: number,
    onResolved?: (resolved: Resolved) => void,
  ): Promise<readonly ForecastFrame[] | undefined> {
    // The model computes in its own thread while this one scores what has become due.
    const inference = this.#infer(demand, rows);
    const began = performance.now();
    const { mixture, longRange, blend } = this.#members;
    mixture.observe(demand, rows, onResolved, longRange?.rows);
    blend?.observe(demand, rows);
    this.#spentMs.score += performance.now() - began;
    await longRange?.observe(demand, rows);
    return inference;
  }

  async #infer(demand: Float64Array, rows: number): Promise<readonly ForecastFrame[] | undefined> {
    if (!this.#lstm) return undefined;
    try {
      const frames = await this.#lstm.stepAll(demand, rows, this.#deadlineMs);
      this.#health.worked();
      return frames;
    } catch (error) {
      const isKnown = error instanceof ForetokenError && modelFailures.includes(error.code);
      if (!isKnown) throw error;
      this.#health.failed(error.message);
      return undefined;
    }
  }

  /** How long the model may take for this step. */
  get #deadlineMs(): number {
    const { deterministic, stepMs } = this.#options;
    if (deterministic) return Number.POSITIVE_INFINITY;
    return Math.max(this.#warming ? warmDeadlineMs : leastDeadlineMs, stepMs / 2);
  }

  async #maybeRefine(): Promise<void> {
    // Without a model that works there is nobody to hear of it.
    if (!this.#options.refine || !this.#weights || !this.#lstm || !this.#health.works || this.#refining) return;
    const trainingSteps = this.#schedule.due(this.#recent.steps);
    if (trainingSteps === 0) return;
    const work = this.#refine(this.#weights, trainingSteps).catch((error: unknown) => {
      if (!this.#closed) this.#tell('model', `refinement failed: ${messageOf(error)}`);
    });
    this.#refining = work.finally(() => {
      this.#refining = undefined;
    });
    if (this.#options.deterministic) await this.#refining;
  }

  async #refine(shipped: LstmWeights, trainingSteps: number): Promise<void> {
    const demand = (await this.#lookBack()) ?? this.#recent.matrix();
    if (this.#closed || demand.rows === 0) return;
    const { stepMs, horizonsMs, seed, deterministic, refineCpuPart } = this.#options;
    this.#refiner ??= new Refiner();
    const request: RefineRequest = {
      weights: this.#lineage?.latest ?? shipped,
      demand,
      stepMs,
      horizonSteps: horizonsMs.map((horizonMs) => horizonMs / stepMs),
      trainingSteps,
      seed: seed + this.#recent.steps,
    };
    const result = await this.#refiner.run(request, deterministic ? undefined : refineCpuPart);
    if (this.#closed) return;
    this.#schedule.spent(result.trainingSteps);
    if (result.trainingSteps > 0) this.#refined = result;
  }

  /** The latest steps of the rows that are refined on, where more of them are known elsewhere than here. */
  async #lookBack(): Promise<RefineRequest['demand'] | undefined> {
    const { kept, most } = this.#recent;
    if (!this.#past || kept >= most) return undefined;
    const rows = this.#recent.busiest(most);
    if (rows.length === 0) return undefined;
    try {
      // Who closes does not wait for a history that is slow.
      const past = await Promise.race([this.#past(most, rows), this.#end]);
      this.#pastWorks = true;
      if (past?.matrix.stepMs !== this.#options.stepMs) return undefined;
      const demand = byRows(past.matrix, past.rowOf);
      return demand.steps > kept ? demand : undefined;
    } catch (error) {
      if (this.#pastWorks && !this.#closed)
        this.#tell('model', `refined without the history for now: ${messageOf(error)}`);
      this.#pastWorks = false;
      return undefined;
    }
  }

  /** What was refined runs beside the others from this step on, in place of an earlier challenger. */
  #beginTrial(): void {
    const refined = this.#refined;
    if (!refined) return;
    this.#refined = undefined;
    this.#endTrial();
    this.#lstm!.addModel(engineNames[2], refined.weights);
    this.#trial = new Trial(refined.weights, this.#options);
    this.#tell('model', `challenger on trial, after ${refined.trainingSteps} steps of training`);
  }

  /** The challenger, if there is one, replaces the refined model, or none so far, if it was better on what came. */
  #endTrial(): void {
    const trial = this.#trial;
    if (!trial) return;
    this.#trial = undefined;
    const gain = trial.gain();
    const saves = Number.isNaN(gain)
      ? `nothing was asked for in ${trial.steps} steps`
      : `saves ${(100 * gain).toFixed(1)} % of the loss of what served in ${trial.steps} steps after that`;
    if (!(gain > 0)) {
      this.#lstm!.dropModel(this.#lstm!.models.length - 1);
      this.#tell('model', `challenger refused: ${saves}`);
      return;
    }
    if (this.#lineage!.latest) this.#lstm!.dropModel(1);
    this.#watch = trial.challenger;
    this.#keep(this.#lineage!.promote(trial.weights));
    this.#tell('model', `challenger promoted: ${saves}`);
  }

  /** Shows those who compare models what these say. @returns those that are heard */
  #judge(
    frames: readonly ForecastFrame[] | undefined,
    demand: Float64Array,
    rows: number,
  ): readonly ForecastFrame[] | undefined {
    const serving = this.#serving(frames);
    if (!frames || !serving) return undefined;
    if (serving[1]) this.#watch.step(demand, rows, serving[0]!.quantiles, serving[1].quantiles);
    const [shipped, champion, challenger] = [frames[0]!, serving.at(-1)!, frames.at(-1)!];
    this.#trial?.step(demand, rows, shipped.quantiles, champion.quantiles, challenger.quantiles);
    return serving;
  }

  /** Of the frames of all models those that are heard: the shipped one's, and the refined one's if there is one. */
  #serving(frames: readonly ForecastFrame[] | undefined): readonly ForecastFrame[] | undefined {
    return frames?.slice(0, this.#lineage?.latest ? 2 : 1);
  }

  /** Goes back a version when what was refined turns out to be of no use. */
  #maybeWithdraw(): void {
    if (!this.#lineage?.latest) return;
    const { wins, gain } = this.#watch.verdict();
    if (!wins) return;
    this.#keep(this.#lineage.withdraw());
    const { latest } = this.#lineage;
    if (latest) this.#lstm!.setWeights(latest, 1);
    else this.#lstm!.dropModel(1);
    this.#watch.restart();
    // What the challenger was compared with is gone.
    if (this.#trial) this.#trial = new Trial(this.#trial.weights, this.#options);
    this.#tell('model', `refined model withdrawn: the shipped one saves ${(100 * gain).toFixed(1)} % of its loss`);
  }

  /** A version that cannot be written is lost at the next restart, and nothing else. */
  #keep(written: Promise<void>): void {
    this.#writing = Promise.all([this.#writing, written]).then(
      () => {},
      (error: unknown) => this.#tell('model', `refined model not kept: ${messageOf(error)}`),
    );
  }

  #resolve(resolved: Resolved): void {
    const { onResolved, horizonsMs } = this.#options;
    if (!onResolved) return;
    const { rows, quantiles, actual, engine } = resolved;
    onResolved({
      horizonMs: horizonsMs[resolved.horizon]!,
      steps: resolved.steps,
      rows,
      q50: Float64Array.from(rows, (row) => quantiles[row * quantileCount + q50]!),
      q90: Float64Array.from(rows, (row) => quantiles[row * quantileCount + q90]!),
      actual: Float64Array.from(rows, (row) => actual[row]!),
      engine: Uint8Array.from(rows, (row) => engine[row]!),
      engines: engineNames,
    });
  }

  /** Puts in what the fitted forecasters say about a horizon. */
  #lookFar(h: number): void {
    const { longRange, blend } = this.#members;
    if (!longRange) return;
    const first = engineNames.indexOf(longRange.kinds[0]!);
    if (blend) {
      blend.amend(this.#frame, h, first);
      return;
    }
    const horizon = longRange.horizons.indexOf(h);
    if (horizon < 0) return;
    const { rows, horizonsMs, quantiles, engine } = this.#frame;
    const given = new Float32Array(quantileCount);
    for (const row of longRange.rows) {
      const at = row * horizonsMs.length + h;
      if (row >= rows || !longRange.write(0, horizon, row, given, 0)) continue;
      quantiles.set(given, at * quantileCount);
      engine[at] = first;
    }
  }

  /** The model's own quantiles; at each horizon as far towards those of the refined one as that proves itself there. */
  #copy(frames: readonly ForecastFrame[], rows: number, to: ForecastFrame): void {
    const horizons = this.#options.horizonsMs.length;
    const shares = this.#options.horizonsMs.map((_, h) => (frames[1] ? this.#watch.refinedShare(h) : 0));
    const shipped = frames[0]!.quantiles;
    const refined = (frames[1] ?? frames[0]!).quantiles;
    for (let at = 0; at < rows * horizons; at++) {
      const share = shares[at % horizons]!;
      for (let i = at * quantileCount; i < (at + 1) * quantileCount; i++)
        to.quantiles[i] = shipped[i]! + share * (refined[i]! - shipped[i]!);
      to.engine[at] = share < 0.5 ? 1 : 2;
    }
  }

  /** Classical forecasters and what is fitted, with nothing known. */
  #newMembers(): Members {
    const { stepMs, horizonsMs, deterministic, sleeps = true } = this.#options;
    const mixture = new Mixture({
      stepMs,
      horizonsMs,
      externals: this.name === 'auto' && this.#lstm ? 2 : 0,
      seasonal: this.name !== 'ewma',
      sleeps,
    });
    const kinds = fittedKindsOf[this.name];
    if (!kinds || !LongRange.appliesTo(horizonsMs)) return { mixture };
    const onEvent = (message: string) => this.#tell('engine', message);
    const longRange = new LongRange({ kinds, stepMs, horizonsMs, deterministic, onEvent });
    return this.name === 'auto'
      ? { mixture, longRange, blend: new Blend(longRange, stepMs, horizonsMs) }
      : { mixture, longRange };
  }

  /**
   * The models, and how they have fared. What is put back is of use only beside the same refined model.
   * @returns what there is, or what was put back
   */
  #walkModels(walk: StateWalk): { watch: LiveWatch; trial: Trial | undefined } {
    const { isLoading } = walk;
    const latest = this.#lineage?.latest;
    const serving = latest ? fingerprint(latest.values) : 0;
    const served = walk.number(serving);
    let watch = isLoading ? new LiveWatch(this.#options) : this.#watch;
    watch.walk(walk);
    let trial = isLoading ? undefined : this.#trial;
    if (walk.count(trial ? 1 : 0, 1) > 0) {
      const values = Float32Array.from(walk.list(trial?.weights.values ?? []));
      trial ??= new Trial({ ...this.#weights!, values }, this.#options);
      trial.walk(walk);
    }
    if (isLoading && served !== serving) {
      // The challenger may have been promoted since.
      const promoted = trial && fingerprint(trial.weights.values) === serving;
      watch = promoted ? trial!.challenger : new LiveWatch(this.#options);
      trial = undefined;
    }
    if (isLoading && !this.#options.refine) trial = undefined;
    if (isLoading && trial) this.#lstm?.addModel(engineNames[2], trial.weights);
    this.#lstm?.walk(walk);
    return { watch, trial };
  }

  #newFrame(rows: number): ForecastFrame {
    const { horizonsMs } = this.#options;
    return {
      rows: 0,
      horizonsMs,
      quantiles: new Float32Array(rows * horizonsMs.length * quantileCount),
      engines: this.name === 'last' ? ['last'] : engineNames,
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

/** Columns by rows, ascending, without those that are nobody's, and with no more than `mostSilence` at a stretch. */
function byRows(
  { steps, targets, data }: DemandMatrix,
  rowOf: (target: string) => number | undefined,
): RefineRequest['demand'] {
  const columns = targets.flatMap((target, column) => {
    const row = rowOf(target);
    return row === undefined ? [] : [{ row, column }];
  });
  columns.sort((a, b) => a.row - b.row);
  const rows = columns.length;
  const sorted = new Float32Array(steps * rows);
  let kept = 0;
  let silence = 0;
  for (let step = 0; step < steps; step++) {
    let sum = 0;
    columns.forEach(({ column }, i) => {
      const demand = data[step * targets.length + column]!;
      sorted[kept * rows + i] = demand;
      sum += demand;
    });
    silence = sum > 0 ? 0 : silence + 1;
    if (silence <= mostSilence) kept++;
  }
  return { rows, steps: kept, data: sorted.subarray(0, kept * rows), places: columns.map(({ row }) => row) };
}
