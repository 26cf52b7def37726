import { ForetokenError } from '../errors.js';
import { openDuckDbHistory } from '../history/duckdb.js';
import type { DemandMatrix, HistoryStore } from '../history/store.js';
import { type Lesson, recordedLessons } from './curriculum.js';
import type { DemandSeries } from './dataset.js';

/** As long as steps are kept by default. */
const longestMs = 6 * 3_600_000;
/** Targets learnt from at most: the busiest. */
const mostTargets = 256;
/** Fewer steps are not worth asking for. */
const leastSteps = 64;

/**
 * Lessons from the demand a history holds, at each length of step.
 * @param path the file; nothing in it is changed or deleted
 * @throws ForetokenError HISTORY_UNAVAILABLE
 */
export async function historyLessons(
  path: string,
  stepsMs: readonly number[],
  part: number,
  seed: number,
): Promise<Lesson[]> {
  const forEver = { step: Infinity, '10s': Infinity, '1m': Infinity, '1h': Infinity, forecasts: Infinity };
  await using history = await openDuckDbHistory({ path, retentionMs: forEver, compactEveryMs: 1e12 });
  const lessons: Lesson[] = [];
  for (const stepMs of stepsMs) {
    const matrix = await asMuchAsFits(history, stepMs);
    lessons.push(...recordedLessons(busiest(matrix, `history at ${stepMs / 1000} s`), part, seed));
  }
  return lessons;
}

/** With very many targets the whole time would not fit into a matrix: half of it, or a quarter, must do. */
async function asMuchAsFits(history: HistoryStore, stepMs: number): Promise<DemandMatrix> {
  for (let steps = Math.floor(longestMs / stepMs); ; steps >>= 1)
    try {
      return await history.recentDemand(steps, stepMs);
    } catch (error) {
      const tooLarge = error instanceof ForetokenError && error.code === 'INVALID_ARGUMENT';
      if (!tooLarge || steps < leastSteps) throw error;
    }
}

function busiest({ stepMs, steps, targets, data }: DemandMatrix, name: string): DemandSeries {
  const sums = new Float64Array(targets.length);
  data.forEach((demand, i) => {
    sums[i % targets.length]! += demand;
  });
  const columns = [...sums.keys()]
    .filter((column) => sums[column]! > 0)
    .sort((a, b) => sums[b]! - sums[a]! || a - b)
    .slice(0, mostTargets);
  const rows = columns.length;
  const chosen = new Float32Array(steps * rows);
  for (let step = 0; step < steps; step++)
    columns.forEach((column, row) => {
      chosen[step * rows + row] = data[step * targets.length + column]!;
    });
  return { name, stepMs, rows, steps: rows > 0 ? steps : 0, data: chosen };
}
