import ort from 'onnxruntime-node';
import { ForetokenError } from '../errors.js';
import { declineTelemetry } from '../onnx/telemetry.js';
import type { Pace } from './pace.js';
import type { RunGuard } from './run-guard.js';

export type Tensor = ort.Tensor;
export type Session = ort.InferenceSession;

/** One thread is fastest at these sizes, and the machine's other cores are not ours. */
const options: ort.InferenceSession.SessionOptions = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionMode: 'sequential',
  logSeverityLevel: 3,
};

declineTelemetry();

let guard: RunGuard | undefined;

/** Runs of this thread are marked in the guard from now on, and refused once it is stopped. */
export const guardRuns = (of: RunGuard): void => {
  guard = of;
};

let pace: Pace | undefined;

/** This thread rests after each run from now on, as the pace demands. */
export const paceRuns = (by: Pace | undefined): void => {
  pace = by;
};

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  if (!guard) return work();
  const result = await guard.during(work);
  await pace?.rest(() => guard!.stopped);
  return result;
}

/** @throws ForetokenError MODEL_UNAVAILABLE with `source` and the runtime's reason */
export async function createSession(model: Uint8Array, source: string): Promise<Session> {
  try {
    return await guarded(() => ort.InferenceSession.create(model, options));
  } catch (cause) {
    if (cause instanceof ForetokenError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ForetokenError('MODEL_UNAVAILABLE', `${source}: ${reason}`, { cause });
  }
}

type Feeds = Record<string, Tensor>;

/**
 * Blocks the thread while it computes.
 * @param results names of the results wanted, or tensors they are written into
 * @throws ForetokenError CLOSED once the thread was asked to stop
 */
export const runSession = async (
  session: Session,
  feeds: Feeds,
  results: readonly string[] | Feeds,
): Promise<Record<string, Tensor>> => (await guarded(() => session.run(feeds, results))) as Record<string, Tensor>;

export const tensor = (data: Float32Array, dims: readonly number[]): Tensor => new ort.Tensor('float32', data, dims);

export const indices = (values: readonly number[]): Tensor =>
  new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);

export const scalar = (value: number): Tensor => tensor(Float32Array.of(value), []);

export const floats = (value: Tensor | undefined): Float32Array => value!.data as Float32Array;
