import ort from 'onnxruntime-node';
import { ForetokenError } from '../errors.js';

export type Tensor = ort.Tensor;
export type Session = ort.InferenceSession;

/** One thread is fastest at these sizes, and the machine's other cores are not ours. */
const options: ort.InferenceSession.SessionOptions = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionMode: 'sequential',
  logSeverityLevel: 3,
};

/** @throws ForetokenError MODEL_UNAVAILABLE with `source` and the runtime's reason */
export async function createSession(model: Uint8Array, source: string): Promise<Session> {
  try {
    return await ort.InferenceSession.create(model, options);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ForetokenError('MODEL_UNAVAILABLE', `${source}: ${reason}`, { cause });
  }
}

export const tensor = (data: Float32Array, dims: readonly number[]): Tensor => new ort.Tensor('float32', data, dims);

export const scalar = (value: number): Tensor => tensor(Float32Array.of(value), []);

export const floats = (value: Tensor | undefined): Float32Array => value!.data as Float32Array;
