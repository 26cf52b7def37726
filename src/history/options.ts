import { ForetokenError } from '../errors.js';
import type { Resolution } from './store.js';

/** What is kept for a time of its own: the four resolutions, the resolved forecasts, the decisions. */
export type Kept = Resolution | 'forecasts' | 'decisions';

export const keptNames: readonly Kept[] = ['step', '10s', '1m', '1h', 'forecasts', 'decisions'];

/** Options of every store. Times count from the newest appended data, not from the wall clock. */
export interface HistoryOptions {
  /** How long each resolution is kept, ms; `Infinity` keeps it for ever. Defaults: 6 h, 2 d, 30 d, 2 y; forecasts 6 h, decisions 1 h. */
  retentionMs?: Partial<Record<Kept, number>>;
  /**
   * Most rows kept of each; the oldest go first, once they are rolled up. A row is one target in one
   * step or point. Default: 20 million of each on disk (about 15 bytes a row), 1 million in memory; of decisions,
   * whose rows are larger, a fifth of that.
   */
  maxRows?: Partial<Record<Kept, number>>;
  /** Compaction runs whenever this much time was appended, ms. Default 60,000. */
  compactEveryMs?: number;
}

export interface HistorySettings {
  retentionMs: Record<Kept, number>;
  maxRows: Record<Kept, number>;
  compactEveryMs: number;
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const defaultRetentionMs: Record<Kept, number> = {
  step: 6 * hourMs,
  '10s': 2 * dayMs,
  '1m': 30 * dayMs,
  '1h': 730 * dayMs,
  forecasts: 6 * hourMs,
  decisions: hourMs,
};
/** Part of the usual number of rows that is kept of decisions by default: a row is a few hundred bytes. */
const decisionPart = 0.2;

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

const knownOptions = new Set(['retentionMs', 'maxRows', 'compactEveryMs']);

/**
 * Fills in defaults and checks every option.
 * @param own names of the options that only the calling store has, and checks itself
 * @throws ForetokenError INVALID_OPTION, naming the option, what it must be and what it was
 */
export function historySettings(
  options: unknown,
  defaultMaxRows: number,
  own: readonly string[] = [],
): HistorySettings {
  if (!isRecord(options)) throw invalid('options', 'an object', options);
  for (const name of Object.keys(options)) {
    if (!knownOptions.has(name) && !own.includes(name))
      throw invalid(name, 'left out: there is no such option', options[name]);
  }
  const retentionMs = perKept('retentionMs', options.retentionMs, 'a number above 0', (value) => value > 0);
  const maxRows = perKept(
    'maxRows',
    options.maxRows,
    'a whole number above 0',
    (value) => value >= 1 && Number.isSafeInteger(value),
  );
  const compactEveryMs = positiveOption('compactEveryMs', options.compactEveryMs, 60_000);
  const rows = Object.fromEntries(keptNames.map((kept) => [kept, defaultMaxRows])) as Record<Kept, number>;
  rows.decisions = Math.ceil(decisionPart * defaultMaxRows);
  return {
    retentionMs: { ...defaultRetentionMs, ...retentionMs },
    maxRows: { ...rows, ...maxRows },
    compactEveryMs,
  };
}

/** A finite number above 0, or the default where the option is left out. */
export function positiveOption(name: string, value: unknown, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value))
    throw invalid(name, 'a number above 0', value);
  return value;
}

export const invalid = (name: string, expected: string, got: unknown): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `history: ${name} must be ${expected}, got ${describe(got)}`);

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80));
  return isRecord(value) || typeof value === 'function' ? typeof value : String(value);
}

function perKept(
  option: string,
  value: unknown,
  expected: string,
  fits: (value: number) => boolean,
): Partial<Record<Kept, number>> {
  if (value === undefined) return {};
  if (!isRecord(value)) throw invalid(option, 'an object', value);
  const out: Partial<Record<Kept, number>> = {};
  for (const [name, entry] of Object.entries(value)) {
    const kept = keptNames.find((known) => known === name);
    if (kept === undefined) throw invalid(`${option}.${name}`, `one of ${keptNames.join(', ')}`, name);
    if (entry === undefined) continue;
    if (typeof entry !== 'number' || !fits(entry)) throw invalid(`${option}.${name}`, expected, entry);
    out[kept] = entry;
  }
  return out;
}
