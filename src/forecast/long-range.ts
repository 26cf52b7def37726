import { Piscina } from 'piscina';
import { workerFile } from '../paths.js';
import { BinnedDemand } from './binned-demand.js';
import type { FitResult, FitRound } from './fit-worker.js';
import { FittedPath } from './fitted-path.js';
import { quantileCount } from './forecaster.js';
import type { FittedKind } from './names.js';
import type { StateWalk } from './state-walk.js';

/** Horizons below this, four bins, are left to forecasters that see every step, ms. */
export const longRangeFromMs = 120_000;
/** Length of the bins that forecasters are fitted to, ms, rounded to whole steps. */
const binMs = 30_000;
/** Bins kept: six hours of them. */
const mostBins = 720;
/** Bins of a target before it is fitted to: a quarter of an hour. */
const leastBins = 30;
/** Targets fitted to in a round at most: the busiest. */
export const mostFitted = 16;
/** Bins between rounds: ten minutes. After a failure, two. */
const binsBetweenRounds = 20;
const binsToRetry = 4;
/** A path reaches until the round after the next has come. */
const spareBins = 3 * binsBetweenRounds;
/** Part of one core that fitting may use. */
const fittingCpuPart = 0.05;
/** What fitting a kind to a target is taken to cost where time is virtual, ms of one core: 720 bins, measured. */
const fitCostMs: Record<FittedKind, number> = { ets: 30, prophet: 60 };
/** A round that takes longer, in bins, is given up: its thread hangs. */
const mostRoundBins = 2 * binsBetweenRounds;

export interface LongRangeOptions {
  kinds: readonly FittedKind[];
  stepMs: number;
  horizonsMs: readonly number[];
  /** Takes results at the step at which they would be there at a stated cost, and waits for them then. */
  deterministic: boolean;
  /** Told when a kind cannot forecast, and when it can again. */
  onEvent: (message: string) => void;
}

interface Round {
  rows: number[];
  /** Bins seen when it began. */
  bin: number;
  /** Step at which a deterministic run takes its results. */
  dueStep: number;
  /** Rows given to other targets since. */
  lost: Set<number>;
  outcome: Promise<FitResult | Error>;
  settled?: FitResult | Error;
}

/**
 * ETS and Prophet for the busiest rows and long horizons. A thread of its own fits them every ten minutes, at a
 * twentieth of one core; nothing waits for it. In between, forecasts move on with time, and ETS with what comes.
 */
export class LongRange {
  readonly kinds: readonly FittedKind[];
  /** Indices of the horizons it forecasts. */
  readonly horizons: readonly number[];
  /** Processor time of fitting so far, per kind, ms. */
  readonly spentMs: number[];
  readonly #options: LongRangeOptions;
  readonly #binS: number;
  readonly #horizonBins: readonly number[];
  readonly #demand: BinnedDemand;
  /** Per kind, by row. */
  readonly #paths: Map<number, FittedPath>[];
  readonly #works: boolean[];
  #rows: readonly number[] = [];
  #steps = 0;
  #nextBin = leastBins;
  #round: Round | undefined;
  private pool: Piscina | undefined;
  #closed = false;

  static appliesTo(horizonsMs: readonly number[]): boolean {
    return horizonsMs.some((horizonMs) => horizonMs >= longRangeFromMs);
  }

  constructor(options: LongRangeOptions) {
    const { kinds, stepMs, horizonsMs } = options;
    const stepsPerBin = Math.max(1, Math.round(binMs / stepMs));
    this.#options = options;
    this.kinds = kinds;
    this.#binS = (stepsPerBin * stepMs) / 1000;
    this.horizons = [...horizonsMs.keys()].filter((h) => horizonsMs[h]! >= longRangeFromMs);
    this.#horizonBins = this.horizons.map((h) => horizonsMs[h]! / 1000 / this.#binS);
    this.#demand = new BinnedDemand(stepsPerBin, mostBins);
    this.#paths = kinds.map(() => new Map());
    this.#works = kinds.map(() => true);
    this.spentMs = kinds.map(() => 0);
  }

  /** Rows that a kind forecasts now. */
  get rows(): readonly number[] {
    return this.#rows;
  }

