import type { Kept } from './options.js';

/** Written into every file. A file of a higher format is refused, one of a lower would be converted. */
export const application = 'foretoken';
export const formatVersion = 1;

export const tableOf: Record<Kept, string> = {
  step: 'steps',
  '10s': 'rollup_10s',
  '1m': 'rollup_1m',
  '1h': 'rollup_1h',
  forecasts: 'forecasts',
  decisions: 'decisions',
};

/** Columns of a step's counts, in the order of `stepFields`. */
export const countColumns = [
  'arrivals',
  'admitted',
  'denied',
  'demand_tokens',
  'admitted_tokens',
  'read_bytes',
  'write_bytes',
  'completions',
  'duration_ns',
] as const;

/** Most numbers a decision may have. */
export const decisionColumns: readonly string[] = Array.from({ length: 48 }, (_, i) => `v${i}`);

const counts = countColumns.map((column) => `${column} double`).join(', ');

/**
 * `seq` numbers batches in order of arrival. Together with a mark (time, seq) it tells which rows were
 * folded into the next rollup: those below the mark's time that had arrived by its seq. Rollups may
 * hold several rows of one point and target, because late data adds a row; readers sum them up.
 */
const rollup = (name: string): string =>
  `create table ${name} (seq bigint, time_ms bigint, target integer, ${counts}, demand_tokens_max double)`;

/** What files of this format got later; a version that does not know these tables leaves them alone. */
export const additions: readonly string[] = [
  'create table if not exists shapes (id integer, name varchar)',
  `create table if not exists decisions (time_ms bigint, shape integer, target integer, ${decisionColumns.map((column) => `${column} double`).join(', ')})`,
];

export const schema: readonly string[] = [
  'create table meta (key varchar, value varchar)',
  'create table targets (id integer, name varchar)',
  'create table engines (id integer, name varchar)',
  `create table steps (seq bigint, time_ms bigint, step_ms bigint, target integer, ${counts})`,
  rollup('rollup_10s'),
  rollup('rollup_1m'),
  rollup('rollup_1h'),
  'create table forecasts (time_ms bigint, horizon_ms bigint, engine integer, target integer, q50 double, q90 double, actual double)',
  ...additions,
  'create table marks (rollup varchar, time_ms bigint, seq bigint)',
  `insert into meta values ('application', '${application}'), ('format', '${formatVersion}')`,
];
