import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';

// DuckDB's binding aborts the process when its thread is ended while a query runs: the answer comes to
// an environment that takes none. Node ends workers, and their workers, without asking them. So whoever
// ends threads asks first that nothing more is begun, and waits until what runs has ended.

/** Two words for each worker: its state, and whether it is asked to stop. */
const wordsEach = 2;
const maxWorkers = 256;
const free = 0;
const idle = 1;
const busy = 2;

/** Longest that a process waits on its way out. A compaction of 10,000 targets takes 0.3 s. */
const longestWaitMs = 5_000;

const key = 'foretoken:history:exit-gate';

/** A worker's place, as it is handed to the worker. */
export interface GatePlace {
  buffer: SharedArrayBuffer;
  at: number;
}

let words: Int32Array | undefined;
const own = new Set<number>();

/**
 * Makes the end of this thread wait for the history workers below it. Opening a history does it for the
 * thread that opens. A thread that starts others which open histories must call it before it starts
 * them, since the exit handlers of a thread do not run when another ends it.
 */
export function prepareExit(): Int32Array {
  if (words !== undefined) return words;
  const inherited: unknown = getEnvironmentData(key);
  const isRoot = !(inherited instanceof SharedArrayBuffer);
  const buffer = isRoot ? new SharedArrayBuffer(4 * wordsEach * maxWorkers) : inherited;
  if (isRoot) setEnvironmentData(key, buffer);
  const gate = new Int32Array(buffer);
  const all = Array.from({ length: maxWorkers }, (_, n) => n * wordsEach);
  process.on('exit', () => stopAndWait(gate, isRoot ? all : [...own]));
  words = gate;
  return gate;
}

function stopAndWait(gate: Int32Array, places: readonly number[]): void {
  for (const at of places) Atomics.store(gate, at + 1, 1);
  const deadlineMs = performance.now() + longestWaitMs;
  for (const at of places) {
    for (let left = longestWaitMs; left > 0 && Atomics.load(gate, at) === busy; left = deadlineMs - performance.now()) {
      Atomics.wait(gate, at, busy, left);
    }
  }
}

/** A place for a worker about to start, busy until it says otherwise; undefined if all are taken. */
export function claimPlace(): GatePlace | undefined {
  const gate = prepareExit();
  for (let at = 0; at < gate.length; at += wordsEach) {
    if (Atomics.compareExchange(gate, at, free, busy) !== free) continue;
    own.add(at);
    return { buffer: gate.buffer as SharedArrayBuffer, at };
  }
  return undefined;
}

/** Gives the place of a worker back that is gone. */
export function releasePlace(place: GatePlace | undefined): void {
  if (place === undefined || words === undefined) return;
  own.delete(place.at);
  Atomics.store(words, place.at + 1, 0);
  Atomics.store(words, place.at, free);
  Atomics.notify(words, place.at);
}

/** The worker's side. */
export class ExitGate {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(place: GatePlace | undefined) {
    this.#words = place === undefined ? new Int32Array(wordsEach) : new Int32Array(place.buffer);
    this.#at = place?.at ?? 0;
  }

  /** @returns false if nothing must be begun any more: the thread is about to be ended */
  enter(): boolean {
    // Busy first, then the look at the request: whoever asks looks the other way round.
    Atomics.store(this.#words, this.#at, busy);
    if (Atomics.load(this.#words, this.#at + 1) === 0) return true;
    this.leave();
    return false;
  }

  leave(): void {
    Atomics.store(this.#words, this.#at, idle);
    Atomics.notify(this.#words, this.#at);
  }
}
