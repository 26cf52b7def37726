import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { ForecastRecord, SeriesPoint, StepRecord } from '../../src/history/store.js';

const filled = (values: readonly number[], factor: number): Float64Array =>
  Float64Array.from(values, (value) => value * factor);

/** A step in which each target's counts are fixed multiples of the one number given for it. */
export function step(timeMs: number, counts: Record<string, number>, stepMs = 1000): StepRecord {
  const values = Object.values(counts);
  return {
    timeMs,
    stepMs,
    targets: Object.keys(counts),
    arrivals: filled(values, 1),
    admitted: filled(values, 2),
    denied: filled(values, 3),
    demandTokens: filled(values, 4),
    admittedTokens: filled(values, 5),
    readBytes: filled(values, 6),
    writeBytes: filled(values, 7),
    completions: filled(values, 8),
    durationNs: filled(values, 9),
  };
}

/** The point that steps made by `step` with these numbers add up to. */
export function point(timeMs: number, ...counts: number[]): SeriesPoint {
  const sum = counts.reduce((total, count) => total + count, 0);
  return {
    timeMs,
    arrivals: sum,
    admitted: 2 * sum,
    denied: 3 * sum,
    demandTokens: 4 * sum,
    demandTokensMax: 4 * Math.max(...counts),
    admittedTokens: 5 * sum,
    readBytes: 6 * sum,
    writeBytes: 7 * sum,
    completions: 8 * sum,
    durationNs: 9 * sum,
  };
}

export function forecast(
  timeMs: number,
  horizonMs: number,
  engine: string,
  q50: Record<string, number>,
): ForecastRecord {
  const values = Object.values(q50);
  return {
    timeMs,
    horizonMs,
    engine,
    targets: Object.keys(q50),
    q50: filled(values, 1),
    q90: filled(values, 2),
    actual: filled(values, 3),
  };
}

/** A folder of this test alone, gone when it ends. */
export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-history-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Random numbers that repeat for a seed (xorshift32). */
export function random(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * below);
  };
}
