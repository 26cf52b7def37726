import { join } from 'node:path';
import { openDuckDbHistory } from '../../src/history/duckdb.js';
import { conformance } from './conformance.js';
import { tempFolder } from './records.js';

conformance('duckdb', (options) => openDuckDbHistory({ ...options, path: join(tempFolder(), 'history.duckdb') }));
