import { Piscina } from 'piscina';
import { type ErrorRecord, ForetokenError, messageOf } from '../errors.js';
import { inTime } from '../in-time.js';
import { guardExit, RunGuard, unguardExit } from '../learn/run-guard.js';
import { workerFile } from '../paths.js';
import type { InferenceTask } from './inference-task.js';

/** How often a task under way is looked at, ms. */
export const lookMs = 1_000;
/**
 * So many looks one after the other, 10 s, that find a task where it was mean that its thread hangs: what lies between two
 * places is the work for 1,024 rows, which takes milliseconds, however many there are. Looks and not a time, because where
 * the whole process stood still only one of them comes due.
 */
export const mostLooks = 10;
/** The same of a thread that has answered nothing yet: from a cold disk the runtime takes seconds to load. */
export const mostFirstLooks = 20;
/** How long a thread that is free may take to end, ms. */
const endPatienceMs = 1_000;

type Task = Omit<InferenceTask, 'guard'>;

/**
 * The one thread that computes, in a pool of its own. It is ended only while the runtime does not work in it, as that
 * would abort the process; one that hangs in the runtime is left behind. What is left behind changes nothing any more,
 * since it looks whether it was asked to stop whenever the runtime returns.
 */
export class InferenceWorker {
  readonly #guard = new RunGuard();
  readonly #pool: Piscina;
  /** The task under way. */
  #work: Promise<unknown> | undefined;
  #hasAnswered = false;

  constructor() {
    // Until the thread says otherwise the runtime is being loaded.
    this.#guard.hold();
    this.#pool = new Piscina({
      filename: workerFile('forecast/lstm-worker'),
      execArgv: [],
      // One that dies is not replaced here: whoever computes must know how often.
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      // Between steps the thread sleeps in the event loop; spinning or blocking would gain nothing here.
      atomics: 'disabled',
    });
    // A death is reported by the task that was lost with it.
    this.#pool.on('error', () => {});
    guardExit(this.#guard);
  }

  /** Whether the thread is gone, or was never begun. */
  get isGone(): boolean {
    return this.#pool.threads.length === 0;
  }

  /**
   * One task at a time. After an error the worker is of no use and to be ended.
   * @throws ForetokenError WORKER_FAILED if the thread died or hangs
   */
  async run(task: Task): Promise<ErrorRecord | undefined> {
    const pool = this.#pool;
    let fail: (error: Error) => void = () => {};
    const failing = new Promise<never>((_, reject) => {
      fail = reject;
    });
    const die = (cause: unknown) =>
      fail(new ForetokenError('WORKER_FAILED', `the inference worker died: ${messageOf(cause)}`, { cause }));
    // A thread that ends before it is up takes no task with it: the task would wait for ever.
    const onExit = () => die(new Error('its thread ended'));
    pool.once('error', die);
    const work = pool.run({ ...task, guard: this.#guard.buffer } satisfies InferenceTask);
    const { threads } = pool;
    for (const thread of threads) thread.once('exit', onExit);
    const answer = new Promise<ErrorRecord | undefined>((resolve) => {
      void work.then(resolve, die);
    });
    this.#work = work;
    const most = this.#hasAnswered ? mostLooks : mostFirstLooks;
    const words = new Int32Array(task.control);
    let place = words.join();
    let looks = 0;
    const timer = setInterval(() => {
      const now = words.join();
      looks = now === place ? looks + 1 : 0;
      place = now;
      if (looks >= most)
        fail(
          new ForetokenError('WORKER_FAILED', `the inference worker hangs: nothing for ${(most * lookMs) / 1000} s`),
        );
    }, lookMs);
    timer.unref();
    try {
      const record = await Promise.race([answer, failing]);
      this.#work = undefined;
      this.#hasAnswered = true;
      return record;
    } finally {
      clearInterval(timer);
      pool.off('error', die);
      for (const thread of threads) thread.off('exit', onExit);
    }
  }

  /** Asks the thread to begin nothing more. */
  stop(): void {
    this.#guard.stop();
  }

  /**
   * Ends the thread, within a second. Nothing is changed any more once it has ended or was left behind.
   * @returns undefined, or, if it was left behind, what settles when it is gone
   */
  async end(): Promise<{ gone: Promise<void> } | undefined> {
    this.#guard.stop();
    const destroy = async () => {
      await this.#pool.destroy();
      unguardExit(this.#guard);
    };
    if (this.#work && !this.isGone && this.#guard.busy) return { gone: this.#work.then(destroy, destroy) };
    await inTime(endPatienceMs, destroy(), () => new Error('it does not end')).catch(() => {});
    return undefined;
  }
}
