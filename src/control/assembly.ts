import { join } from 'node:path';
import { ForecastEngine, type ResolvedForecasts } from '../forecast/engine.js';
import { openDuckDbHistory } from '../history/duckdb.js';
import { openMemoryHistory } from '../history/memory.js';
import type { DemandMatrix, HistoryStore } from '../history/store.js';
import type { ForetokenEvent, ResolvedOptions } from '../options.js';
import type { BucketTable } from '../table/table.js';
import type { ForecasterState } from './forecaster-state.js';
import type { Roster } from './roster.js';

/** Steps of history that warm the forecasters after a restart. */
const warmSteps = 600;
/** In a large table fewer, as each costs about 2 µs a target: the latest ones, within about 2 s. */
const warmTargetSteps = 600_000;
const leastWarmSteps = 30;
/** A state older than so many steps of history says less than the latest of them. */
const mostStepsSince = 3600;
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
    engine.learnFrom(async (steps, rows) => {
      const names = rows.map((row) => roster.names[row]).filter((name) => name !== undefined);
      const matrix = await history.recentDemand(steps, options.stepMs, undefined, names);
      return { matrix, rowOf: (name) => roster.slots.get(name) };
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

/** What forecasters begin with. */
export interface Warmed {
  /** Steps of history taken in. */
  steps: number;
  /** What was put back of an earlier controller's, if anything was: targets it knew, and those of them that are there. */
  restored?: { known: number; targets: number };
  /** Targets in the history that were not among that: they are to be warmed with it. */
  left: string[];
}

/**
 * Brings the forecasters to where the history left off: with what they were when their state was last kept, and the steps of
 * history since; without it with the latest steps alone. Once the targets are known, because a row is a target's slot in
 * this run's table.
 * @param onRefused told of a state that cannot be used; it is done without then
 */
export async function warmUp(
  { history, engine }: Parts,
  roster: Roster,
  stepMs: number,
  state: ForecasterState | undefined,
  shadows: { warm(matrix: DemandMatrix): void } | undefined,
  onRefused: (error: unknown) => void,
): Promise<Warmed> {
  const matrix = await history.recentDemand(stepsToWarm(roster.slots.size), stepMs);
  if (matrix.steps > 0) shadows?.warm(matrix);
  const rowOf = (name: string) => roster.slots.get(name);
  const stepsSince = (timeMs: number) =>
    matrix.steps === 0 ? 0 : Math.max(0, Math.round((matrix.timeMs - timeMs) / stepMs) + matrix.steps);
  const restored = await state
    ?.read(engine, rowOf, (timeMs) => stepsSince(timeMs) <= mostStepsSince)
    .catch((error: unknown) => void onRefused(error));
  const signal = AbortSignal.timeout(warmPatienceMs);
  const rows = [...roster.slots.values()].reduce((most, slot) => Math.max(most, slot + 1), 1);
  if (!restored) return { steps: await engine.warm(matrix, rowOf, { signal, rows }), left: [] };
  const left = matrix.targets.filter((name) => {
    const row = rowOf(name);
    return row !== undefined && !engine.knows(row);
  });
  const steps = Math.min(stepsSince(restored.timeMs), stepsToWarm(roster.slots.size));
  const since = withLeadingSteps(matrix, steps);
  await engine.warm(since, rowOf, { signal, rows, known: since.steps - steps });
  return { steps, restored, left };
}

/** A matrix begins with the first demand there was: here with nothing before that, so that it has so many steps. */
function withLeadingSteps(matrix: DemandMatrix, steps: number): DemandMatrix {
  const missing = steps - matrix.steps;
  if (missing <= 0) return matrix;
  const data = new Float32Array(steps * matrix.targets.length);
  data.set(matrix.data, missing * matrix.targets.length);
  return { ...matrix, timeMs: matrix.timeMs - missing * matrix.stepMs, steps, data };
}

/** Steps of history worth reading: the more targets, the fewer. */
export function stepsToWarm(targets: number): number {
  const affordable = Math.floor(warmTargetSteps / Math.max(1, targets));
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
