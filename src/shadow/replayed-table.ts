import type { ControlledTable } from '../control/fast-loop.js';
import { grown } from '../grown.js';
import { type Activity, BucketTable, type Handle } from '../table/table.js';
import { column, columns, type Traffic } from './traffic.js';

/** A tick is played in so many equal parts. */
const parts = 10;
/** How long an allocation here holds without being renewed, ms: nothing here falls back because a clock leapt. */
const holdsForMs = 86_400_000;

/** Who has which place: by slot of the live table, where its requests go here. */
export interface Seating {
  /** 0: nowhere. */
  handleOf(liveSlot: number): Handle;
}

/**
 * A table of its own, on a clock of its own, of which is asked what was asked of the live one. What it decides nobody
 * is told; whoever controls it collects the live demand with what this table made of it.
 *
 * The live controller sees sums per tick, not requests. So the requests of a target in a tick cost the same here, come
 * evenly spread over the tick (in ten parts), and are denied where tokens end: a fluid within a tick. What that leaves
 * out is how bursts within a tick met a bucket, which is at most about what a tick's worth of rate or a bucket smaller
 * than the tick's demand decides.
 */
export class ReplayedTable implements ControlledTable {
  readonly table: BucketTable;
  #nowMs = 0;
  // The tick that is played, an entry for each of its rows that has a place here.
  #rows = 0;
  #from = new Uint32Array(0);
  #handles = new Float64Array(0);
  #requests = new Float64Array(0);
  #costs = new Float64Array(0);
  #served = new Float64Array(0);
  #traffic: Traffic | undefined;
  // A part of it.
  #batch = new Uint32Array(0);
  #batchHandles = new Float64Array(0);
  #batchCosts = new Float64Array(0);
  #batchRequests = new Float64Array(0);
  #decisions = new Int32Array(0);
  // By slot of this table.
  /** What a request cost lately, tokens. */
  #usualCost: Float64Array;
  /** Demand that was taken back, because a lease was: to be taken off what is asked next, tokens. */
  #taken: Float64Array;

  constructor(options: { capacity: number; ratePerSec: number; burst: number }) {
    this.table = BucketTable.create({ ...options, clock: 'virtual' });
    this.table.extendValidity(holdsForMs);
    this.#usualCost = new Float64Array(64).fill(1);
    this.#taken = new Float64Array(64);
  }

