import { openMemoryHistory } from '../../src/history/memory.js';
import { conformance } from './conformance.js';

conformance('memory', openMemoryHistory);
