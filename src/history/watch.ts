import type { ForetokenEvent } from '../options.js';
import type { HistoryStore } from './store.js';

/** Tells when records begin to be lost, and when they are stored again: one event each way. */
export class HistoryWatch {
  readonly #history: Pick<HistoryStore, 'health'>;
  readonly #onEvent: (event: ForetokenEvent) => void;
  #isLosing = false;
  /** Records lost when the last event was raised, and at the last look. */
  #toldLost = 0;
  #lastLost = 0;
  #lastWritten = 0;

  constructor(history: Pick<HistoryStore, 'health'>, onEvent: (event: ForetokenEvent) => void) {
    this.#history = history;
    this.#onEvent = onEvent;
  }

  /** To be called once a step. */
  look(timeMs: number): void {
    const { up, failed, written, lastError } = this.#history.health();
    if (!this.#isLosing && (failed > this.#lastLost || !up)) {
      this.#isLosing = true;
      this.#toldLost = this.#lastLost;
      const message = `what happens now is not stored: ${lastError ?? 'no reason known'}; everything else goes on`;
      this.#onEvent({ kind: 'history', message, timeMs });
    } else if (this.#isLosing && up && failed === this.#lastLost && written > this.#lastWritten) {
      this.#isLosing = false;
      const message = `the history is written again; ${failed - this.#toldLost} records were lost`;
      this.#onEvent({ kind: 'history', message, timeMs });
    }
    this.#lastLost = failed;
    this.#lastWritten = written;
  }
}
