import { join } from 'node:path';
import { ForecastEngine, type ResolvedForecasts } from '../forecast/engine.js';
import { openDuckDbHistory } from '../history/duckdb.js';
import { openMemoryHistory } from '../history/memory.js';
import type { DemandMatrix, HistoryStore } from '../history/store.js';
import type { ForetokenEvent, ResolvedOptions } from '../options.js';
import type { BucketTable } from '../table/table.js';
import type { Roster } from './roster.js';

/** Steps of history that warm the forecasters after a restart. */
const warmSteps = 600;
/** In a large table fewer, as each costs about 2 µs a target: the latest ones, within about 2 s. */
const warmTargetSteps = 600_000;
const leastWarmSteps = 30;
/** How long that may take; what has been taken in by then must do. */
const warmPatienceMs = 10_000;

export interface Parts {
  history: HistoryStore;
  engine: ForecastEngine;
  /** Closes both. */
  close: () => Promise<void>;
}

/**
 * Opens what the loop works with: history and forecasters. What has been forecast and what came is stored as
 * it is resolved.
 * @throws ForetokenError HISTORY_UNAVAILABLE
 */
export async function openParts(
  options: Omit<ResolvedOptions, 'cost' | 'onEvent'>,
  table: BucketTable,
  roster: Roster,
  onEvent: (event: ForetokenEvent) => void,
): Promise<Parts> {
  const history =
    options.history === 'memory'
      ? await openMemoryHistory()
      : await openDuckDbHistory({ path: join(options.history.path, 'history.duckdb') });
  try {
    const engine = await ForecastEngine.open({
      rows: table.capacity + 1,
      stepMs: options.stepMs,
      horizonsMs: options.horizonsMs,
      engine: options.engine,
      refine: options.refine,
      refineCpuPart: options.refineCpuPart,
      seed: options.seed,
      ...(options.modelPath === undefined ? {} : { modelPath: options.modelPath }),
      ...(options.history === 'memory' ? {} : { refinedFolder: join(options.history.path, 'models') }),
      onEvent: ({ kind, message }) => onEvent({ kind, message, timeMs: Date.now() }),
      onResolved: (resolved) => storeResolved(history, roster, resolved, options.stepMs),
    });
    return {
      history,
      engine,
      close: async () => {
        try {
          await engine.close();
        } finally {
          await history.close();
        }
      },
    };
  } catch (error) {
    await history.close();
    throw error;
  }
}

/**
 * Brings the forecasters to where the history left off. Once the targets are known, because a row is a
 * target's slot in this run's table.
 */
export async function warmUp(
  parts: Parts,
  roster: Roster,
  stepMs: number,
  shadows?: { warm(matrix: DemandMatrix): void },
): Promise<number> {
  const matrix = await parts.history.recentDemand(stepsToWarm(roster), stepMs);
  if (matrix.steps === 0) return 0;
  shadows?.warm(matrix);
  return parts.engine.warm(matrix, (name) => roster.slots.get(name), AbortSignal.timeout(warmPatienceMs));
}

/** Steps of history worth reading: the more targets, the fewer. */
export function stepsToWarm(roster: Roster): number {
  const affordable = Math.floor(warmTargetSteps / Math.max(1, roster.slots.size));
  return Math.min(warmSteps, Math.max(leastWarmSteps, affordable));
}

function storeResolved(history: HistoryStore, roster: Roster, resolved: ResolvedForecasts, stepMs: number): void {
  const { rows, engines } = resolved;
  const madeMs = Date.now() - resolved.steps * stepMs;
  engines.forEach((engine, index) => {
    const places: number[] = [];
    rows.forEach((slot, i) => {
      // Nothing forecast and nothing came: there is nothing to learn from.
      const silent = resolved.q90[i] === 0 && resolved.actual[i] === 0;
      if (slot > 0 && resolved.engine[i] === index && roster.live[slot] && !silent) places.push(i);
    });
    if (places.length === 0) return;
    const pick = (values: Float64Array) => Float64Array.from(places, (i) => values[i]!);
    history.appendForecasts({
      timeMs: madeMs,
      horizonMs: resolved.horizonMs,
      engine,
      targets: places.map((i) => roster.names[rows[i]!]!),
      q50: pick(resolved.q50),
      q90: pick(resolved.q90),
      actual: pick(resolved.actual),
    });
  });
}
