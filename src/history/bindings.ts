import { createRequire } from 'node:module';
import type * as Api from '@duckdb/node-api';
import type Bindings from '@duckdb/node-bindings';

// Required, not imported: an `import` of its 250 CommonJS files parses each for the names it exports,
// which costs every worker 0.2 s more.
const require = createRequire(import.meta.url);
export const duckdb: typeof Api = require('@duckdb/node-api');

/**
 * The layer below, found through it so that both are the same one. Only it moves whole columns at
 * once; value by value costs 5 ms more for a step of 10,000 targets.
 */
export const bindings: typeof Bindings = createRequire(require.resolve('@duckdb/node-api'))('@duckdb/node-bindings');
