import { ForetokenError } from '../errors.js';

/** Words of a guard, Int32 each. */
const word = {
  /** 1 while the runtime computes in the guarded thread, or may. */
  busy: 0,
  /** 1 asks the thread to begin nothing more. */
  stop: 1,
} as const;

/** Bytes of a guard's shared memory. */
export const guardBytes = 8;

/** Longest that leaving waits for a run in flight; one takes milliseconds. */
const longestWaitMs = 1_000;

/**
 * Between a thread that runs ONNX sessions and the threads that may end it. Ending a thread, or the process,
 * while the runtime computes aborts the process, so whoever ends it asks for a stop and waits first.
 */
export class RunGuard {
  readonly #words: Int32Array;

  constructor(readonly buffer: SharedArrayBuffer = new SharedArrayBuffer(guardBytes)) {
    this.#words = new Int32Array(buffer);
  }

  get stopped(): boolean {
    return Atomics.load(this.#words, word.stop) === 1;
  }

  stop(): void {
    Atomics.store(this.#words, word.stop, 1);
  }

  get busy(): boolean {
    return Atomics.load(this.#words, word.busy) === 1;
  }

  /** Marks the thread as busy: it must not be ended. */
  hold(): void {
    Atomics.store(this.#words, word.busy, 1);
  }

  release(): void {
    Atomics.store(this.#words, word.busy, 0);
    Atomics.notify(this.#words, word.busy);
  }

  /**
   * Marks the thread as busy while `work` runs. It is marked first and looks for a stop then, so that whoever asks for a
   * stop first and looks whether it is busy then may end it if it is not.
   * @throws ForetokenError CLOSED once a stop was asked for
   */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.hold();
    try {
      this.check();
      return await work();
    } finally {
      this.release();
    }
  }

  /** @throws ForetokenError CLOSED once a stop was asked for */
  check(): void {
    if (this.stopped) throw new ForetokenError('CLOSED', 'the thread was asked to stop');
  }

  /** Asks for a stop and blocks this thread until the run in flight has ended. */
  stopAndWait(): void {
    this.stop();
    Atomics.wait(this.#words, word.busy, 1, longestWaitMs);
  }
}

const guards = new Set<RunGuard>();
let hooked = false;

/**
 * Makes leaving this thread or process wait for the guarded thread. Node ends the workers of a process without
 * running their exit handlers, so the main thread must know the guards of workers' workers too.
 */
export function guardExit(guard: RunGuard): void {
  guards.add(guard);
  if (hooked) return;
  hooked = true;
  process.on('exit', () => {
    for (const each of guards) each.stop();
    for (const each of guards) each.stopAndWait();
  });
}

export const unguardExit = (guard: RunGuard): void => {
  guards.delete(guard);
};
