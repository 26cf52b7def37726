import type { Resolution } from './store.js';

/** Length of a point, ms; a step has its own. */
export const pointMs: Record<Exclude<Resolution, 'step'>, number> = { '10s': 10_000, '1m': 60_000, '1h': 3_600_000 };

/** From fine to coarse; each is folded into the next. */
export const resolutions: readonly Resolution[] = ['step', '10s', '1m', '1h'];

/** The next coarser resolution, which a row must have reached before it may be deleted. */
export const coarser: Record<Resolution, Exclude<Resolution, 'step'> | undefined> = {
  step: '10s',
  '10s': '1m',
  '1m': '1h',
  '1h': undefined,
};

/** Start of the point that holds a time. */
export const pointOf = (timeMs: number, lengthMs: number): number => Math.floor(timeMs / lengthMs) * lengthMs;

/** First point that starts at or after a time: turns a range of points into a range of times. */
export const firstPointFrom = (timeMs: number, lengthMs: number): number => Math.ceil(timeMs / lengthMs) * lengthMs;
