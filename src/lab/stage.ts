import { FastLoop } from '../control/fast-loop.js';
import { Roster } from '../control/roster.js';
import { BucketTable, type Handle } from '../table/table.js';
import { Ledger } from './ledger.js';
import { bucketName, type Scene } from './scene.js';

/**
 * The native table on a virtual clock, as one arm uses it: buckets by number, and an account of where the
 * tokens of the scored part went. Arrays have one entry per bucket.
 */
export class Stage implements Disposable {
  readonly scene: Scene;
  readonly table: BucketTable;
  /** The table as whoever controls it sees it. */
  readonly ledger: Ledger;
  /** Every bucket by name and slot, owed its floor. */
  readonly roster = new Roster();
  /** Asked for since the step began, tokens. */
  readonly demand: Float64Array;
  readonly #handles: Handle[];
  readonly #slots: Uint32Array;
  readonly #pairs: Float64Array;
  /** Which buckets belong to real targets. */
  readonly #real: Uint8Array;
  readonly #fast: FastLoop;
  #nowMs = 0;
  #tickedMs = 0;
  #accountedMs = 0;

  /** Opens a table on which every bucket has an equal share and is full. */
  constructor(scene: Scene, adjusts = true) {
    this.scene = scene;
    const { buckets, settings, bucketOf, targets } = scene;
    const { ratePerSec, burst, borrow, stepMs, adjust } = settings;
    this.table = BucketTable.create({ capacity: buckets, ratePerSec, burst, clock: 'virtual' });
    this.demand = new Float64Array(buckets);
    this.#pairs = new Float64Array((buckets + 1) * 2);
    this.#real = new Uint8Array(buckets + 1);
    this.#handles = Array.from({ length: buckets }, () => this.table.addTarget({ mayBorrow: borrow }));
    this.#slots = Uint32Array.from(this.#handles, (handle) => this.table.slotOf(handle));
    for (let i = 0; i < targets; i++) this.#real[this.#slots[bucketOf[i]!]!] = 1;
    this.ledger = new Ledger(this.table, (slot) => this.#real[slot] === 1, borrow);
    this.#handles.forEach((handle, i) => {
      const name = bucketName(scene, i);
      const entry = { name, handle, reservation: scene.floorRate, weight: 1, limit: Number.POSITIVE_INFINITY };
      this.roster.put(entry, this.#slots[i]!);
    });
    this.#fast = new FastLoop(this.ledger, this.roster, {
      ratePerSec,
      burst,
      stepMs,
      borrow,
      adjust: adjust && adjusts,
    });
    // Without a controller a share carries its tokens with it, so this fills the buckets from the reservoir.
    // What the reservoir has left is rounded down by up to 2^-25 each time.
    const rounded = 1 - (buckets + 1) * 2 ** -25;
    const rates = new Float64Array(buckets).fill(ratePerSec / buckets);
    const bursts = new Float64Array(buckets).fill((burst - scene.reservoirBurst) / buckets);
    for (let i = 0; i < buckets; i++)
      this.table.setFallback(this.#handles[i]!, rates[i]! * rounded, bursts[i]! * rounded);
    this.table.extendValidity(scene.trace.durationMs + settings.stepMs);
    this.allocate(rates, bursts);
    this.#watch(rates);
  }

  advanceTo(timeMs: number): void {
    this.#nowMs = timeMs;
    this.table.advanceTo(timeMs);
  }

  /** @returns whether the request was admitted */
  acquire(bucket: number, cost: number): boolean {
    return this.table.tryAcquire(this.#handles[bucket]!, cost) > 0;
  }

  /** Takes in what was asked for and granted since it was called last. */
  account(): void {
    const activity = this.table.collect();
    const { rows, data } = activity;
    this.ledger.observe(activity);
    const { columns, demandTokens, admittedTokens, borrowedTokens } = this.table.constants.collect;
    // What happened at the very moment of scoring's begin is accounted after it.
    this.ledger.counting = this.#nowMs > this.scene.scoredFromMs;
    let used = 0;
    for (let i = 0; i < this.demand.length; i++) {
      const slot = this.#slots[i]!;
      if (slot >= rows) continue;
      const row = slot * columns;
      this.demand[i]! += data[row + demandTokens]!;
      if (this.#real[slot]) used += data[row + admittedTokens]! - data[row + borrowedTokens]!;
    }
    this.ledger.account((this.#nowMs - this.#accountedMs) / 1000, used);
    this.ledger.counting = this.#nowMs >= this.scene.scoredFromMs;
    this.#accountedMs = this.#nowMs;
  }

  /** Forgets the demand of the step that ended. */
  endStep(): void {
    this.demand.fill(0);
    this.#fast.endStep();
  }

  /** Publishes rates and bursts; what they leave lies in the reservoir. */
  allocate(rates: ArrayLike<number>, bursts: ArrayLike<number>): void {
    this.#pairs.fill(0);
    for (let i = 0; i < rates.length; i++) {
      this.#pairs[this.#slots[i]! * 2] = rates[i]!;
      this.#pairs[this.#slots[i]! * 2 + 1] = bursts[i]!;
    }
    this.#fast.allocate(this.#pairs, this.table.slots);
  }

  /**
   * What demand the arm expects in the step that begins, and from then on, tokens/s: what the fast loop measures
   * against, and advances tokens by.
   */
  expect(demandPerSec: ArrayLike<number>): void {
    this.#watch(demandPerSec);
    for (let i = 0; i < this.#slots.length; i++) this.#fast.forecastPerSec[this.#slots[i]!] = demandPerSec[i]!;
  }

  /** What the fast loop measures demand against, tokens/s. */
  #watch(demandPerSec: ArrayLike<number>): void {
    this.#fast.grow(this.#slots.length + 1);
    const { q50PerSec, q90PerSec } = this.#fast.view;
    for (let i = 0; i < this.#slots.length; i++) {
      q50PerSec[this.#slots[i]!] = demandPerSec[i]!;
      q90PerSec[this.#slots[i]!] = demandPerSec[i]!;
    }
  }

  /**
   * The product's fast loop for an arm that brings none, at the end of each tick.
   * @returns demand beyond what was expected, tokens/s per bucket, when rates should follow it within the step
   */
  tick(): Float64Array | undefined {
    const isPlanStale = this.#fast.tick(this.ledger.collect(), this.#nowMs - this.#tickedMs);
    this.#tickedMs = this.#nowMs;
    return isPlanStale ? Float64Array.from(this.#slots, (slot) => this.#fast.extraPerSec[slot]!) : undefined;
  }

  /** Burst that lies under deposits which have not expired, tokens. */
  deposited(): number {
    this.ledger.reclaimExpired();
    this.#fast.readLevels();
    return this.#fast.deposited(this.table.slots);
  }

  [Symbol.dispose](): void {
    this.table.close();
  }
}
