import { isMainThread } from 'node:worker_threads';
import { ForetokenError } from '../errors.js';
import { spreadBins } from './bins.js';
import { excerpt, malformed, readLines } from './lines.js';

/** Operation codes in `Trace.op`: unknown (`-`), read (`r`), write (`w`). */
export const opNames = ['-', 'r', 'w'] as const;

/** Times count from the start of the trace. Ten years is beyond any trace and short of any Unix time in ms. */
export const maxTimeMs = 10 * 366 * 24 * 3_600_000;

/** Requests in time order, one array per column, each `requests` long. */
export interface Trace {
  /** The path as given, or `standard input`. */
  file: string;
  /** Target names in order of first appearance; `target` holds indices into it. */
  names: string[];
  timesMs: Float64Array;
  target: Uint32Array;
  /** Index into `opNames`. */
  op: Uint8Array;
  /** Bytes read or written; 0 is unknown. */
  bytes: Float64Array;
  /** Tokens of each request. */
  cost: Float64Array;
  requests: number;
  /** From time 0 to the last request, or to the end of the last bin. */
  durationMs: number;
  /** Length of a bin, if the file holds bins: the smallest difference of two of its times. */
  binMs?: number;
}

export interface ReadTraceOptions {
  /**
   * `requests` (default): 1 token a request, `count` tokens a bin. `bytes`: its bytes, at least 1; bins
   * cost their count either way.
   */
  cost?: 'requests' | 'bytes';
}

const requestHeader = 'time_ms,target,op,bytes';
const binHeader = 'time_ms,target,count';
const decimal = /^\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** Doubles above it have lost their units, so sums of them would too. */
const maxAmount = Number.MAX_SAFE_INTEGER;

/** Columns of rows as they stand in the file, grown by doubling. */
class Rows {
  length = 0;
  timesMs = new Float64Array(1024);
  target = new Uint32Array(1024);
  op = new Uint8Array(1024);
  amount = new Float64Array(1024);

  push(timeMs: number, target: number, op: number, amount: number): void {
    if (this.length === this.timesMs.length) this.grow();
    this.timesMs[this.length] = timeMs;
    this.target[this.length] = target;
    this.op[this.length] = op;
    this.amount[this.length] = amount;
    this.length += 1;
  }

  private grow(): void {
    const size = this.length * 2;
    const { timesMs, target, op, amount } = this;
    this.timesMs = new Float64Array(size);
    this.timesMs.set(timesMs);
    this.target = new Uint32Array(size);
    this.target.set(target);
    this.op = new Uint8Array(size);
    this.op.set(op);
    this.amount = new Float64Array(size);
    this.amount.set(amount);
  }
}

/**
 * Reads a trace of requests (`time_ms,target,op,bytes`) or of bins (`time_ms,target,count`), plain or
 * gzip by its first bytes. A bin becomes equal requests spread over it, at most 100.
 * @param pathOrDash a file, or `-` for standard input
 * @throws ForetokenError TRACE_MALFORMED, with file, line (from 1), what was expected and what was found
 */
export async function readTrace(pathOrDash: string, options: ReadTraceOptions = {}): Promise<Trace> {
  const cost = options.cost ?? 'requests';
  if (cost !== 'requests' && cost !== 'bytes')
    throw new ForetokenError('INVALID_OPTION', `cost: expected requests or bytes, got ${String(cost)}`);
  if (typeof pathOrDash !== 'string' || pathOrDash === '')
    throw new ForetokenError('INVALID_ARGUMENT', 'trace: expected a file name or -, got nothing');
  if (pathOrDash === '-' && !isMainThread)
    throw new ForetokenError('INVALID_ARGUMENT', 'trace: standard input can only be read in the main thread');
  const file = pathOrDash === '-' ? 'standard input' : pathOrDash;

  const indices = new Map<string, number>();
  const rows = new Rows();
  let columns = 0;
  let lastMs = 0;

  const number = (text: string, column: string, max: number, line: number): number => {
    const value = decimal.test(text) ? Number(text) : Number.NaN;
    if (value >= 0 && value <= max) return value;
    throw malformed(file, line, `${column} to be a number from 0 to ${max}`, excerpt(text));
  };

  const lines = await readLines(pathOrDash, file, (text, line) => {
    if (columns === 0) {
      if (text !== requestHeader && text !== binHeader)
        throw malformed(file, line, `the header ${requestHeader} or ${binHeader}`, excerpt(text));
      columns = text === requestHeader ? 4 : 3;
      return;
    }
    const fields = text.split(',');
    if (fields.length !== columns)
      throw malformed(file, line, `${columns} columns`, `${fields.length} in ${excerpt(text)}`);
    const timeMs = number(fields[0]!, 'time_ms, counted from the start of the trace,', maxTimeMs, line);
    if (timeMs < lastMs) throw malformed(file, line, `time_ms not to go back from ${lastMs}`, excerpt(fields[0]!));
    lastMs = timeMs;
    const name = fields[1]!;
    if (name === '') throw malformed(file, line, 'the name of a target', 'an empty one');
    let op = 0;
    if (columns === 4) {
      op = (opNames as readonly string[]).indexOf(fields[2]!);
      if (op < 0) throw malformed(file, line, 'op to be r, w or -', excerpt(fields[2]!));
    }
    const amount = number(fields[columns - 1]!, columns === 4 ? 'bytes' : 'count', maxAmount, line);
    let target = indices.get(name);
    if (target === undefined) {
      target = indices.size;
      indices.set(name, target);
    }
    rows.push(timeMs, target, op, amount);
  });
  if (columns === 0) throw malformed(file, 1, `the header ${requestHeader} or ${binHeader}`, 'an empty file');
  if (rows.length === 0) throw malformed(file, lines + 1, 'at least one row', 'the end of the file');

  const names = [...indices.keys()];
  const timesMs = rows.timesMs.slice(0, rows.length);
  const target = rows.target.slice(0, rows.length);
  const amount = rows.amount.slice(0, rows.length);
  if (columns === 4)
    return {
      file,
      names,
      timesMs,
      target,
      op: rows.op.slice(0, rows.length),
      bytes: amount,
      cost: cost === 'requests' ? new Float64Array(rows.length).fill(1) : amount.map((bytes) => Math.max(1, bytes)),
      requests: rows.length,
      durationMs: lastMs,
    };
  if (amount.every((count) => count === 0))
    throw malformed(file, lines + 1, 'at least one count above 0', 'the end of the file');
  const spread = spreadBins(timesMs, target, amount);
  if (spread === undefined)
    throw malformed(file, lines + 1, 'bins of at least two different times', 'the end of the file');
  return { file, names, ...spread, durationMs: lastMs + spread.binMs };
}
