import { messageOf } from '../errors.js';
import { type Parts, stepsToWarm } from './assembly.js';
import type { Roster } from './roster.js';

/** Targets warmed at once; more wait for the next turn. */
const mostAtOnce = 256;
/** Those that are put within this time are warmed together, ms. */
const gatherMs = 500;
/** How long a turn may take; what is not warmed by then begins from nothing. */
const patienceMs = 10_000;

/**
 * Warms targets that are put while the loop runs, or come back, with what the history knows of them: in the
 * background, one turn after the other.
 */
export class LateWarm {
  readonly #parts: Parts;
  readonly #roster: Roster;
  readonly #stepMs: number;
  readonly #tell: (message: string) => void;
  readonly #waiting = new Set<string>();
  readonly #end = new AbortController();
  #turn: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: Parts, roster: Roster, stepMs: number, tell: (message: string) => void) {
    this.#parts = parts;
    this.#roster = roster;
    this.#stepMs = stepMs;
    this.#tell = tell;
  }

  add(name: string): void {
    this.#waiting.add(name);
    this.#soon();
  }

  /** Ends a turn under way. Before the parts are closed. */
  async close(): Promise<void> {
    this.#waiting.clear();
    clearTimeout(this.#timer);
    this.#end.abort();
    // The engine, which is closed next, lets go of a turn that waits for a step.
    await Promise.race([this.#turn, new Promise((resolve) => setImmediate(resolve))]);
  }

  #soon(): void {
    if (this.#turn || this.#timer || this.#end.signal.aborted || this.#waiting.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#turn = this.#warm().finally(() => {
        this.#turn = undefined;
        this.#soon();
      });
    }, gatherMs);
    this.#timer.unref();
  }

  async #warm(): Promise<void> {
    const names = new Set([...this.#waiting].slice(0, mostAtOnce));
    for (const name of names) this.#waiting.delete(name);
    try {
      const { history, engine } = this.#parts;
      const matrix = await history.recentDemand(stepsToWarm(names.size), this.#stepMs, undefined, [...names]);
      const signal = AbortSignal.any([this.#end.signal, AbortSignal.timeout(patienceMs)]);
      const rowOf = (name: string) => (names.has(name) ? this.#roster.slots.get(name) : undefined);
      const warmed = await engine.warmLate(matrix, rowOf, signal);
      if (warmed > 0) this.#tell(`forecasters warmed with the history of ${warmed} added targets`);
    } catch (error) {
      if (!this.#end.signal.aborted) this.#tell(`warming added targets failed: ${messageOf(error)}`);
    }
  }
}