  /** Takes in a step's demand. Resolves at once, except in a deterministic run at a step at which results are due. */
  async observe(demand: ArrayLike<number>, rows: number): Promise<void> {
    this.#steps++;
    if (this.#demand.observe(demand, rows)) this.#endBin();
    const round = this.#round;
    if (!round) return;
    if (this.#options.deterministic && this.#steps >= round.dueStep) round.settled = await round.outcome;
    if (!round.settled || (this.#options.deterministic && this.#steps < round.dueStep)) return;
    this.#round = undefined;
    this.#take(round, round.settled);
  }

  /**
   * Writes a kind's quantiles of the mean demand over a horizon, tokens/s.
   * @param horizon index into `horizons`
   * @returns whether it has any
   */
  write(kind: number, horizon: number, row: number, out: Float32Array, at: number): boolean {
    const path = this.#paths[kind]!.get(row);
    if (!path) return false;
    path.write(horizon, this.#demand.begun, this.#horizonBins[horizon]!, out, at);
    for (let q = at; q < at + quantileCount; q++) out[q]! /= this.#binS;
    return !Number.isNaN(out[at]!);
  }

  reset(row: number): void {
    this.#demand.reset(row);
    this.#round?.lost.add(row);
    for (const paths of this.#paths) paths.delete(row);
    this.#rows = this.#rows.filter((other) => other !== row);
  }

  /** See `StateWalk`; what is put back is put into a new one with the same options. A fit under way is begun anew. */
  walk(walk: StateWalk): void {
    this.#steps = walk.number(this.#steps);
    const nextBin = walk.number(this.#round ? this.#demand.count : this.#nextBin);
    // The round under way is begun anew by who goes on from here; who has it begins the next when that is due.
    if (walk.isLoading) this.#nextBin = nextBin;
    this.#demand.walk(walk);
    for (const paths of this.#paths) walk.map(paths, (path) => FittedPath.walk(walk, path));
    this.#listRows();
  }

  /** A fit under way is given up. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.pool?.destroy();
  }

  #endBin(): void {
    const bin = this.#demand.count;
    for (const paths of this.#paths)
      for (const [row, path] of paths) {
        path.advance(Math.sqrt(this.#demand.ago(row, 0)));
        if (path.length === 0) paths.delete(row);
      }
    this.#listRows();
    if (this.#round && bin - this.#round.bin > mostRoundBins) {
      const hung = this.#round;
      this.#round = undefined;
      void this.pool?.destroy();
      this.pool = undefined;
      this.#take(hung, new Error('fitting did not end in time'));
    }
    if (!this.#round && bin >= this.#nextBin) this.#begin(bin);
  }

  #begin(bin: number): void {
    const rows = this.#demand.busiest(mostFitted).filter((row) => this.#demand.series(row).length >= leastBins);
    if (rows.length === 0 || this.#closed) return;
    const { kinds, stepMs, deterministic } = this.#options;
    const costMs = rows.length * kinds.reduce((sum, kind) => sum + fitCostMs[kind], 0);
    const round: Round = {
      rows,
      bin,
      dueStep: this.#steps + Math.ceil(costMs / fittingCpuPart / stepMs),
      lost: new Set(),
      outcome: this.#run({
        kinds,
        series: rows.map((row) => this.#demand.series(row)),
        binS: this.#binS,
        horizonBins: this.#horizonBins,
        length: Math.ceil(Math.max(...this.#horizonBins)) + spareBins,
        cpuPart: deterministic ? undefined : fittingCpuPart,
      }),
    };
    void round.outcome.then((settled) => {
      round.settled = settled;
    });
    this.#round = round;
    this.#nextBin = bin + binsBetweenRounds;
  }

  async #run(request: FitRound): Promise<FitResult | Error> {
    this.pool ??= openPool();
    const { pool } = this;
    const work = (pool.run(request) as Promise<FitResult>).catch((error: Error) => error);
    // A thread that ends before it is up takes no task with it: the task would wait for ever.
    const { promise: end, resolve } = withResolver<Error>();
    const onExit = () => resolve(new Error('its thread ended'));
    const { threads } = pool;
    for (const thread of threads) thread.once('exit', onExit);
    const outcome = await Promise.race([work, end]);
    for (const thread of threads) thread.off('exit', onExit);
    if (outcome instanceof Error) {
      void pool.destroy();
      if (this.pool === pool) this.pool = undefined;
    }
    return outcome;
  }

  #take(round: Round, result: FitResult | Error): void {
    if (this.#closed) return;
    const passed = this.#demand.count - round.bin;
    this.kinds.forEach((_, k) => {
      const failure = result instanceof Error ? result : result.failures[k];
      this.#tell(k, failure?.message);
      if (failure) this.#nextBin = Math.min(this.#nextBin, this.#demand.count + binsToRetry);
      if (result instanceof Error) return;
      this.spentMs[k]! += result.cpuMs[k]!;
      // What could not be fitted anew keeps the path it has, until that ends.
      round.rows.forEach((row, i) => {
        const fit = result.fits[k]![i];
        if (!fit || round.lost.has(row)) return;
        const path = new FittedPath(fit);
        for (let bins = passed - 1; bins >= 0; bins--) path.advance(Math.sqrt(this.#demand.ago(row, bins)));
        this.#paths[k]!.set(row, path);
      });
    });
    this.#listRows();
  }

  #tell(k: number, failure: string | undefined): void {
    const works = failure === undefined;
    if (works === this.#works[k]) return;
    this.#works[k] = works;
    const name = { ets: 'ETS', prophet: 'Prophet' }[this.kinds[k]!];
    this.#options.onEvent(works ? `${name} forecasts again` : `no new forecasts by ${name} for now: ${failure}`);
  }

  #listRows(): void {
    this.#rows = [...new Set(this.#paths.flatMap((paths) => [...paths.keys()]))].sort((a, b) => a - b);
  }
}

function withResolver<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

function openPool(): Piscina {
  const pool = new Piscina({
    filename: workerFile('forecast/fit-worker'),
    execArgv: [],
    // The thread goes when there is nothing to fit: it holds the modules' memory.
    minThreads: 0,
    maxThreads: 1,
    idleTimeout: 1_000,
    atomics: 'disabled',
  });
  // A death is reported by the round that was lost with it.
  pool.on('error', () => {});
  return pool;
}