  /**
   * Plays what was asked for in a tick, up to its end.
   * @param account told of every row that has a place: what was asked of this table, and what of it was denied
   */
  play(
    traffic: Traffic,
    seating: Seating,
    account: (liveSlot: number, asked: number, denied: number, cost: number) => void,
  ): void {
    this.#take(traffic, seating);
    for (let part = 0; part < parts; part++) {
      this.table.advanceTo(this.#nowMs + ((part + 0.5) / parts) * traffic.tickMs);
      this.#playPart(part);
    }
    this.#nowMs += traffic.tickMs;
    this.table.advanceTo(this.#nowMs);
    for (let row = 0; row < this.#rows; row++) {
      const requests = this.#requests[row]!;
      if (requests === 0) continue;
      const liveSlot = traffic.data[this.#from[row]! + column.slot]!;
      account(liveSlot, requests, requests - this.#served[row]!, this.#costs[row]!);
    }
  }

  /** Who asks for how much. */
  #take(traffic: Traffic, seating: Seating): void {
    this.#fit(traffic.rows, this.table.slots);
    this.#traffic = traffic;
    this.#rows = 0;
    const { data } = traffic;
    for (let from = 0; from < traffic.rows * columns; from += columns) {
      const handle = seating.handleOf(data[from + column.slot]!);
      if (handle === 0) continue;
      const slot = this.table.slotOf(handle);
      const row = this.#rows++;
      this.#from[row] = from;
      this.#handles[row] = handle;
      this.#served[row] = 0;
      this.#requests[row] = 0;
      const tokens = data[from + column.demandTokens]! - data[from + column.unmeteredTokens]! - this.#taken[slot]!;
      this.#taken[slot] = Math.max(0, -tokens);
      if (!(tokens > this.table.grain)) continue;
      let requests = data[from + column.arrivals]! - data[from + column.unmetered]!;
      // A lease counts tokens when it is had and requests when it is settled.
      if (requests > 0) this.#usualCost[slot] = tokens / requests;
      else requests = Math.max(1, Math.round(tokens / this.#usualCost[slot]!));
      this.#requests[row] = requests;
      this.#costs[row] = tokens / requests;
    }
  }

  #playPart(part: number): void {
    let count = 0;
    for (let row = 0; row < this.#rows; row++) {
      const requests = this.#requests[row]!;
      const due = Math.floor(((part + 1) * requests) / parts + 0.5) - Math.floor((part * requests) / parts + 0.5);
      if (due === 0) continue;
      this.#batch[count] = row;
      this.#batchHandles[count] = this.#handles[row]!;
      this.#batchCosts[count] = due * this.#costs[row]!;
      this.#batchRequests[count] = due;
      count++;
    }
    if (count === 0) return;
    this.table.acquireBatch(
      this.#batchHandles.subarray(0, count),
      this.#batchCosts.subarray(0, count),
      count,
      this.#decisions.subarray(0, count),
    );
    for (let i = 0; i < count; i++) {
      const row = this.#batch[i]!;
      const due = this.#batchRequests[i]!;
      this.#served[row]! += this.#decisions[i]! > 0 ? due : due > 1 ? this.#serveSome(row, due) : 0;
    }
  }

  /** As many of so many requests as there are tokens for, found by halving. */
  #serveSome(row: number, due: number): number {
    const handle = this.#handles[row]!;
    const cost = this.#costs[row]!;
    let left = due;
    for (let some = Math.floor(due / 2); some >= 1; ) {
      if (this.table.tryAcquire(handle, some * cost) > 0) left -= some;
      else some = Math.floor(some / 2);
      some = Math.min(some, left);
    }
    return due - left;
  }

  // ---- as the loops see it ----

  get constants() {
    return this.table.constants;
  }

  get slots(): number {
    return this.table.slots;
  }

  slotOf(handle: Handle): number {
    return this.table.slotOf(handle);
  }

  nowMs(): number {
    return this.#nowMs;
  }

  /** The demand of the tick that was played last, as it was live, and what this table admitted of it. */
  collect(): Activity {
    const activity = this.table.collect();
    const c = this.constants.collect;
    const { data } = activity;
    for (let row = 0; row < this.#rows; row++) {
      const from = this.#from[row]!;
      const live = this.#traffic!.data;
      const at = this.table.slotOf(this.#handles[row]!) * c.columns;
      data[at + c.arrivals] = live[from + column.arrivals]!;
      data[at + c.demandTokens] = live[from + column.demandTokens]!;
      data[at + c.unmetered] = live[from + column.unmetered]!;
      data[at + c.unmeteredTokens] = live[from + column.unmeteredTokens]!;
      data[at + c.admitted] = this.#served[row]!;
      data[at + c.denied] = this.#requests[row]! - this.#served[row]!;
      data[at + c.completions] = live[from + column.completions]!;
      data[at + c.durationNs] = live[from + column.durationNs]!;
    }
    this.#rows = 0;
    return activity;
  }

  levels(): Activity {
    return this.table.levels();
  }

  peek(handle: Handle, cost: number) {
    return this.table.peek(handle, cost);
  }

  tick() {
    return this.table.tick();
  }

  allocate(pairs: Float64Array, slots: number, reservoirTakesRest: boolean): void {
    this.table.allocate(pairs, slots, reservoirTakesRest);
  }

  deposit(handle: Handle, tokens: number, forMs: number): number {
    return this.table.deposit(handle, tokens, forMs);
  }

  withdraw(handle: Handle): number {
    return this.table.withdraw(handle);
  }

  reclaimExpired(): number {
    return this.table.reclaimExpired();
  }

  setBorrowShares(shares: Float64Array, slots: number, stock?: number, mayTakeStock?: Uint8Array): void {
    this.table.setBorrowShares(shares, slots, stock, mayTakeStock);
  }

  setResource(ratePerSec: number, burst: number): void {
    this.table.setResource(ratePerSec, burst);
  }

  extendValidity(): boolean {
    return this.table.extendValidity(holdsForMs);
  }

  close(): void {
    this.table.close();
  }

  /** Forgets a slot, because it was given to another target. */
  forget(slot: number): void {
    if (slot >= this.#taken.length) return;
    this.#usualCost[slot] = 1;
    this.#taken[slot] = 0;
  }

  #fit(rows: number, slots: number): void {
    if (rows > this.#requests.length) {
      const size = rows * 2;
      this.#from = new Uint32Array(size);
      this.#batch = new Uint32Array(size);
      this.#handles = new Float64Array(size);
      this.#requests = new Float64Array(size);
      this.#costs = new Float64Array(size);
      this.#served = new Float64Array(size);
      this.#batchHandles = new Float64Array(size);
      this.#batchCosts = new Float64Array(size);
      this.#batchRequests = new Float64Array(size);
      this.#decisions = new Int32Array(size);
    }
    if (slots <= this.#taken.length) return;
    const had = this.#usualCost.length;
    this.#usualCost = grown(this.#usualCost, slots * 2).fill(1, had);
    this.#taken = grown(this.#taken, slots * 2);
  }
}
