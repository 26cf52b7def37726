import { resolve as absolute } from 'node:path';
import { ForetokenError } from '../errors.js';
import { checkGrid } from './grid.js';
import { Link } from './link.js';
import { NameTable } from './names.js';
import { type HistoryOptions, historySettings, invalid, positiveOption } from './options.js';
import type { CallName, Calls, PackedRecord, WorkerSettings } from './protocol.js';
import { Queue, type QueuedRecord } from './queue.js';
import {
  checkDecisions,
  checkForecasts,
  checkRange,
  checkStep,
  forecastFieldCount,
  packedRowBytes,
  stepFieldCount,
  unpackSeries,
} from './record.js';
import { decisionColumns } from './schema.js';
import type {
  DecisionPoint,
  DecisionRecord,
  DemandMatrix,
  ForecastRecord,
  HistoryStore,
  Resolution,
  SeriesPoint,
  StepRecord,
} from './store.js';

export interface DuckDbHistoryOptions extends HistoryOptions {
  /** The file. It and its folder are made if they do not exist; `<path>.wal` beside it is its log. */
  path: string;
  /**
   * Most memory for records that wait for the worker, MB; beyond it the oldest are dropped and counted.
   * Default 64, which holds 80 steps of 10,000 targets.
   */
  queueMb?: number;
  /** Memory DuckDB may use, MB. Default 512. */
  memoryLimitMb?: number;
  /** Pause before a worker that died is started again, ms; doubles up to 40 times of it. Default 250. */
  restartMs?: number;
}

/** Pauses between restarts grow up to this many times the first. */
const longestRestart = 40;
/** How long `close` waits for the worker before it lets go of it. */
const closeMs = 30_000;
/** Buffers kept for the next records. */
const spareBuffers = 8;
/** Names after which the caller's numbers start anew, unless a single record has more. */
const namesBeforeReset = 65_536;

/**
 * Opens a history in a DuckDB file, written and read by a worker thread of its own. One store holds a
 * file at a time. A kill loses at most the records that `flush` has not confirmed.
 * @throws ForetokenError INVALID_OPTION; HISTORY_UNAVAILABLE with path and reason when the folder
 * cannot be written, the file is foreign, corrupt, of a newer format, or held by another process
 */
export async function openDuckDbHistory(options: DuckDbHistoryOptions): Promise<HistoryStore> {
  const own = ['path', 'queueMb', 'memoryLimitMb', 'restartMs'];
  const settings = historySettings(options, 20_000_000, own);
  if (typeof options.path !== 'string' || options.path === '')
    throw invalid('path', 'the path of a file', options.path);
  const queueMb = positiveOption('queueMb', options.queueMb, 64);
  const memoryLimitMb = positiveOption('memoryLimitMb', options.memoryLimitMb, 512);
  const restartMs = positiveOption('restartMs', options.restartMs, 250);
  const worker: WorkerSettings = { ...settings, path: absolute(options.path), memoryLimitMb };
  return new DuckDbHistory(worker, await Link.open(worker), queueMb, restartMs);
}

