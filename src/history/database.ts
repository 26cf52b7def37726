import { DataClock } from './clock.js';
import { type Folds, foldAndExpire, noFolds, pruneTargets } from './compaction.js';
import { type HistoryFile, openHistoryFile, reasonOf, unavailable } from './file.js';
import { pruneAfterNames } from './names.js';
import type { Calls, PackedRecord, WorkerSettings } from './protocol.js';
import { readDecisions, readDoubles, readForecasts, readRecentDemand, readSeries } from './reader.js';
import { Writer } from './writer.js';

/** The history as the worker has it: one connection, one call at a time. */
export class Database {
  readonly #settings: WorkerSettings;
  readonly #file: HistoryFile;
  readonly #writer: Writer;
  readonly #clock: DataClock;
  #folds: Folds;
  /** The last batch number given out. Numbers never come again, also after a restart. */
  #seq: number;

  /** @throws ForetokenError HISTORY_UNAVAILABLE */
  static async open(settings: WorkerSettings): Promise<Database> {
    const file = await openHistoryFile(settings);
    const { connection } = file;
    try {
      const writer = await Writer.open(connection);
      const folds: Folds = { ...noFolds };
      const marks = await connection.runAndReadAll('select rollup, time_ms::double, seq::double from marks');
      for (const [rollup, timeMs, seq] of marks.getRows()) {
        folds[rollup as keyof Folds] = { timeMs: Number(timeMs), seq: Number(seq) };
      }
      const tables = ['steps', 'rollup_10s', 'rollup_1m', 'rollup_1h', 'marks'];
      const [seq = 0] = await readDoubles(
        connection,
        `select coalesce(max(last), 0)::double from (${tables.map((t) => `select max(seq) as last from ${t}`).join(' union all ')})`,
        1,
      );
      const [clock] = await readDoubles(connection, "select value::double from meta where key = 'clock_ms'", 1);
      return new Database(settings, file, writer, new DataClock(clock), folds, seq);
    } catch (error) {
      closeQuietly(file);
      throw unavailable(settings.path, reasonOf(error), error);
    }
  }

  private constructor(
    settings: WorkerSettings,
    file: HistoryFile,
    writer: Writer,
    clock: DataClock,
    folds: Folds,
    seq: number,
  ) {
    this.#settings = settings;
    this.#file = file;
    this.#writer = writer;
    this.#clock = clock;
    this.#folds = folds;
    this.#seq = seq;
  }

  async append(records: PackedRecord[]): Promise<ArrayBuffer[]> {
    this.#writer.learn(records);
    await this.#writer.append(records, this.#seq + 1);
    this.#seq += 1;
    for (const record of records) {
      this.#clock.advance(record.timeMs, record.kind === 'step' ? record.stepMs : 0, record.rows);
    }
    return records.map(({ buffer }) => buffer);
  }

  get compactionDue(): boolean {
    return this.#clock.isCompactionDue(this.#settings.compactEveryMs);
  }

  async compact(): Promise<void> {
    this.#clock.compacted();
    const nowMs = this.#clock.nowMs;
    if (nowMs === undefined) return;
    const { connection } = this.#file;
    const prune = this.#writer.createdTargets >= pruneAfterNames;
    const { folds, seq } = await this.#transaction(async () => {
      const folded = await foldAndExpire(connection, this.#settings, this.#folds, nowMs, this.#seq);
      await connection.run(`delete from meta where key = 'clock_ms'; insert into meta values ('clock_ms', '${nowMs}')`);
      if (prune) await connection.run(pruneTargets);
      return folded;
    });
    this.#folds = folds;
    this.#seq = seq;
    if (prune) {
      this.#writer.pruned();
      await this.#writer.loadNames();
    }
  }

  async series({ target, resolution, fromMs, toMs }: Calls['series']['args']): Promise<Float64Array> {
    const id = this.#writer.targetId(target);
    if (id === undefined) return new Float64Array(0);
    return readSeries(this.#file.connection, this.#folds, id, resolution, fromMs, toMs);
  }

  recentDemand(args: Calls['recentDemand']['args']): Promise<Calls['recentDemand']['answer']> {
    const { steps, stepMs, toMs, targets } = args;
    const ids = targets?.map((target) => this.#writer.targetId(target)).filter((id) => id !== undefined);
    return readRecentDemand(this.#file.connection, this.#writer.targetNames(), steps, stepMs, toMs, ids);
  }

  async forecasts({ target, fromMs, toMs }: Calls['forecasts']['args']): Promise<Calls['forecasts']['answer']> {
    const id = this.#writer.targetId(target);
    if (id === undefined) return { engines: {}, rows: new Float64Array(0) };
    return {
      engines: this.#writer.engineNames(),
      rows: await readForecasts(this.#file.connection, id, fromMs, toMs),
    };
  }

  async decisions({ target, fromMs, toMs }: Calls['decisions']['args']): Promise<Calls['decisions']['answer']> {
    const id = this.#writer.targetId(target);
    if (id === undefined) return { shapes: {}, rows: new Float64Array(0) };
    return {
      shapes: this.#writer.shapeNames(),
      rows: await readDecisions(this.#file.connection, id, fromMs, toMs),
    };
  }

  /** False once DuckDB has given up on the file, which it does when a checkpoint fails. */
  async isUsable(): Promise<boolean> {
    try {
      await this.#file.connection.run('select count(*) from meta');
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    try {
      this.#writer.close();
    } finally {
      this.#file.close();
    }
  }

  async #transaction<T>(work: () => Promise<T>): Promise<T> {
    const { connection } = this.#file;
    await connection.run('begin');
    try {
      const done = await work();
      await connection.run('commit');
      return done;
    } catch (error) {
      await connection.run('rollback').catch(() => undefined);
      throw error;
    }
  }
}

function closeQuietly(file: HistoryFile): void {
  try {
    file.close();
  } catch {
    // What made the opening fail is what is reported.
  }
}
