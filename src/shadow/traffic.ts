import type { NativeConstants } from '../table/native.js';
import type { Activity } from '../table/table.js';

/** Columns of a row of traffic. */
export const column = {
  slot: 0,
  arrivals: 1,
  /** Of them, those that mode `off` let pass. */
  unmetered: 2,
  demandTokens: 3,
  unmeteredTokens: 4,
  /** Not admitted: below 0 where more who had waited were admitted than others denied. */
  denied: 5,
  deniedTokens: 6,
  completions: 7,
  durationNs: 8,
} as const;
export const columns = 9;

/** What was asked of a table in a tick, and what became of it: a row for each slot in which anything happened. */
export interface Traffic {
  tickMs: number;
  rows: number;
  data: Float64Array;
}

/** Takes out of what was collected in a tick what shadows need to see. */
export function trafficOf({ rows, data }: Activity, c: NativeConstants['collect'], tickMs: number): Traffic {
  let active = 0;
  for (let slot = 1; slot < rows; slot++) if (isActive(data, slot * c.columns, c)) active++;
  const out = new Float64Array(active * columns);
  let to = 0;
  for (let slot = 1; slot < rows; slot++) {
    const at = slot * c.columns;
    if (!isActive(data, at, c)) continue;
    const demandTokens = data[at + c.demandTokens]!;
    const unmeteredTokens = data[at + c.unmeteredTokens]!;
    out[to + column.slot] = slot;
    out[to + column.arrivals] = data[at + c.arrivals]!;
    out[to + column.unmetered] = data[at + c.unmetered]!;
    out[to + column.demandTokens] = demandTokens;
    out[to + column.unmeteredTokens] = unmeteredTokens;
    out[to + column.denied] = data[at + c.denied]!;
    out[to + column.deniedTokens] = demandTokens - unmeteredTokens - data[at + c.admittedTokens]!;
    out[to + column.completions] = data[at + c.completions]!;
    out[to + column.durationNs] = data[at + c.durationNs]!;
    to += columns;
  }
  return { tickMs, rows: active, data: out };
}

const isActive = (data: Float64Array, at: number, c: NativeConstants['collect']): boolean =>
  data[at + c.arrivals] !== 0 ||
  data[at + c.demandTokens] !== 0 ||
  data[at + c.admittedTokens] !== 0 ||
  data[at + c.completions] !== 0;
