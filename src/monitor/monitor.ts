import { grown } from '../grown.js';

/** What one tick saw in one slot, and what was forecast for it. Tokens. */
export interface TickView {
  slots: number;
  /** Asked for in this tick, admitted or not. */
  demand: Float64Array;
  /** Denied in this tick. */
  denied: Float64Array;
  borrowed: Float64Array;
  /**
   * Forecast demand rate, median and 0.9 quantile, tokens/s; 0 where there is no forecast. The 0.9 quantile with
   * what was answered beyond it.
   */
  q50PerSec: Float64Array;
  q90PerSec: Float64Array;
  tickMs: number;
}

/** Part of the forecast that demand may be off by without counting as a deviation. */
const deadBand = 0.25;
/** Deviation that triggers, in seconds of the forecast rate: two ticks at twice the forecast. */
const thresholdS = 0.14;
/** Least deviation that triggers, in requests of mean cost: below it, it is chance. */
const thresholdRequests = 3;

/**
 * Watches actual against forecast demand with two one-sided cumulative sums per slot (CUSUM, Page 1954), each
 * with a dead band: `over` grows while demand is above the 0.9 quantile, `under` while it is below the median.
 */
export class Monitor {
  over: Float64Array;
  under: Float64Array;
  /** Demand rate over the last few ticks, tokens/s: an average with a span of five ticks. */
  ratePerSec: Float64Array;

  constructor(slots: number) {
    this.over = new Float64Array(slots);
    this.under = new Float64Array(slots);
    this.ratePerSec = new Float64Array(slots);
  }

  grow(slots: number): void {
    if (slots <= this.over.length) return;
    for (const name of ['over', 'under', 'ratePerSec'] as const) this[name] = grown(this[name], slots * 2);
  }

  reset(slot: number): void {
    this.over[slot] = 0;
    this.under[slot] = 0;
    this.ratePerSec[slot] = 0;
  }

  observe(view: TickView): void {
    this.grow(view.slots);
    const seconds = view.tickMs / 1000;
    for (let i = 1; i < view.slots; i++) {
      const demand = view.demand[i]!;
      this.ratePerSec[i]! += (demand / seconds - this.ratePerSec[i]!) / 3;
      this.over[i] = Math.max(0, this.over[i]! + demand - (1 + deadBand) * view.q90PerSec[i]! * seconds);
      this.under[i] = Math.max(0, this.under[i]! + (1 - deadBand) * view.q50PerSec[i]! * seconds - demand);
    }
  }

  /** +1: runs over its forecast; -1: under it; 0: within the dead band or not for long enough. */
  deviation(slot: number, view: TickView, meanCost: number): -1 | 0 | 1 {
    const least = thresholdRequests * meanCost;
    if (this.over[slot]! > Math.max(least, thresholdS * view.q90PerSec[slot]!)) return 1;
    if (this.under[slot]! > Math.max(least, thresholdS * view.q50PerSec[slot]!)) return -1;
    return 0;
  }
}

/** How busy the resource is. */
export class Utilization {
  #baselineMs = Number.NaN;
  #smoothed = 0;

  /** Admitted tokens against the limit over the last ticks: 0 to 1, a little above in a burst. */
  get fraction(): number {
    return this.#smoothed;
  }

  /** Processing time now against the best lately: 1 is unloaded. NaN until completions are reported. */
  inflation = Number.NaN;

  observe(admittedTokens: number, ratePerSec: number, tickMs: number, completions: number, durationNs: number): void {
    const now = admittedTokens / ((ratePerSec * tickMs) / 1000);
    this.#smoothed += (now - this.#smoothed) / 5;
    if (completions === 0) return;
    const meanMs = durationNs / completions / 1e6;
    // The baseline sinks at once and rises by 1 % a tick, so that a device which became slower for good is
    // not called overloaded for ever.
    this.#baselineMs = Number.isNaN(this.#baselineMs) ? meanMs : Math.min(meanMs, this.#baselineMs * 1.01);
    this.inflation = this.#baselineMs > 0 ? meanMs / this.#baselineMs : 1;
  }
}
