import { depositRoom } from '../control/plan.js';
import { BucketTable, type Handle } from '../table/table.js';
import { FastLoop } from './fast-loop.js';
import type { Scene } from './scene.js';

/**
 * The native table on a virtual clock, as one arm uses it: buckets by number, and an account of where the
 * tokens of the scored part went. Arrays have one entry per bucket.
 */
export class Stage implements Disposable {
  readonly scene: Scene;
  readonly table: BucketTable;
  /** Asked for since the step began, tokens. */
  readonly demand: Float64Array;
  /** As allocated last. */
  readonly rates: Float64Array;
  readonly bursts: Float64Array;
  readonly #handles: Handle[];
  readonly #slots: Uint32Array;
  readonly #pairs: Float64Array;
  readonly #levels: Float64Array;
  /** Which buckets belong to real targets. */
  readonly #real: Uint8Array;
  readonly #fast: FastLoop;
  #nowMs = 0;
  #accountedMs = 0;
  // Tokens that real targets' buckets got in the scored part by their rates and by deposits, and what of
  // them was used, and what went back to the reservoir.
  #granted = 0;
  #used = 0;
  #lent = 0;

  /** Opens a table on which every bucket has an equal share and is full. */
  constructor(scene: Scene) {
    this.scene = scene;
    const { buckets, settings, bucketOf, targets } = scene;
    const { ratePerSec, burst, borrow } = settings;
    this.table = BucketTable.create({ capacity: buckets, ratePerSec, burst, clock: 'virtual' });
    this.demand = new Float64Array(buckets);
    this.rates = new Float64Array(buckets).fill(ratePerSec / buckets);
    this.bursts = new Float64Array(buckets).fill((burst - scene.reservoirBurst) / buckets);
    this.#levels = new Float64Array(buckets);
    this.#pairs = new Float64Array((buckets + 1) * 2);
    this.#real = new Uint8Array(buckets);
    for (let i = 0; i < targets; i++) this.#real[bucketOf[i]!] = 1;
    this.#fast = new FastLoop(buckets + 1);
    this.#handles = Array.from({ length: buckets }, () => this.table.addTarget({ mayBorrow: borrow }));
    this.#slots = Uint32Array.from(this.#handles, (handle) => this.table.slotOf(handle));
    // Without a controller a share carries its tokens with it, so this fills the buckets from the reservoir.
    // What the reservoir has left is rounded down by up to 2^-25 each time.
    const rounded = 1 - (buckets + 1) * 2 ** -25;
    for (let i = 0; i < buckets; i++)
      this.table.setFallback(this.#handles[i]!, this.rates[i]! * rounded, this.bursts[i]! * rounded);
    this.table.extendValidity(scene.trace.durationMs + settings.stepMs);
    this.allocate(this.rates, this.bursts);
    this.expect(this.rates, this.rates);
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
    const { rows, data } = this.table.collect();
    const column = this.table.constants.collect;
    // What happened at the very moment of scoring's begin is accounted after it.
    const isScored = this.#nowMs > this.scene.scoredFromMs;
    const elapsedS = (this.#nowMs - this.#accountedMs) / 1000;
    this.#accountedMs = this.#nowMs;
    for (let i = 0; i < this.demand.length; i++) {
      const slot = this.#slots[i]!;
      if (slot >= rows) continue;
      const row = slot * column.columns;
      const asked = data[row + column.demandTokens]!;
      const admitted = data[row + column.admittedTokens]!;
      const borrowed = data[row + column.borrowedTokens]!;
      this.demand[i]! += asked;
      this.#fast.observe(slot, asked, asked - admitted, borrowed);
      if (!isScored || !this.#real[i]) continue;
      this.#granted += this.rates[i]! * elapsedS;
      this.#used += admitted - borrowed;
    }
  }

  /** Forgets the demand of the step that ended. */
  endStep(): void {
    this.demand.fill(0);
  }

  /** Publishes rates and bursts; what they leave lies in the reservoir. */
  allocate(rates: ArrayLike<number>, bursts: ArrayLike<number>): void {
    this.#reclaim();
    this.#pairs.fill(0);
    for (let i = 0; i < this.rates.length; i++) {
      this.rates[i] = rates[i]!;
      this.bursts[i] = bursts[i]!;
      this.#pairs[this.#slots[i]! * 2] = rates[i]!;
      this.#pairs[this.#slots[i]! * 2 + 1] = bursts[i]!;
    }
    const before = this.reservoirTokens();
    this.table.allocate(this.#pairs, this.table.slots, true);
    this.#lend(this.reservoirTokens() - before);
  }

  /** What demand the arm expects in the step that begins, tokens/s: what the fast loop measures against. */
  expect(q50PerSec: ArrayLike<number>, q90PerSec: ArrayLike<number>): void {
    for (let i = 0; i < this.rates.length; i++) this.#fast.expect(this.#slots[i]!, q50PerSec[i]!, q90PerSec[i]!);
  }

  /** Moves tokens, and the burst under them, from the reservoir into a bucket. @returns tokens moved */
  deposit(bucket: number, tokens: number, forMs: number): number {
    const moved = this.table.deposit(this.#handles[bucket]!, tokens, forMs);
    if (this.#real[bucket] && this.#nowMs >= this.scene.scoredFromMs) this.#granted += moved;
    return moved;
  }

  /** Ends a deposit: what is left of it goes back to the reservoir. */
  withdraw(bucket: number): void {
    this.#lend(this.table.withdraw(this.#handles[bucket]!));
  }

  /** The fast loop: after `account`, at the end of each tick. */
  tick(tickMs: number): void {
    const { settings } = this.scene;
    this.#reclaim();
    let reservoir = this.reservoirTokens();
    if (settings.borrow) {
      const { returned, reservoir: now } = this.table.tick();
      this.#lend(returned);
      reservoir = now;
      this.table.setBorrowShares(this.#fast.shares(reservoir), this.table.slots);
    }
    if (settings.adjust) this.#adjust(tickMs, reservoir);
    this.#fast.endTick();
  }

  #adjust(tickMs: number, reservoirTokens: number): void {
    const { settings, demand } = this.scene;
    const { data } = this.table.levels();
    const { columns, level, deposit } = this.table.constants.levels;
    const levels = {
      level: (slot: number) => data[slot * columns + level]!,
      deposit: (slot: number) => data[slot * columns + deposit]!,
    };
    const available = Math.min(reservoirTokens, depositRoom(settings.burst, this.deposited()));
    const buckets = new Map(Array.from(this.#slots, (slot, bucket) => [slot, bucket]));
    for (const { slot, tokens } of this.#fast.corrections(tickMs, levels, available, settings.burst, demand.meanCost)) {
      const bucket = buckets.get(slot)!;
      if (tokens < 0) this.withdraw(bucket);
      else this.deposit(bucket, tokens, settings.stepMs);
    }
  }

  #reclaim(): void {
    this.#lend(this.table.reclaimExpired());
  }

  #lend(tokens: number): void {
    if (this.#nowMs >= this.scene.scoredFromMs) this.#lent += Math.max(0, tokens);
  }

  /** Burst that lies under deposits which have not expired, tokens. */
  deposited(): number {
    this.#reclaim();
    const { data, rows } = this.table.levels();
    const { columns, deposit } = this.table.constants.levels;
    let sum = 0;
    for (let slot = 1; slot < rows; slot++) sum += data[slot * columns + deposit]!;
    return sum;
  }

  /** What the reservoir could lend now. */
  reservoirTokens(): number {
    return this.table.peek(0, 1)?.tokens ?? 0;
  }

  /** Tokens in each bucket now. The array is reused by the next call. */
  levels(): Float64Array {
    const { data } = this.table.levels();
    const { columns, level } = this.table.constants.levels;
    for (let i = 0; i < this.#levels.length; i++) this.#levels[i] = data[this.#slots[i]! * columns + level]!;
    return this.#levels;
  }

  /** Of the scored part: tokens that real targets were given and that were neither used nor lent. */
  withheldTokens(): number {
    return Math.max(0, this.#granted - this.#used - this.#lent);
  }

  [Symbol.dispose](): void {
    this.table.close();
  }
}
