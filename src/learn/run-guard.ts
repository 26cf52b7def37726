/** Words of a guard, Int32 each. */
const word = {
  /** 1 while the runtime computes in the guarded thread. */
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

  /** Marks the thread as busy while `work` runs. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    Atomics.store(this.#words, word.busy, 1);
    try {
      return await work();
    } finally {
      Atomics.store(this.#words, word.busy, 0);
      Atomics.notify(this.#words, word.busy);
    }
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
