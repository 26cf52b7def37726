import type { BucketTable, Handle } from './table.js';

/** How often chunks that have not been renewed since the last look are given back. */
const sweepMs = 50;
/** Requests decided one by one between two looks at a target's pace. */
const askEvery = 8;
/** The table in 32-bit words: in the header the promise's low half; then the buckets. */
const promiseWord = 32;
const headerWords = 1024;
/** Of a bucket: the epoch is the low byte of the first word, the generation the last. */
const wordsPerBucket = 16;
const generationWord = 15;

/**
 * What one thread holds of one target: a chunk of tokens, taken from the bucket and counted as admitted when it was
 * leased, spent here without asking anyone. It may be spent while the target's epoch and generation and the promise are
 * what they were: any change of rate, burst, deposit or limit, a line that forms, removal, and a promise that is extended
 * or lapses end it at the next request.
 */
export class Lease {
  readonly handle: Handle;
  readonly #table: BucketTable;
  readonly #leases: Leases;
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #generation: number;
  readonly #grain: number;
  #left = 0;
  #epoch = -1;
  #promise = -1;
  #held = 0;
  #served = 0;
  /** Tokens asked for one by one, and how often, since `#sinceMs` (region time; 0: never looked). */
  #askedTokens = 0;
  #asked = 0;
  #sinceMs = 0;
  #renewed = false;

  constructor(handle: Handle, table: BucketTable, leases: Leases) {
    this.handle = handle;
    this.#table = table;
    this.#leases = leases;
    this.#words = table.words;
    this.#at = headerWords + table.slotOf(handle) * wordsPerBucket;
    this.#generation = Math.floor(handle / table.constants.indexSpan);
    this.#grain = table.grain;
  }

  /** As `BucketTable.tryAcquire`, from the chunk while it lasts. */
  tryAcquire(cost: number): number {
    const words = this.#words;
    const at = this.#at;
    if (
      cost <= this.#left &&
      cost >= this.#grain &&
      (words[at]! & 0xff) === this.#epoch &&
      words[promiseWord] === this.#promise &&
      words[at + generationWord] === this.#generation
    ) {
      this.#left -= cost;
      this.#served++;
      return 1;
    }
    return this.#ask(cost);
  }

  #ask(cost: number): number {
    if (cost > 0) this.#askedTokens += cost;
    if (this.#held > 0 || ++this.#asked >= askEvery) {
      const answer = this.#renew(this.#held - this.#left + this.#askedTokens, cost);
      if (answer < 0) return answer;
      if (cost <= this.#left && cost >= this.#grain) {
        this.#left -= cost;
        this.#served++;
        return 1;
      }
    }
    return this.#table.tryAcquire(this.handle, cost);
  }

  #renew(askedTokens: number, cost: number): number {
    const { held, epoch, promise, nowMs, decision } = this.#table.lease(
      this.handle,
      { held: this.#held, left: this.#left, served: this.#served },
      { askedTokens, sinceMs: this.#sinceMs, cost },
    );
    this.#held = held;
    this.#left = held;
    this.#epoch = epoch;
    this.#promise = promise;
    this.#sinceMs = nowMs;
    this.#served = 0;
    this.#askedTokens = 0;
    this.#asked = 0;
    this.#renewed = true;
    if (held > 0) this.#leases.keep(this);
    else this.#leases.drop(this);
    return decision < 0 ? decision : 0;
  }

  /** Gives back what was not spent; the counters are exact afterwards. */
  giveBack(): void {
    if (this.#held > 0) this.#renew(0, 1);
  }

  /** Gives back a chunk that has lain since the last look. */
  sweep(): void {
    if (this.#renewed) this.#renewed = false;
    else this.giveBack();
  }
}

/** The leases of one thread; one timer for all, and none while nothing is held. */
export class Leases {
  readonly #table: BucketTable;
  readonly #active = new Set<Lease>();
  #timer: NodeJS.Timeout | undefined;

  constructor(table: BucketTable) {
    this.#table = table;
  }

  of(handle: Handle): Lease {
    return new Lease(handle, this.#table, this);
  }

  /** Targets of which this thread holds a chunk. */
  get active(): number {
    return this.#active.size;
  }

  keep(lease: Lease): void {
    this.#active.add(lease);
    this.#timer ??= setInterval(() => {
      for (const each of this.#active) each.sweep();
    }, sweepMs).unref();
  }

  drop(lease: Lease): void {
    this.#active.delete(lease);
    if (this.#active.size > 0 || !this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  close(): void {
    for (const lease of this.#active) lease.giveBack();
  }
}
