import { ForetokenError } from '../errors.js';
import { decisionColumns } from './schema.js';
import type { DecisionRecord, ForecastRecord, SeriesPoint, StepRecord } from './store.js';

/** The counts of a step, in the order in which they are packed, stored and rolled up. */
export const stepFields = [
  'arrivals',
  'admitted',
  'denied',
  'demandTokens',
  'admittedTokens',
  'readBytes',
  'writeBytes',
  'completions',
  'durationNs',
] as const;
export const stepFieldCount = stepFields.length;
export const demandField = stepFields.indexOf('demandTokens');

export const forecastFields = ['q50', 'q90', 'actual'] as const;
export const forecastFieldCount = forecastFields.length;

/** Bytes a packed row of n fields takes: the fields as doubles, then the target's number. */
export const packedRowBytes = (fields: number): number => fields * 8 + 4;

const noData = (value: unknown): value is undefined => value === undefined || value === null;

function checkColumns(record: Record<string, unknown>, fields: readonly string[], rows: number, what: string): void {
  for (const field of fields) {
    const column = record[field];
    if (!(column instanceof Float64Array)) {
      throw new ForetokenError('INVALID_ARGUMENT', `history: ${field} of a ${what} must be a Float64Array`);
    }
    if (column.length !== rows) {
      throw new ForetokenError(
        'INVALID_ARGUMENT',
        `history: ${field} of a ${what} has ${column.length} entries, its targets ${rows}`,
      );
    }
  }
}

function checkTime(name: string, value: unknown, least: number): void {
  if (typeof value !== 'number' || !(value >= least) || value > Number.MAX_SAFE_INTEGER) {
    const got = noData(value) ? 'none' : String(value);
    throw new ForetokenError('INVALID_ARGUMENT', `history: ${name} must be a number of at least ${least}, got ${got}`);
  }
}

function checkTargets(targets: unknown): void {
  if (!Array.isArray(targets)) {
    throw new ForetokenError('INVALID_ARGUMENT', 'history: targets of a record must be an array of names');
  }
}

/** @throws ForetokenError INVALID_ARGUMENT; a record that is refused changes nothing */
export function checkStep(record: StepRecord): void {
  checkTargets(record.targets);
  checkTime('timeMs', record.timeMs, 0);
  checkTime('stepMs', record.stepMs, 1);
  checkColumns(record as unknown as Record<string, unknown>, stepFields, record.targets.length, 'step');
}

/** @throws ForetokenError INVALID_ARGUMENT; a record that is refused changes nothing */
export function checkForecasts(record: ForecastRecord): void {
  checkTargets(record.targets);
  checkTime('timeMs', record.timeMs, 0);
  checkTime('horizonMs', record.horizonMs, 1);
  if (typeof record.engine !== 'string') {
    throw new ForetokenError('INVALID_ARGUMENT', 'history: engine of a forecast must be a string');
  }
  checkColumns(record as unknown as Record<string, unknown>, forecastFields, record.targets.length, 'forecast');
}

/** @throws ForetokenError INVALID_ARGUMENT; a record that is refused changes nothing */
export function checkDecisions(record: DecisionRecord): void {
  const refuse = (what: string): never => {
    throw new ForetokenError('INVALID_ARGUMENT', `history: ${what}`);
  };
  checkTargets(record.targets);
  checkTime('timeMs', record.timeMs, 0);
  const { shape, fields, values, targets } = record;
  if (typeof shape !== 'string') refuse('shape of a decision must be a string');
  if (!Number.isInteger(fields) || fields < 1 || fields > decisionColumns.length)
    refuse(`fields of a decision must be a whole number from 1 to ${decisionColumns.length}, got ${fields}`);
  if (!(values instanceof Float64Array) || values.length !== fields * targets.length)
    refuse(`values of decisions must be a Float64Array of ${fields * targets.length}`);
}

/** @throws ForetokenError INVALID_ARGUMENT */
export function checkRange(fromMs: number, toMs: number): void {
  if (Number.isNaN(fromMs) || Number.isNaN(toMs) || typeof fromMs !== 'number' || typeof toMs !== 'number') {
    throw new ForetokenError(
      'INVALID_ARGUMENT',
      `history: a range of times must be numbers, got ${fromMs} and ${toMs}`,
    );
  }
}

/**
 * Copies counts. One that is negative, as those denied are where more who had waited were admitted than others denied, or not
 * finite would poison every sum above it; it counts as 0.
 */
export function copyCounts(into: Float64Array, at: number, from: Float64Array): void {
  for (let i = 0; i < from.length; i++) {
    const value = from[i]!;
    into[at + i] = value >= 0 && value < Number.POSITIVE_INFINITY ? value : 0;
  }
}

/** Numbers a point takes in a packed series: its time, the counts, and the largest demand. */
export const pointFieldCount = stepFieldCount + 2;

/** @param packed points one after another: time, the counts in the order of `stepFields`, largest demand */
export function unpackSeries(packed: Float64Array): SeriesPoint[] {
  const points: SeriesPoint[] = [];
  for (let at = 0; at < packed.length; at += pointFieldCount) {
    points.push({
      timeMs: packed[at]!,
      arrivals: packed[at + 1]!,
      admitted: packed[at + 2]!,
      denied: packed[at + 3]!,
      demandTokens: packed[at + 4]!,
      demandTokensMax: packed[at + 10]!,
      admittedTokens: packed[at + 5]!,
      readBytes: packed[at + 6]!,
      writeBytes: packed[at + 7]!,
      completions: packed[at + 8]!,
      durationNs: packed[at + 9]!,
    });
  }
  return points;
}
