import { borrowShares } from '../allocate/shares.js';
import { correct } from '../monitor/adjuster.js';
import { Monitor, type TickView } from '../monitor/monitor.js';

/** What the product's monitor, adjuster and borrow shares see and keep, by slot. */
export class FastLoop {
  readonly #view: TickView;
  readonly #monitor: Monitor;
  readonly #short: Float64Array;
  readonly #weights: Float64Array;
  readonly #shares: Float64Array;

  constructor(slots: number) {
    const zeros = () => new Float64Array(slots);
    this.#view = {
      slots,
      tickMs: 0,
      demand: zeros(),
      denied: zeros(),
      borrowed: zeros(),
      q50PerSec: zeros(),
      q90PerSec: zeros(),
    };
    this.#monitor = new Monitor(slots);
    this.#short = zeros();
    this.#shares = zeros();
    this.#weights = zeros().fill(1);
    this.#weights[0] = 0;
  }

  expect(slot: number, q50PerSec: number, q90PerSec: number): void {
    this.#view.q50PerSec[slot] = q50PerSec;
    this.#view.q90PerSec[slot] = q90PerSec;
  }

  observe(slot: number, demand: number, denied: number, borrowed: number): void {
    this.#view.demand[slot]! += demand;
    this.#view.denied[slot]! += denied;
    this.#view.borrowed[slot]! += borrowed;
  }

  shares(available: number): Float64Array {
    const { denied, borrowed, slots } = this.#view;
    for (let i = 1; i < slots; i++) this.#short[i] = denied[i]! + borrowed[i]!;
    borrowShares(this.#short, this.#weights, slots, Math.max(0, available), this.#shares);
    return this.#shares;
  }

  corrections(
    tickMs: number,
    levels: Parameters<typeof correct>[2],
    reservoirTokens: number,
    burst: number,
    meanCost: number,
  ): ReturnType<typeof correct> {
    this.#view.tickMs = tickMs;
    this.#monitor.observe(this.#view);
    return correct(this.#monitor, this.#view, levels, reservoirTokens, burst, meanCost);
  }

  endTick(): void {
    this.#view.demand.fill(0);
    this.#view.denied.fill(0);
    this.#view.borrowed.fill(0);
  }
}
