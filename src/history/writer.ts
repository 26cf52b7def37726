import type { DuckDBAppender, DuckDBConnection, DuckDBDataChunk, DuckDBType } from '@duckdb/node-api';
import { bindings, duckdb } from './bindings.js';
import type { PackedRecord } from './protocol.js';
import { copyCounts, forecastFieldCount, stepFieldCount } from './record.js';
import { countColumns, decisionColumns } from './schema.js';

const { BIGINT, DOUBLE, INTEGER } = duckdb;

/** Most rows a data chunk of DuckDB holds. */
const chunkRows = 2048;

const stepTypes: readonly DuckDBType[] = [BIGINT, BIGINT, BIGINT, INTEGER, ...countColumns.map(() => DOUBLE)];
const forecastTypes: readonly DuckDBType[] = [BIGINT, BIGINT, INTEGER, INTEGER, DOUBLE, DOUBLE, DOUBLE];
const decisionTypes: readonly DuckDBType[] = [BIGINT, INTEGER, INTEGER, ...decisionColumns.map(() => DOUBLE)];

interface Appenders {
  targets: DuckDBAppender;
  engines: DuckDBAppender;
  shapes: DuckDBAppender;
  decisions: DuckDBAppender;
  steps: DuckDBAppender;
  forecasts: DuckDBAppender;
}

/** Appends records, and keeps the numbers that targets, engines and shapes have in the file. */
export class Writer {
  readonly #connection: DuckDBConnection;
  readonly #appenders: Appenders;
  readonly #stepChunk = duckdb.DuckDBDataChunk.create(stepTypes);
  readonly #forecastChunk = duckdb.DuckDBDataChunk.create(forecastTypes);
  readonly #targets = new Map<string, number>();
  readonly #decisionChunk = duckdb.DuckDBDataChunk.create(decisionTypes);
  readonly #engines = new Map<string, number>();
  readonly #shapes = new Map<string, number>();
  #lastTarget = 0;
  #created = 0;
  /** The caller's number of a target to its name and to its number in the file; 0 while it has none. */
  #names: string[] = [];
  #ids: number[] = [];

  static async open(connection: DuckDBConnection): Promise<Writer> {
    const writer = new Writer(connection, {
      targets: await connection.createAppender('targets'),
      engines: await connection.createAppender('engines'),
      shapes: await connection.createAppender('shapes'),
      decisions: await connection.createAppender('decisions'),
      steps: await connection.createAppender('steps'),
      forecasts: await connection.createAppender('forecasts'),
    });
    await writer.loadNames();
    writer.#created = writer.#targets.size;
    return writer;
  }

  private constructor(connection: DuckDBConnection, appenders: Appenders) {
    this.#connection = connection;
    this.#appenders = appenders;
  }

  /** Targets made since they were last pruned; those found on opening count too. */
  get createdTargets(): number {
    return this.#created;
  }

  targetId(name: string): number | undefined {
    return this.#targets.get(name);
  }