class DuckDbHistory implements HistoryStore {
  readonly location: string;
  readonly #settings: WorkerSettings;
  readonly #queue: Queue;
  readonly #restartMs: number;
  /** Undefined while the worker is being started again. */
  #link: Link | undefined;
  #names = new NameTable();
  /** What the worker of `#link` has heard of: a table and how many of its names. */
  #sent: { names: NameTable; count: number } | undefined;
  #inFlight = 0;
  #pumpDue = false;
  #restarts = 0;
  #restartTimer: NodeJS.Timeout | undefined;
  #starting: Promise<void> | undefined;
  readonly #spare: ArrayBuffer[] = [];
  #written = 0;
  #failed = 0;
  #lastError: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(settings: WorkerSettings, link: Link, queueMb: number, restartMs: number) {
    this.location = settings.path;
    this.#settings = settings;
    this.#queue = new Queue(queueMb * 2 ** 20);
    this.#restartMs = restartMs;
    this.#attach(link);
  }

  appendStep(record: StepRecord): void {
    this.#mustBeOpen();
    checkStep(record);
    const rows = record.targets.length;
    const buffer = this.#buffer(rows * packedRowBytes(stepFieldCount));
    const counts = new Float64Array(buffer, 0, rows * stepFieldCount);
    counts.set(record.arrivals);
    counts.set(record.admitted, rows);
    counts.set(record.denied, 2 * rows);
    counts.set(record.demandTokens, 3 * rows);
    counts.set(record.admittedTokens, 4 * rows);
    counts.set(record.readBytes, 5 * rows);
    counts.set(record.writeBytes, 6 * rows);
    counts.set(record.completions, 7 * rows);
    counts.set(record.durationNs, 8 * rows);
    const stepMs = Math.round(record.stepMs);
    this.#enqueue(
      { kind: 'step', timeMs: Math.floor(record.timeMs), stepMs, rows, buffer },
      record.targets,
      stepFieldCount,
    );
  }

  appendForecasts(record: ForecastRecord): void {
    this.#mustBeOpen();
    checkForecasts(record);
    const rows = record.targets.length;
    const buffer = this.#buffer(rows * packedRowBytes(forecastFieldCount));
    const values = new Float64Array(buffer, 0, rows * forecastFieldCount);
    values.set(record.q50);
    values.set(record.q90, rows);
    values.set(record.actual, 2 * rows);
    const timeMs = Math.floor(record.timeMs);
    const horizonMs = Math.round(record.horizonMs);
    const packed: PackedRecord = { kind: 'forecasts', timeMs, horizonMs, engine: record.engine, rows, buffer };
    this.#enqueue(packed, record.targets, forecastFieldCount);
  }

  appendDecisions(record: DecisionRecord): void {
    this.#mustBeOpen();
    checkDecisions(record);
    const { shape, fields, targets, values } = record;
    const rows = targets.length;
    const buffer = this.#buffer(rows * packedRowBytes(fields));
    new Float64Array(buffer, 0, rows * fields).set(values);
    const packed: PackedRecord = { kind: 'decisions', timeMs: Math.floor(record.timeMs), shape, fields, rows, buffer };
    this.#enqueue(packed, targets, fields);
  }

  async flush(): Promise<void> {
    this.#mustBeOpen();
    await this.#flush();
  }

  async series(target: string, resolution: Resolution, fromMs: number, toMs: number): Promise<SeriesPoint[]> {
    checkRange(fromMs, toMs);
    return unpackSeries(await this.#call('series', { target, resolution, fromMs, toMs }));
  }

  async recentDemand(steps: number, stepMs: number, toMs?: number, targets?: readonly string[]): Promise<DemandMatrix> {
    checkGrid(steps, stepMs, toMs);
    return this.#call('recentDemand', { steps, stepMs, toMs, targets });
  }

  async forecasts(target: string, fromMs: number, toMs: number): ReturnType<HistoryStore['forecasts']> {
    checkRange(fromMs, toMs);
    const { engines, rows } = await this.#call('forecasts', { target, fromMs, toMs });
    const found: Awaited<ReturnType<HistoryStore['forecasts']>> = [];
    for (let at = 0; at < rows.length; at += 6) {
      const [timeMs, horizonMs, engine, q50, q90, actual] = rows.subarray(at, at + 6) as Iterable<number> as number[];
      found.push({
        timeMs: timeMs!,
        horizonMs: horizonMs!,
        engine: engines[engine!] ?? '',
        q50: q50!,
        q90: q90!,
        actual: actual!,
      });
    }
    return found;
  }

  async decisions(target: string, fromMs: number, toMs: number): Promise<DecisionPoint[]> {
    checkRange(fromMs, toMs);
    const { shapes, rows } = await this.#call('decisions', { target, fromMs, toMs });
    const width = 2 + decisionColumns.length;
    return Array.from({ length: rows.length / width }, (_, i) => ({
      timeMs: rows[i * width]!,
      shape: shapes[rows[i * width + 1]!] ?? '',
      values: rows.slice(i * width + 2, (i + 1) * width),
    }));
  }

  async compact(): Promise<void> {
    await this.#call('compact', null);
  }

  health(): ReturnType<HistoryStore['health']> {
    const counts = {
      up: this.#link !== undefined && this.#closing === undefined,
      pending: this.#queue.records + this.#inFlight,
      written: this.#written,
      failed: this.#failed,
    };
    return this.#lastError === undefined ? counts : { ...counts, lastError: this.#lastError };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #mustBeOpen(): void {
    if (this.#closing !== undefined)
      throw new ForetokenError('CLOSED', `history ${this.location}: the store is closed`);
  }

  #buffer(bytes: number): ArrayBuffer {
    const at = this.#spare.findIndex((buffer) => buffer.byteLength >= bytes);
    return at < 0 ? new ArrayBuffer(bytes) : this.#spare.splice(at, 1)[0]!;
  }

  #enqueue(record: PackedRecord, targets: readonly string[], fields: number): void {
    if (this.#names.length > Math.max(namesBeforeReset, 4 * record.rows)) this.#names = new NameTable();
    this.#names.intern(targets, new Int32Array(record.buffer, record.rows * fields * 8, record.rows));
    const dropped = this.#queue.push({ record, names: this.#names, nameCount: this.#names.length });
    if (dropped.length > 0) {
      this.#failed += dropped.length;
      this.#lastError ??= `history ${this.location}: writing fell behind, the oldest records were dropped`;
      this.#recycle(dropped.map((entry) => entry.record.buffer));
    }
    this.#pumpSoon();
  }

  /** What is appended in one turn of the loop goes to the worker as one transaction. */
  #pumpSoon(): void {
    if (this.#pumpDue) return;
    this.#pumpDue = true;
    setImmediate(() => {
      this.#pumpDue = false;
      this.#pump();
    });
  }

  /** One batch at a time: whatever comes while it is written makes up the next. */
  #pump(): void {
    if (this.#inFlight > 0) return;
    for (let barrier = this.#queue.takeBarrier(); barrier !== undefined; barrier = this.#queue.takeBarrier()) {
      if (barrier.lost === 0) barrier.resolve();
      else
        barrier.reject(this.#unavailable(`${barrier.lost} records were lost: ${this.#lastError ?? 'no reason known'}`));
    }
    const link = this.#link;
    if (link?.isUp !== true || this.#queue.records === 0) return;
    const records = this.#queue.takeRecords().map((entry) => this.#withNames(entry));
    this.#inFlight = records.length;
    const buffers = records.map(({ buffer }) => buffer);
    link
      .call('append', records, buffers)
      .then(
        (returned) => {
          this.#written += records.length;
          this.#restarts = 0;
          this.#recycle(returned);
        },
        (error: Error) => {
          this.#failed += records.length;
          this.#lastError = error.message;
          this.#queue.lostInFlight(records.length);
        },
      )
      .finally(() => {
        this.#inFlight = 0;
        this.#pump();
      });
  }

  #withNames({ record, names, nameCount }: QueuedRecord): PackedRecord {
    const known = this.#sent?.names === names ? this.#sent.count : 0;
    const reset = this.#sent?.names !== names;
    this.#sent = { names, count: Math.max(known, nameCount) };
    if (!reset && nameCount <= known) return record;
    return { ...record, names: { reset, list: names.from(known).slice(0, nameCount - known) } };
  }

  #recycle(buffers: readonly ArrayBuffer[]): void {
    for (const buffer of buffers) if (this.#spare.length < spareBuffers) this.#spare.push(buffer);
  }

  #flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.pushBarrier({ lost: 0, resolve, reject });
      // Someone waits: the process must not end before the restart that answers them.
      this.#restartTimer?.ref();
      this.#pumpSoon();
    });
  }

  async #call<K extends CallName>(call: K, args: Calls[K]['args']): Promise<Calls[K]['answer']> {
    this.#mustBeOpen();
    const link = this.#link;
    if (link === undefined) throw this.#unavailable(this.#lastError ?? 'it is being opened again');
    return link.call(call, args);
  }

  #unavailable(reason: string): ForetokenError {
    return new ForetokenError('HISTORY_UNAVAILABLE', `history ${this.location}: ${reason}`);
  }

  #attach(link: Link): void {
    this.#link = link;
    this.#sent = undefined;
    link.onTrouble = (error) => {
      this.#lastError = error.message;
    };
    void link.gone.then((error) => {
      this.#link = undefined;
      if (error !== undefined) this.#lastError = error.message;
      if (this.#closing === undefined) this.#restartLater();
      else this.#rejectBarriers(this.#unavailable('the worker died while it was closed'));
    });
  }

  #restartLater(): void {
    const pauseMs = this.#restartMs * Math.min(longestRestart, 2 ** this.#restarts);
    this.#restarts += 1;
    this.#restartTimer = setTimeout(() => {
      this.#restartTimer = undefined;
      this.#starting = this.#restart();
    }, pauseMs);
    this.#restartTimer.unref();
  }

  async #restart(): Promise<void> {
    try {
      this.#attach(await Link.open(this.#settings));
      this.#pump();
    } catch (error) {
      this.#lastError = (error as Error).message;
      this.#rejectBarriers(error as Error);
      if (this.#closing === undefined) this.#restartLater();
    } finally {
      this.#starting = undefined;
    }
  }

  async #close(): Promise<void> {
    clearTimeout(this.#restartTimer);
    await this.#starting;
    const link = this.#link;
    if (link !== undefined) {
      await this.#flush().catch(() => undefined);
      const closed = link.call('close', null).catch(() => undefined);
      await inTime(Promise.all([closed, link.gone]), closeMs).catch((error: Error) => {
        link.abandon();
        throw error;
      });
    }
    while (this.#queue.dropOldest() !== undefined) this.#failed += 1;
    this.#rejectBarriers(this.#unavailable('it was closed'));
  }

  #rejectBarriers(error: Error): void {
    for (const barrier of this.#queue.takeBarriers()) barrier.reject(error);
  }
}

async function inTime(work: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ForetokenError('WORKER_FAILED', 'history: the worker thread did not end')),
      limitMs,
    );
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
