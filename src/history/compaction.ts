import type { DuckDBConnection } from '@duckdb/node-api';
import { expiryMs, foldedBelowMs, type Marks, nextMarks } from './clock.js';
import { type HistorySettings, keptNames } from './options.js';
import { coarser, pointMs, resolutions } from './resolution.js';
import { countColumns, tableOf } from './schema.js';
import type { Resolution } from './store.js';

/** How far a rollup has taken in the finer resolution: the rows below `timeMs` that arrived by `seq`. */
export interface Fold {
  timeMs: number;
  seq: number;
}
export type Folds = Record<keyof Marks, Fold>;

export const noFolds: Folds = {
  '10s': { timeMs: 0, seq: 0 },
  '1m': { timeMs: 0, seq: 0 },
  '1h': { timeMs: 0, seq: 0 },
};

/** The largest value of a step's demand as each table has it. */
export const largestDemand = (resolution: Resolution): string =>
  resolution === 'step' ? 'demand_tokens' : 'demand_tokens_max';

export const summed = countColumns.map((column) => `sum(${column})`).join(', ');

export const marksOf = (folds: Folds): Marks => ({
  '10s': folds['10s'].timeMs,
  '1m': folds['1m'].timeMs,
  '1h': folds['1h'].timeMs,
});

/**
 * Folds and deletes within the transaction that is open. Every row of a resolution is folded exactly
 * once: those folded before are the rows below the old mark that had arrived by its seq, and after it
 * the rows below the new mark that have arrived by now. Both parts of the difference are ranges of a
 * column that DuckDB can skip blocks by.
 * @param seq the last one used; the rows this adds get the ones after it
 * @returns the new marks and the last seq used
 */
export async function foldAndExpire(
  connection: DuckDBConnection,
  settings: HistorySettings,
  folds: Folds,
  nowMs: number,
  seq: number,
): Promise<{ folds: Folds; seq: number }> {
  const marks = nextMarks(marksOf(folds), nowMs);
  const next: Folds = { ...folds };
  let lastSeq = seq;
  for (const resolution of resolutions) {
    const into = coarser[resolution];
    if (into === undefined) continue;
    const mark = folds[into];
    const length = pointMs[into];
    const from = tableOf[resolution];
    await connection.run(`insert into ${tableOf[into]}
      select ${lastSeq + 1}, time_ms // ${length} * ${length} as point, target, ${summed}, max(${largestDemand(resolution)})
      from (
        select * from ${from} where time_ms >= ${mark.timeMs} and time_ms < ${marks[into]}
        union all
        select * from ${from} where time_ms < ${mark.timeMs} and seq > ${mark.seq}
      ) group by point, target order by point, target`);
    next[into] = { timeMs: marks[into], seq: lastSeq };
    lastSeq += 1;
  }
  const values = Object.entries(next).map(([name, { timeMs, seq: at }]) => `('${name}', ${timeMs}, ${at})`);
  await connection.run(`delete from marks; insert into marks values ${values.join(', ')}`);
  for (const kept of keptNames) {
    const table = tableOf[kept];
    const expired = expiryMs(kept, settings, marks, nowMs);
    if (expired > 0) await connection.run(`delete from ${table} where time_ms < ${whole(expired)}`);
    const cut = await cutForRows(connection, table, settings.maxRows[kept]);
    if (cut !== undefined) {
      await connection.run(`delete from ${table} where time_ms < ${whole(Math.min(cut, foldedBelowMs(kept, marks)))}`);
    }
  }
  return { folds: next, seq: lastSeq };
}

/** Targets that no row names any more. */
export const pruneTargets = `delete from targets where id not in (${keptNames
  .map((kept) => `select target from ${tableOf[kept]}`)
  .join(' union ')})`;

/** The time from which on at most `maxRows` rows lie; of the newest time all are kept. */
async function cutForRows(connection: DuckDBConnection, table: string, maxRows: number): Promise<number | undefined> {
  const first = async (sql: string): Promise<number | undefined> => {
    const value = (await connection.runAndReadAll(sql)).getRows()[0]?.[0];
    return typeof value === 'number' ? value : undefined;
  };
  const rows = await first(`select count(*)::double from ${table}`);
  if (rows === undefined || rows <= maxRows) return undefined;
  return first(`select coalesce(min(time_ms) filter (rows <= ${maxRows}), max(time_ms))::double
    from (select time_ms, sum(count(*)) over (order by time_ms desc) as rows from ${table} group by time_ms)`);
}

/** A time as SQL for comparing with whole numbers: `x < t` and `x < ceil(t)` are the same for those. */
export function whole(timeMs: number): string {
  return String(Math.ceil(Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, timeMs))));
}
