import { ForetokenError } from '../errors.js';
import { DataClock, expiryMs, foldedBelowMs, type Marks, nextMarks } from './clock.js';
import { checkGrid, DemandGrid } from './grid.js';
import { NameTable, pruneAfterNames } from './names.js';
import { type HistoryOptions, type HistorySettings, historySettings, type Kept, keptNames } from './options.js';
import {
  checkDecisions,
  checkForecasts,
  checkRange,
  checkStep,
  copyCounts,
  demandField,
  forecastFieldCount,
  pointFieldCount,
  stepFieldCount,
  unpackSeries,
} from './record.js';
import { pointMs } from './resolution.js';
import { type PointBlock, pointWidth, Rollup, type StepBlock } from './rollup.js';
import { decisionColumns } from './schema.js';
import { Slabs } from './slab.js';
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
import { type Block, Timeline } from './timeline.js';

/** Resolved forecasts of one engine and horizon: q50, q90 and what came, column after column. */
interface ForecastBlock extends Block {
  readonly horizonMs: number;
  readonly engine: string;
  readonly data: Float64Array;
}

/** Why targets got what they got: numbers, column after column. */
interface DecisionBlock extends Block {
  readonly shape: string;
  readonly data: Float64Array;
}

/**
 * A history in this thread's memory, gone when the process ends: for tests and replays. What it
 * answers is what the store on disk answers for the same records; it holds at most `maxRows` of each
 * kind (84 bytes a row, 300 of a decision) plus what comes between two compactions.
 * @throws ForetokenError INVALID_OPTION
 */
export async function openMemoryHistory(options: HistoryOptions = {}): Promise<HistoryStore> {
  return new MemoryHistory(historySettings(options, 1_000_000));
}

class MemoryHistory implements HistoryStore {
  readonly location = 'memory';
  readonly #settings: HistorySettings;
  readonly #clock = new DataClock();
  readonly #names = new NameTable();
  readonly #steps = new Timeline<StepBlock>();
  readonly #hours = new Rollup(pointMs['1h']);
  readonly #minutes = new Rollup(pointMs['1m'], this.#hours);
  readonly #tens = new Rollup(pointMs['10s'], this.#minutes);
  readonly #forecasts = new Timeline<ForecastBlock>();
  readonly #decisions = new Timeline<DecisionBlock>();
  #marks: Marks = { '10s': 0, '1m': 0, '1h': 0 };
  #namesAtPrune = 0;
  readonly #slabs = new Slabs();
  #scratch = new Int32Array(64);
  #lastIds = new Int32Array(0);
  #written = 0;
  #closed = false;

  constructor(settings: HistorySettings) {
    this.#settings = settings;
  }

  appendStep(record: StepRecord): void {
    this.#mustBeOpen();
    checkStep(record);
    const rows = record.targets.length;
    const ids = this.#idsOf(record.targets);
    const data = this.#slabs.take(rows * stepFieldCount);
    copyCounts(data, 0, record.arrivals);
    copyCounts(data, rows, record.admitted);
    copyCounts(data, 2 * rows, record.denied);
    copyCounts(data, 3 * rows, record.demandTokens);
    copyCounts(data, 4 * rows, record.admittedTokens);
    copyCounts(data, 5 * rows, record.readBytes);
    copyCounts(data, 6 * rows, record.writeBytes);
    copyCounts(data, 7 * rows, record.completions);
    copyCounts(data, 8 * rows, record.durationNs);
    const block: StepBlock = { timeMs: Math.floor(record.timeMs), stepMs: Math.round(record.stepMs), ids, data };
    this.#steps.insert(block);
    this.#tens.addStep(block);
    this.#appended(block.timeMs, block.stepMs, rows);
  }

  appendForecasts(record: ForecastRecord): void {
    this.#mustBeOpen();
    checkForecasts(record);
    const rows = record.targets.length;
    const ids = this.#idsOf(record.targets);
    const data = this.#slabs.take(rows * forecastFieldCount);
    copyCounts(data, 0, record.q50);
    copyCounts(data, rows, record.q90);
    copyCounts(data, 2 * rows, record.actual);
    const timeMs = Math.floor(record.timeMs);
    this.#forecasts.insert({ timeMs, horizonMs: Math.round(record.horizonMs), engine: record.engine, ids, data });
    this.#appended(timeMs, 0, rows);
  }

