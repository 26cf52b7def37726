// What passes between a forecaster and its worker. In a file of its own, because the worker's loads the inference
// runtime: where that cannot be loaded, only the worker may fail.
import type { ModelShape } from '../learn/model.js';

/** Words of the control block, Int32 each. */
export const control = {
  /** The step that was begun last, and how many rows have taken it in: a new worker goes on from there. */
  step: 0,
  rowsDone: 1,
  length: 2,
} as const;

/** Places in `InferenceTask.costs`. */
export const costs = { features: 0, model: 1, length: 2 } as const;

/** State and results of one model; plain floats in shared memory. */
export interface ModelMemory {
  /** Parameters, and a count of how often they were replaced. */
  weights: SharedArrayBuffer;
  version: number;
  h: SharedArrayBuffer;
  c: SharedArrayBuffer;
  /** `quantiles[(row · horizons + horizon) · levels + level]`, tokens/s. */
  quantiles: SharedArrayBuffer;
}

/** All that a worker needs; nothing lives in the worker alone. */
export interface InferenceTask {
  /** Differs between forecasters. */
  id: number;
  source: string;
  graph: SharedArrayBuffer;
  shape: ModelShape;
  rows: number;
  stepMs: number;
  horizonsMs: readonly number[];
  control: SharedArrayBuffer;
  /** What features and models took in all, ms; float64 each. See `costs`. */
  costs: SharedArrayBuffer;
  guard: SharedArrayBuffer;
  features: SharedArrayBuffer;
  models: ModelMemory[];
  /** Steps to take in, oldest first; `index` counts from 1. */
  steps: { index: number; demand: Float64Array; resets: readonly number[] }[];
}
