import type { NameTable } from './names.js';
import type { PackedRecord } from './protocol.js';

export interface QueuedRecord {
  readonly record: PackedRecord;
  /** The table its targets' numbers come from, and how many names it held when the record was packed. */
  readonly names: NameTable;
  readonly nameCount: number;
}

/** Somebody waits until everything before it is stored. */
export interface Barrier {
  /** Records before it that were lost. */
  lost: number;
  resolve(): void;
  reject(error: Error): void;
}

/** Bytes a queued record takes beside its buffer, roughly. */
const overheadBytes = 500;
const sizeOf = ({ record }: QueuedRecord): number => record.buffer.byteLength + overheadBytes;

/** Records and barriers in order, with records of at most so many bytes: the oldest go first. */
export class Queue {
  readonly #entries: (QueuedRecord | Barrier)[] = [];
  readonly #limitBytes: number;
  #records = 0;
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get records(): number {
    return this.#records;
  }

  /** @returns the records that had to go to make room; the one that comes always has room */
  push(entry: QueuedRecord): QueuedRecord[] {
    this.#entries.push(entry);
    this.#records += 1;
    this.#bytes += sizeOf(entry);
    const dropped: QueuedRecord[] = [];
    while (this.#bytes > this.#limitBytes && this.#records > 1) dropped.push(this.dropOldest()!);
    return dropped;
  }

  pushBarrier(barrier: Barrier): void {
    this.#entries.push(barrier);
  }

  dropOldest(): QueuedRecord | undefined {
    const at = this.#entries.findIndex(isRecord);
    if (at < 0) return undefined;
    // Every barrier waits for it: those before the oldest record wait for records in flight only.
    for (const entry of this.#entries.slice(at)) if (!isRecord(entry)) entry.lost += 1;
    const [dropped] = this.#entries.splice(at, 1) as [QueuedRecord];
    this.#records -= 1;
    this.#bytes -= sizeOf(dropped);
    return dropped;
  }

  /** The barrier that waits for nothing but records in flight, if there is one. */
  takeBarrier(): Barrier | undefined {
    const head = this.#entries[0];
    return head === undefined || isRecord(head) ? undefined : (this.#entries.shift() as Barrier);
  }

  /** The records before the first barrier. */
  takeRecords(): QueuedRecord[] {
    const barrier = this.#entries.findIndex((entry) => !isRecord(entry));
    const taken = this.#entries.splice(0, barrier < 0 ? this.#entries.length : barrier) as QueuedRecord[];
    this.#records -= taken.length;
    for (const entry of taken) this.#bytes -= sizeOf(entry);
    return taken;
  }

  /** Barriers that wait, without the records. */
  takeBarriers(): Barrier[] {
    const barriers = this.#entries.filter((entry): entry is Barrier => !isRecord(entry));
    const records = this.#entries.filter(isRecord);
    this.#entries.splice(0, this.#entries.length, ...records);
    return barriers;
  }

  /** Tells every barrier that records before all of them were lost. */
  lostInFlight(count: number): void {
    for (const entry of this.#entries) if (!isRecord(entry)) entry.lost += count;
  }
}

const isRecord = (entry: QueuedRecord | Barrier): entry is QueuedRecord => 'record' in entry;