  appendDecisions(record: DecisionRecord): void {
    this.#mustBeOpen();
    checkDecisions(record);
    const { shape, values } = record;
    const timeMs = Math.floor(record.timeMs);
    this.#decisions.insert({ timeMs, shape, ids: this.#idsOf(record.targets), data: values.slice() });
    this.#appended(timeMs, 0, record.targets.length);
  }

  async flush(): Promise<void> {
    this.#mustBeOpen();
  }

  async series(target: string, resolution: Resolution, fromMs: number, toMs: number): Promise<SeriesPoint[]> {
    this.#mustBeOpen();
    checkRange(fromMs, toMs);
    const id = this.#names.find(target);
    if (id === undefined) return [];
    if (resolution === 'step') return unpackSeries(this.#stepSeries(id, fromMs, toMs));
    this.#settle();
    return unpackSeries(pointSeries(this.#rollup(resolution).timeline.range(fromMs, toMs), id));
  }

  async recentDemand(steps: number, stepMs: number, toMs?: number, targets?: readonly string[]): Promise<DemandMatrix> {
    this.#mustBeOpen();
    checkGrid(steps, stepMs, toMs);
    const wanted = targets && new Set(targets.map((target) => this.#names.find(target)));
    let endMs = Number.NEGATIVE_INFINITY;
    let longestMs = 0;
    for (const block of this.#steps.all()) {
      endMs = Math.max(endMs, block.timeMs + block.stepMs);
      longestMs = Math.max(longestMs, block.stepMs);
    }
    const grid = new DemandGrid(steps, stepMs, toMs ?? Math.max(endMs, 0));
    for (const block of this.#steps.range(grid.fromMs - longestMs, toMs ?? Number.POSITIVE_INFINITY)) {
      const { ids, data, timeMs } = block;
      const demand = demandField * ids.length;
      for (let row = 0; row < ids.length; row++)
        if (!wanted || wanted.has(ids[row]!)) grid.add(ids[row]!, timeMs, block.stepMs, data[demand + row]!);
    }
    return grid.matrix((id) => this.#names.nameOf(id));
  }

  async forecasts(target: string, fromMs: number, toMs: number): ReturnType<HistoryStore['forecasts']> {
    this.#mustBeOpen();
    checkRange(fromMs, toMs);
    const id = this.#names.find(target);
    const found: Awaited<ReturnType<HistoryStore['forecasts']>> = [];
    if (id === undefined) return found;
    for (const { timeMs, horizonMs, engine, ids, data } of this.#forecasts.range(fromMs, toMs)) {
      const rows = ids.length;
      for (let row = ids.indexOf(id); row >= 0; row = ids.indexOf(id, row + 1)) {
        const [q50, q90, actual] = [data[row]!, data[rows + row]!, data[2 * rows + row]!];
        found.push({ timeMs, horizonMs, engine, q50, q90, actual });
      }
    }
    return found.sort((a, b) => a.timeMs - b.timeMs || a.horizonMs - b.horizonMs);
  }

  async decisions(target: string, fromMs: number, toMs: number): Promise<DecisionPoint[]> {
    this.#mustBeOpen();
    checkRange(fromMs, toMs);
    const id = this.#names.find(target);
    const found: DecisionPoint[] = [];
    if (id === undefined) return found;
    for (const { timeMs, shape, ids, data } of this.#decisions.range(fromMs, toMs)) {
      const rows = ids.length;
      for (let row = ids.indexOf(id); row >= 0; row = ids.indexOf(id, row + 1)) {
        const values = new Float64Array(decisionColumns.length).fill(Number.NaN);
        for (let field = 0; field < data.length / rows; field++) values[field] = data[field * rows + row]!;
        found.push({ timeMs, shape, values });
      }
    }
    return found;
  }

  async compact(): Promise<void> {
    this.#mustBeOpen();
    this.#compact();
  }

  health(): ReturnType<HistoryStore['health']> {
    return { up: !this.#closed, pending: 0, written: this.#written, failed: 0 };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new ForetokenError('CLOSED', 'history: the store is closed');
  }

  /** Numbers of the targets; records that name the same targets share them. */
  #idsOf(targets: readonly string[]): Int32Array {
    if (this.#scratch.length < targets.length) this.#scratch = new Int32Array(2 * targets.length);
    this.#names.intern(targets, this.#scratch);
    const last = this.#lastIds;
    let same = last.length === targets.length;
    for (let i = 0; same && i < last.length; i++) same = last[i] === this.#scratch[i];
    if (!same) this.#lastIds = this.#scratch.slice(0, targets.length);
    return this.#lastIds;
  }

  #appended(timeMs: number, lengthMs: number, rows: number): void {
    this.#written += 1;
    this.#clock.advance(timeMs, lengthMs, rows);
    if (this.#clock.isCompactionDue(this.#settings.compactEveryMs)) this.#compact();
  }

  #compact(): void {
    this.#clock.compacted();
    const nowMs = this.#clock.nowMs;
    if (nowMs === undefined) return;
    this.#settle();
    this.#marks = nextMarks(this.#marks, nowMs);
    for (const kept of keptNames) {
      const timeline = this.#timelineOf(kept);
      timeline.dropBefore(expiryMs(kept, this.#settings, this.#marks, nowMs));
      const cut = timeline.cutForRows(this.#settings.maxRows[kept]);
      timeline.dropBefore(Math.min(cut, foldedBelowMs(kept, this.#marks)));
    }
    if (this.#names.created - this.#namesAtPrune >= pruneAfterNames) this.#pruneNames();
  }

  /** Closes open points from fine to coarse: each hands its sums on. */
  #settle(): void {
    this.#tens.settle();
    this.#minutes.settle();
    this.#hours.settle();
  }

  #pruneNames(): void {
    const used = new Uint8Array(this.#names.length);
    for (const kept of keptNames) {
      for (const block of this.#timelineOf(kept).all()) for (const id of block.ids) used[id] = 1;
    }
    this.#names.keepOnly(used);
    this.#namesAtPrune = this.#names.created;
  }

  #rollup(resolution: Exclude<Resolution, 'step'>): Rollup {
    return resolution === '10s' ? this.#tens : resolution === '1m' ? this.#minutes : this.#hours;
  }

  #timelineOf(
    kept: Kept,
  ): Timeline<StepBlock> | Timeline<PointBlock> | Timeline<ForecastBlock> | Timeline<DecisionBlock> {
    if (kept === 'step') return this.#steps;
    if (kept === 'decisions') return this.#decisions;
    return kept === 'forecasts' ? this.#forecasts : this.#rollup(kept).timeline;
  }

  /** Records of one time and target are one point, as they are in every rollup. */
  #stepSeries(id: number, fromMs: number, toMs: number): Float64Array {
    const packed: number[] = [];
    let at = -1;
    for (const { timeMs, ids, data } of this.#steps.range(fromMs, toMs)) {
      const rows = ids.length;
      for (let row = ids.indexOf(id); row >= 0; row = ids.indexOf(id, row + 1)) {
        if (at < 0 || packed[at] !== timeMs) {
          at = packed.length;
          packed.push(timeMs, ...new Array<number>(pointFieldCount - 1).fill(0));
        }
        for (let field = 0; field < stepFieldCount; field++) packed[at + 1 + field]! += data[field * rows + row]!;
        const last = at + pointFieldCount - 1;
        packed[last] = Math.max(packed[last]!, data[demandField * rows + row]!);
      }
    }
    return Float64Array.from(packed);
  }
}

function pointSeries(blocks: readonly PointBlock[], id: number): Float64Array {
  const packed: number[] = [];
  for (const { timeMs, ids, data } of blocks) {
    const row = ids.indexOf(id);
    if (row >= 0) packed.push(timeMs, ...data.subarray(row * pointWidth, (row + 1) * pointWidth));
  }
  return Float64Array.from(packed);
}
