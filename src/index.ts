export { ForetokenError } from './errors.js';
