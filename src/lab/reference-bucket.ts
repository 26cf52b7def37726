/**
 * The resource law, checked by a bucket that shares no code with the table: rate and burst of the
 * resource, full at the start, times never going back.
 */
export class ReferenceBucket {
  readonly #ratePerMs: number;
  readonly #burst: number;
  #level: number;
  #timeMs = 0;
  /** Admissions that it was short for. */
  violations = 0;

  constructor(ratePerSec: number, burst: number) {
    this.#ratePerMs = ratePerSec / 1000;
    this.#burst = burst;
    this.#level = burst;
  }

  admit(timeMs: number, cost: number): void {
    this.#level = Math.min(this.#burst, this.#level + (timeMs - this.#timeMs) * this.#ratePerMs) - cost;
    this.#timeMs = timeMs;
    // A millionth of a burst: what sums of doubles may lose, far below a token of any resource worth limiting.
    if (this.#level < -1e-6 * this.#burst) this.violations += 1;
  }
}
