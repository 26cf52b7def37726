import { createHash } from 'node:crypto';
import type { Trace } from '../workload/trace.js';
import { type Demand, demandOf, type ReplayOptions, type ReplaySettings, settle } from './settings.js';

/** Hogs ask this often, ms. */
export const hogPeriodMs = 10;

/** The fast loop runs this often, ms, and at the end of every step. */
export const tickMs = 100;

/** What all arms of a replay share: who asks for what, and which bucket pays for it. */
export interface Scene {
  trace: Trace;
  settings: ReplaySettings;
  demand: Demand;
  /** Real targets, in the trace's order, then hogs. */
  names: string[];
  /** How many of them are real. */
  targets: number;
  scoredFromMs: number;
  /** Which bucket serves each of `names`: its own, or its holder's. */
  bucketOf: Uint32Array;
  buckets: number;
  /** Tokens/s and tokens that every bucket has in any case. */
  floorRate: number;
  floorBurst: number;
  /** Burst that stays in the reservoir to be lent, tokens; 0 without borrowing. */
  reservoirBurst: number;
  /** Whether arms leave in the reservoir, unlent, what nobody wants, instead of giving everything out. */
  keepsSurplus: boolean;
}

/** With borrowing, this part of the burst beyond the floors stays in the reservoir for whoever is short. */
const reservoirPart = 0.5;

/** A target sticks to a holder whatever else is in the trace. */
const holderOf = (seed: number, name: string, holders: number): number =>
  createHash('sha256').update(`${seed}\0${name}`).digest().readUInt32LE(0) % holders;

/** What the bucket of a holder, or of a target of its own, is called. */
export const bucketName = ({ settings, names }: Scene, bucket: number): string =>
  settings.holders > 0 ? `holder${bucket + 1}` : names[bucket]!;

export function sceneOf(trace: Trace, options: ReplayOptions): Scene {
  const demand = demandOf(trace);
  const settings = settle(options, trace, demand);
  const targets = trace.names.length;
  const names = [...trace.names];
  const taken = new Set(names);
  for (let k = 1; names.length < targets + settings.hogs; k++) if (!taken.has(`hog${k}`)) names.push(`hog${k}`);
  const { holders, seed, burst, borrow } = settings;
  const buckets = holders > 0 ? holders : names.length;
  const floorBurst = Math.min(2 * demand.largestCost, burst / buckets);
  return {
    trace,
    settings,
    demand,
    names,
    targets,
    scoredFromMs: settings.warmup * trace.durationMs,
    bucketOf: Uint32Array.from(names, (name, i) => (holders > 0 ? holderOf(seed, name, holders) : i)),
    buckets,
    floorRate: (0.1 * settings.ratePerSec) / buckets,
    floorBurst,
    reservoirBurst: borrow ? reservoirPart * (burst - floorBurst * buckets) : 0,
    keepsSurplus: false,
  };
}

/** The same scene with one bucket for all, first come. */
export const pooled = (scene: Scene): Scene => ({
  ...scene,
  bucketOf: new Uint32Array(scene.names.length),
  buckets: 1,
  floorRate: scene.settings.ratePerSec,
  floorBurst: scene.settings.burst,
  reservoirBurst: 0,
});
