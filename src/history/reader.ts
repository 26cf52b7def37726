import type { DuckDBConnection, DuckDBDataChunk } from '@duckdb/node-api';
import { bindings } from './bindings.js';
import { type Folds, largestDemand, summed, whole } from './compaction.js';
import { DemandGrid } from './grid.js';
import { pointFieldCount } from './record.js';
import { coarser, firstPointFrom, pointMs, resolutions } from './resolution.js';
import { countColumns, decisionColumns, tableOf } from './schema.js';
import type { DemandMatrix, Resolution } from './store.js';

/**
 * Points of a target, packed as `unpackSeries` reads them. A rollup is completed by the finer rows
 * that were not folded yet, each of which lies in exactly one table in that state.
 */
export async function readSeries(
  connection: DuckDBConnection,
  folds: Folds,
  target: number,
  resolution: Resolution,
  fromMs: number,
  toMs: number,
): Promise<Float64Array> {
  const columns = countColumns.join(', ');
  const length = resolution === 'step' ? 1 : pointMs[resolution];
  const parts = [];
  for (const source of resolutions) {
    const into = coarser[source];
    const own = source === resolution;
    const fold = own || into === undefined ? undefined : folds[into];
    const unfolded = fold === undefined ? '' : `and (time_ms >= ${fold.timeMs} or seq > ${fold.seq})`;
    parts.push(`select time_ms // ${length} * ${length} as point, ${columns}, ${largestDemand(source)} as largest
      from ${tableOf[source]} where target = ${target}
      and time_ms >= ${whole(firstPointFrom(fromMs, length))} and time_ms < ${whole(firstPointFrom(toMs, length))} ${unfolded}`);
    if (own) break;
  }
  return readDoubles(
    connection,
    `select point::double, ${summed}, max(largest) from (${parts.join(' union all ')}) group by point order by point`,
    pointFieldCount,
  );
}

/** @param rows time, horizon, engine's number, q50, q90, actual, one after another */
export const readForecasts = (
  connection: DuckDBConnection,
  target: number,
  fromMs: number,
  toMs: number,
): Promise<Float64Array> =>
  readDoubles(
    connection,
    `select time_ms::double, horizon_ms::double, engine::double, q50, q90, actual from forecasts
     where target = ${target} and time_ms >= ${whole(fromMs)} and time_ms < ${whole(toMs)} order by time_ms, horizon_ms`,
    6,
  );

/** @param rows time, shape's number, then the numbers of the decision, one after another */
export const readDecisions = (
  connection: DuckDBConnection,
  target: number,
  fromMs: number,
  toMs: number,
): Promise<Float64Array> =>
  readDoubles(
    connection,
    `select time_ms::double, shape::double, ${decisionColumns.join(', ')} from decisions
     where target = ${target} and time_ms >= ${whole(fromMs)} and time_ms < ${whole(toMs)} order by time_ms`,
    2 + decisionColumns.length,
  );

export async function readRecentDemand(
  connection: DuckDBConnection,
  names: Map<number, string>,
  steps: number,
  stepMs: number,
  toMs?: number,
  targets?: readonly number[],
): Promise<DemandMatrix> {
  const [newest = 0, longest = 0] = await readDoubles(
    connection,
    'select coalesce(max(time_ms + step_ms), 0)::double, coalesce(max(step_ms), 0)::double from steps',
    2,
  );
  const endMs = toMs ?? newest;
  const grid = new DemandGrid(steps, stepMs, endMs);
  if (targets?.length === 0) return grid.matrix(String);
  const among = targets ? ` and target in (${targets.join(', ')})` : '';
  await scan(
    connection,
    `select time_ms::double, step_ms::double, target::double, demand_tokens from steps
     where time_ms >= ${whole(grid.fromMs - longest)} and time_ms < ${whole(endMs)}${among}`,
    (chunk, rows) => {
      const time = doublesOf(chunk, 0, rows);
      const step = doublesOf(chunk, 1, rows);
      const target = doublesOf(chunk, 2, rows);
      const demand = doublesOf(chunk, 3, rows);
      for (let row = 0; row < rows; row++) grid.add(target[row]!, time[row]!, step[row]!, demand[row]!);
    },
  );
  return grid.matrix((id) => names.get(id) ?? `#${id}`);
}

/** Rows of `width` columns of doubles, one after another. */
export async function readDoubles(connection: DuckDBConnection, sql: string, width: number): Promise<Float64Array> {
  const parts: Float64Array[] = [];
  let length = 0;
  await scan(connection, sql, (chunk, rows) => {
    const part = new Float64Array(rows * width);
    for (let column = 0; column < width; column++) {
      const values = doublesOf(chunk, column, rows);
      for (let row = 0; row < rows; row++) part[row * width + column] = values[row]!;
    }
    parts.push(part);
    length += part.length;
  });
  const all = new Float64Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Streams a result: its size is bounded by what the visitor keeps, and nothing is faster for millions of rows. */
async function scan(
  connection: DuckDBConnection,
  sql: string,
  visit: (chunk: DuckDBDataChunk, rows: number) => void,
): Promise<void> {
  const result = await connection.stream(sql);
  for (;;) {
    const chunk = await result.fetchChunk();
    const rows = chunk?.rowCount ?? 0;
    if (chunk === null || rows === 0) return;
    visit(chunk, rows);
  }
}

/** A column of doubles without nulls, as DuckDB holds it: valid as long as its chunk is. */
function doublesOf(chunk: DuckDBDataChunk, column: number, rows: number): Float64Array {
  const bytes = bindings.vector_get_data(bindings.data_chunk_get_vector(chunk.chunk, column), rows * 8);
  return new Float64Array(bytes.buffer, bytes.byteOffset, rows);
}
