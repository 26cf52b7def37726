import type { HistorySettings, Kept } from './options.js';
import { coarser, pointMs, pointOf } from './resolution.js';
import type { Resolution } from './store.js';

/**
 * A host's clock may be wrong for a while. Were the store to follow it at once, one step stamped a
 * century ahead would expire everything. At most an hour a record, a minute of wrong time costs
 * nothing that is kept for days, and a month of silence is caught up within 720 steps.
 */
const maxLeapMs = 3_600_000;

/** Rows that make a compaction due early: steps of a millisecond must not pile up for a minute. */
const maxRowsBetween = 1_000_000;

/**
 * The time of the data: what retention counts from and what makes compaction due. It follows the
 * appended records alone, so that a replay on a virtual clock compacts exactly where the real run did.
 */
export class DataClock {
  #nowMs: number | undefined;
  #elapsedMs = 0;
  #rows = 0;

  constructor(nowMs?: number) {
    this.#nowMs = nowMs;
  }

  /** End of the newest data, as far as it is believed; undefined while nothing was appended. */
  get nowMs(): number | undefined {
    return this.#nowMs;
  }

  /** @param lengthMs time the record covers: its step, or 0 for what has none */
  advance(timeMs: number, lengthMs: number, rows: number): void {
    const endMs = timeMs + lengthMs;
    const leap = this.#nowMs === undefined ? 0 : endMs - this.#nowMs;
    this.#nowMs = this.#nowMs === undefined ? endMs : this.#nowMs + Math.max(-maxLeapMs, Math.min(maxLeapMs, leap));
    this.#elapsedMs += lengthMs;
    this.#rows += rows;
  }

  isCompactionDue(everyMs: number): boolean {
    return this.#elapsedMs >= everyMs || this.#rows >= maxRowsBetween;
  }

  compacted(): void {
    this.#elapsedMs = 0;
    this.#rows = 0;
  }
}

/** Times below which rows are folded into the resolution: only whole points are. */
export type Marks = Record<Exclude<Resolution, 'step'>, number>;

/** New marks: they never go back, whatever the clock does. */
export function nextMarks(marks: Marks, nowMs: number): Marks {
  const next = (resolution: keyof Marks): number => Math.max(marks[resolution], pointOf(nowMs, pointMs[resolution]));
  return { '10s': next('10s'), '1m': next('1m'), '1h': next('1h') };
}

/** Rows that start before this time are past their retention. What is not rolled up yet never is. */
export function expiryMs(kept: Kept, settings: HistorySettings, marks: Marks, nowMs: number): number {
  return Math.min(nowMs - settings.retentionMs[kept], foldedBelowMs(kept, marks));
}

/** Below this time every row has reached the next coarser resolution. */
export function foldedBelowMs(kept: Kept, marks: Marks): number {
  const next = kept === 'forecasts' || kept === 'decisions' ? undefined : coarser[kept];
  return next === undefined ? Number.POSITIVE_INFINITY : marks[next];
}
