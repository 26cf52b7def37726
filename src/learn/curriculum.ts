import { type Behaviour, behaviours, furtherBehaviours, Workload } from '../workload/generator.js';
import type { Trace } from '../workload/trace.js';
import { binRequests, type DemandSeries, PreparedSeries } from './dataset.js';
import { Random } from './random.js';

/** A series to learn from, and how it is divided by time. */
export interface Lesson {
  name: string;
  /** Recorded as it is, so that scores on what is left of it mean something to people. */
  recorded: boolean;
  prepared: PreparedSeries;
  /** Learnt from are the steps before this. */
  trainEnd: number;
  /** Training watches the steps from `trainEnd` to here to know when to stop; what lies after is untouched. */
  validateEnd: number;
  /** How often it is drawn, against the others. */
  weight: number;
}

/** Part of what may be learnt from that is kept for watching. */
const validatePart = 0.2;
/** How often all the lessons of one trace together are drawn; a generated workload counts a half. Traces count alike. */
const traceWeight = 5;
/** Fewer steps than this, in the part that may be learnt from, hold no window with targets. */
export const minSteps = 60;

/**
 * A trace at several lengths of step. With enough targets there is also a version with its targets thrown together
 * by four: what a host that serves several of them sees.
 * @param part part of the duration, from its start, that may be learnt from
 */
export function traceLessons(
  trace: Trace,
  name: string,
  stepsMs: readonly number[],
  part: number,
  seed: number,
): Lesson[] {
  return stepsMs.flatMap((stepMs) => {
    if (trace.binMs && stepMs < trace.binMs) return [];
    return recordedLessons(
      binRequests(trace, { name: `${name} at ${stepMs / 1000} s`, stepMs, durationMs: trace.durationMs }),
      part,
      seed,
    );
  });
}

/** Lessons of one recorded series: as it is, and with its targets thrown together. None if it is too short. */
export function recordedLessons(series: DemandSeries, part: number, seed: number): Lesson[] {
  const known = Math.floor(series.steps * part);
  if (known < minSteps) return [];
  const lessons = [lesson(series, known, 1, true)];
  if (series.rows >= 8) lessons.push(lesson(together(series, Math.ceil(series.rows / 4), seed), known, 0.5, false));
  return lessons;
}

/** Weighs the lessons of one trace so that it counts as much as any other. */
export function weighAsOne(lessons: Lesson[]): Lesson[] {
  const total = lessons.reduce((sum, { weight }) => sum + weight, 0);
  return lessons.map((each) => ({ ...each, weight: (each.weight * traceWeight) / total }));
}

const lesson = (series: DemandSeries, known: number, weight: number, recorded: boolean): Lesson => ({
  name: series.name,
  recorded,
  prepared: new PreparedSeries(series),
  trainEnd: Math.floor(known * (1 - validatePart)),
  validateEnd: known,
  weight,
});

/** Rows summed into `groups` at random. */
function together(series: DemandSeries, groups: number, seed: number): DemandSeries {
  const random = new Random(seed);
  const group = Uint32Array.from({ length: series.rows }, () => random.index(groups));
  const data = new Float32Array(series.steps * groups);
  for (let step = 0; step < series.steps; step++)
    for (let row = 0; row < series.rows; row++)
      data[step * groups + group[row]!]! += series.data[step * series.rows + row]!;
  return { ...series, name: `${series.name}, together`, rows: groups, data };
}

/** Targets of a generated workload. */
export const generatedRows = 16;

/**
 * Generated workloads, each with its own seed, tempo and mix of behaviours. They are long rather than wide: a level that
 * changes and an average over a thousand steps take thousands of steps to be seen.
 */
export function generatedLessons(count: number, stepsMs: readonly number[], seed: number, steps = 3200): Lesson[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, i) => {
    const stepMs = stepsMs[i % stepsMs.length]!;
    // Longer steps see slower things; the slow ones still happen in fewer steps than at 1 s.
    const timeScale = (stepMs / 1000) ** 0.7 * random.logBetween(0.5, 2);
    const known: readonly Behaviour[] = [...behaviours, ...furtherBehaviours];
    const mix = random.uniform() < 0.5 ? known : Array.from({ length: 3 }, () => random.pick(known));
    const workload = new Workload({
      seed: random.index(2 ** 31),
      targets: generatedRows,
      timeScale,
      mix,
      turnover: true,
      ratePerSec: [0.03, 200],
    });
    const data = workload.series(steps, stepMs, random.uniform() < 0.3 ? 'bytes' : 'requests');
    return lesson(
      { name: `generated ${i} at ${stepMs / 1000} s`, stepMs, rows: generatedRows, steps, data },
      steps,
      0.5,
      false,
    );
  });
}