  /** Names by their numbers in the file. */
  targetNames(): Map<number, string> {
    return new Map([...this.#targets].map(([name, id]) => [id, name]));
  }

  engineNames(): Record<number, string> {
    return Object.fromEntries([...this.#engines].map(([name, id]) => [id, name]));
  }

  shapeNames(): Record<number, string> {
    return Object.fromEntries([...this.#shapes].map(([name, id]) => [id, name]));
  }

  /** Takes note of the caller's names. Must see every record in order, also those that fail to be written. */
  learn(records: readonly PackedRecord[]): void {
    for (const { names } of records) {
      if (names === undefined) continue;
      if (names.reset) {
        this.#names = [];
        this.#ids = [];
      }
      for (const name of names.list) {
        this.#names.push(name);
        this.#ids.push(this.#targets.get(name) ?? 0);
      }
    }
  }

  /** Writes records in one transaction: all of them or none. */
  async append(records: readonly PackedRecord[], seq: number): Promise<void> {
    await this.#connection.run('begin');
    try {
      for (const record of records) {
        if (record.kind === 'step') this.#appendStep(record, BigInt(seq));
        else if (record.kind === 'forecasts') this.#appendForecasts(record);
        else this.#appendDecisions(record);
      }
      for (const appender of this.#all()) appender.flushSync();
      await this.#connection.run('commit');
    } catch (error) {
      // An appender keeps what it failed to write and would write it with the next batch.
      for (const appender of this.#all()) appender.clear();
      await this.#connection.run('rollback').catch(() => undefined);
      await this.loadNames().catch(() => undefined);
      throw error;
    }
  }

  /** Reads the names anew: after a rollback, or when some were deleted. */
  async loadNames(): Promise<void> {
    this.#targets.clear();
    this.#engines.clear();
    this.#shapes.clear();
    const load = async (table: string, into: Map<string, number>): Promise<void> => {
      const rows = await this.#connection.runAndReadAll(`select name, id from ${table} order by id`);
      for (const [name, id] of rows.getRows()) into.set(String(name), Number(id));
    };
    await load('targets', this.#targets);
    await load('engines', this.#engines);
    await load('shapes', this.#shapes);
    for (const id of this.#targets.values()) this.#lastTarget = Math.max(this.#lastTarget, id);
    this.#ids = this.#names.map((name) => this.#targets.get(name) ?? 0);
  }

  pruned(): void {
    this.#created = 0;
  }

  close(): void {
    for (const appender of this.#all()) appender.closeSync();
  }

  #all(): DuckDBAppender[] {
    const { targets, engines, shapes, steps, forecasts, decisions } = this.#appenders;
    return [targets, engines, shapes, steps, forecasts, decisions];
  }

  #appendStep(record: PackedRecord & { kind: 'step' }, seq: bigint): void {
    const { rows, buffer, timeMs, stepMs } = record;
    const counts = new Float64Array(buffer, 0, rows * stepFieldCount);
    copyCounts(counts, 0, counts);
    const targets = this.#targetColumn(buffer, stepFieldCount, rows);
    const columns: Column[] = [seq, BigInt(timeMs), BigInt(stepMs), targets];
    for (let field = 0; field < stepFieldCount; field++)
      columns.push(counts.subarray(field * rows, (field + 1) * rows));
    appendColumns(this.#appenders.steps, this.#stepChunk, rows, columns);
  }

  #appendForecasts(record: PackedRecord & { kind: 'forecasts' }): void {
    const { rows, buffer, timeMs, horizonMs } = record;
    const values = new Float64Array(buffer, 0, rows * forecastFieldCount);
    copyCounts(values, 0, values);
    const targets = this.#targetColumn(buffer, forecastFieldCount, rows);
    const columns: Column[] = [
      BigInt(timeMs),
      BigInt(horizonMs),
      numberOf(record.engine, this.#engines, this.#appenders.engines),
      targets,
    ];
    for (let field = 0; field < forecastFieldCount; field++)
      columns.push(values.subarray(field * rows, (field + 1) * rows));
    appendColumns(this.#appenders.forecasts, this.#forecastChunk, rows, columns);
  }

  #appendDecisions(record: PackedRecord & { kind: 'decisions' }): void {
    const { rows, buffer, timeMs, fields } = record;
    const values = new Float64Array(buffer, 0, rows * fields);
    const targets = this.#targetColumn(buffer, fields, rows);
    const shape = numberOf(record.shape, this.#shapes, this.#appenders.shapes);
    const none = new Float64Array(rows).fill(Number.NaN);
    const columns: Column[] = [BigInt(timeMs), shape, targets];
    for (let field = 0; field < decisionColumns.length; field++)
      columns.push(field < fields ? values.subarray(field * rows, (field + 1) * rows) : none);
    appendColumns(this.#appenders.decisions, this.#decisionChunk, rows, columns);
  }

  /** The targets' numbers in the file, in place of the caller's; new targets get one. */
  #targetColumn(buffer: ArrayBuffer, fields: number, rows: number): Int32Array {
    const callers = new Int32Array(buffer, rows * fields * 8, rows);
    const ids = new Int32Array(rows);
    for (let row = 0; row < rows; row++) {
      const caller = callers[row]!;
      ids[row] = this.#ids[caller] || this.#createTarget(caller);
    }
    return ids;
  }

  #createTarget(caller: number): number {
    const name = this.#names[caller];
    if (name === undefined) throw new RangeError(`no name was sent for target ${caller}`);
    let id = this.#targets.get(name);
    if (id === undefined) {
      id = ++this.#lastTarget;
      this.#created += 1;
      this.#targets.set(name, id);
      appendName(this.#appenders.targets, id, name);
    }
    this.#ids[caller] = id;
    return id;
  }
}

/** The number of one of few names; a new one is written down. */
function numberOf(name: string, known: Map<string, number>, appender: DuckDBAppender): number {
  let id = known.get(name);
  if (id === undefined) {
    id = known.size + 1;
    known.set(name, id);
    appendName(appender, id, name);
  }
  return id;
}

/** One value for all rows, or one for each. */
type Column = bigint | number | Float64Array | Int32Array;

/** Columns as DuckDB holds them: whole numbers of 64 or 32 bits, or doubles. */
function filledChunk(value: bigint | number): BigInt64Array | Int32Array {
  return typeof value === 'bigint' ? new BigInt64Array(chunkRows).fill(value) : new Int32Array(chunkRows).fill(value);
}

function appendColumns(
  appender: DuckDBAppender,
  chunk: DuckDBDataChunk,
  rows: number,
  columns: readonly Column[],
): void {
  const sources = columns.map((column) =>
    typeof column === 'object' ? { values: column, moves: true } : { values: filledChunk(column), moves: false },
  );
  for (let from = 0; from < rows; from += chunkRows) {
    const count = Math.min(chunkRows, rows - from);
    chunk.reset();
    chunk.rowCount = count;
    sources.forEach(({ values, moves }, index) => {
      const vector = bindings.data_chunk_get_vector(chunk.chunk, index);
      const width = values.BYTES_PER_ELEMENT;
      const start = values.byteOffset + (moves ? from * width : 0);
      bindings.copy_data_to_vector(vector, 0, values.buffer as ArrayBuffer, start, count * width);
    });
    appender.appendDataChunk(chunk);
  }
}

function appendName(appender: DuckDBAppender, id: number, name: string): void {
  appender.appendInteger(id);
  appender.appendVarchar(name);
  appender.endRow();
}
