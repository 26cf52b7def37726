import type { ControlledTable } from '../control/fast-loop.js';
import type { Activity, BucketTable, Handle } from '../table/table.js';

/**
 * A table that keeps account of where the tokens of real targets went: what they were given by their rates
 * and by deposits, what of it they used, and what went back to the reservoir for others. Only while counting.
 */
export class Ledger implements ControlledTable {
  readonly #table: BucketTable;
  readonly #isReal: (slot: number) => boolean;
  /** Tokens/s allocated to real targets together. */
  #ratePerSec = 0;
  readonly #lends: boolean;
  #granted = 0;
  #used = 0;
  #lent = 0;
  counting = false;
  // What was collected for the account, until the loops collect it; one is read while the other fills.
  #filling: Float64Array;
  #reading: Float64Array;

  /** @param lends whether what goes back to the reservoir serves others */
  constructor(table: BucketTable, isReal: (slot: number) => boolean, lends: boolean) {
    this.#table = table;
    this.#isReal = isReal;
    this.#lends = lends;
    const cells = (table.capacity + 1) * table.constants.collect.columns;
    this.#filling = new Float64Array(cells);
    this.#reading = new Float64Array(cells);
  }

  get constants() {
    return this.#table.constants;
  }

  get slots(): number {
    return this.#table.slots;
  }

  slotOf(handle: Handle): number {
    return this.#table.slotOf(handle);
  }

  nowMs(): number {
    return this.#table.nowMs();
  }

  /** What happened up to the last `observe` since it was called last. */
  collect(): Activity {
    [this.#reading, this.#filling] = [this.#filling, this.#reading];
    this.#filling.fill(0);
    return { rows: this.#table.slots, data: this.#reading };
  }

  /** Takes in what was collected from the table, which tells everything once only. */
  observe({ rows, data }: Activity): void {
    const { columns } = this.constants.collect;
    for (let i = 0; i < rows * columns; i++) this.#filling[i]! += data[i]!;
  }

  levels(): Activity {
    return this.#table.levels();
  }

  peek(handle: Handle, cost: number) {
    return this.#table.peek(handle, cost);
  }

  setBorrowShares(shares: Float64Array, slots: number, stock?: number, mayTakeStock?: Uint8Array): void {
    this.#table.setBorrowShares(shares, slots, stock, mayTakeStock);
  }

  setResource(ratePerSec: number, burst: number): void {
    this.#table.setResource(ratePerSec, burst);
  }

  extendValidity(forMs: number): boolean {
    return this.#table.extendValidity(forMs);
  }

  tick() {
    this.reclaimExpired();
    const done = this.#table.tick();
    this.#lend(done.returned);
    return done;
  }

  allocate(pairs: Float64Array, slots: number, reservoirTakesRest: boolean): void {
    this.reclaimExpired();
    const before = this.#reservoirTokens();
    this.#table.allocate(pairs, slots, reservoirTakesRest);
    this.#lend(this.#reservoirTokens() - before);
    this.#ratePerSec = 0;
    for (let slot = 1; slot < slots; slot++) if (this.#isReal(slot)) this.#ratePerSec += pairs[slot * 2]!;
  }

  deposit(handle: Handle, tokens: number, forMs: number): number {
    const moved = this.#table.deposit(handle, tokens, forMs);
    if (this.counting && this.#isReal(this.slotOf(handle))) this.#granted += moved;
    return moved;
  }

  withdraw(handle: Handle): number {
    const back = this.#table.withdraw(handle);
    this.#lend(back);
    return back;
  }

  reclaimExpired(): number {
    const back = this.#table.reclaimExpired();
    this.#lend(back);
    return back;
  }

  /** What real targets took from their own buckets in a time in which rates did not change. */
  account(elapsedS: number, usedTokens: number): void {
    if (!this.counting) return;
    this.#granted += this.#ratePerSec * elapsedS;
    this.#used += usedTokens;
  }

  /** Tokens that real targets were given and that were neither used nor lent. */
  get withheldTokens(): number {
    return Math.max(0, this.#granted - this.#used - this.#lent);
  }

  #lend(tokens: number): void {
    if (this.counting && this.#lends) this.#lent += Math.max(0, tokens);
  }

  #reservoirTokens(): number {
    return this.#table.peek(0, 1)?.tokens ?? 0;
  }
}
