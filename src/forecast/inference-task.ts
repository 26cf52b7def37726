// What passes between a forecaster and its worker. In a file of its own, because the worker's loads the inference
// runtime: where that cannot be loaded, only the worker may fail.
import type { ModelShape } from '../learn/model.js';

/** Larger chunks fall out of the cache, smaller ones pay for each call. */
export const chunkRows = 1024;

/** Words of the control block, Int32 each: how far a step has come. A new worker goes on from there. */
export const control = {
  /** The step that was begun last. */
  step: 0,
  /** Rows that have taken it in. */
  rowsDone: 1,
  /** Rows whose features have; beyond `rowsDone` while the models compute. */
  rowsFeatured: 2,
  /** Active rows among those in between. */
  active: 3,
  /** Models that have computed for them. */
  modelsDone: 4,
  length: 5,
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
  /** Features of the active rows that the models compute for, float32, and their numbers, Uint32; `chunkRows` of each. */
  chunk: { features: SharedArrayBuffer; rows: SharedArrayBuffer };
  models: ModelMemory[];
  /** Steps to take in, oldest first; `index` counts from 1. */
  steps: { index: number; demand: Float64Array; resets: readonly number[] }[];
}
