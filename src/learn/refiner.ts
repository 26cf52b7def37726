import { Piscina } from 'piscina';
import { ForetokenError, fromErrorRecord } from '../errors.js';
import { workerFile } from '../paths.js';
import type { RefineRequest, RefineResult } from './refine.js';
import type worker from './refine-worker.js';
import type { RefineTask } from './refine-worker.js';
import { guardExit, RunGuard, unguardExit } from './run-guard.js';

/** Refines in a thread of its own, so that forecasts go on meanwhile. One refinement at a time. */
export class Refiner implements AsyncDisposable {
  /** Whoever may end the process must know it: see `guardExit`. */
  readonly guard = new RunGuard();
  readonly #pool: Piscina;
  #closed = false;

  constructor() {
    this.#pool = new Piscina({
      filename: workerFile('learn/refine-worker'),
      execArgv: [],
      // The thread goes when there is nothing to learn: it holds a runtime's memory.
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: 1_000,
      atomics: 'disabled',
    });
    // A death is reported by the refinement that was lost with it.
    this.#pool.on('error', () => {});
    guardExit(this.guard);
  }

  /**
   * @param cpuPart part of one core it may use, measured; undefined: as much as it takes
   * @throws ForetokenError WORKER_FAILED if the thread died; CLOSED if it was closed meanwhile
   */
  async run(request: RefineRequest, cpuPart?: number): Promise<RefineResult> {
    if (this.#closed) throw new ForetokenError('CLOSED', 'the refiner was closed');
    let result: Awaited<ReturnType<typeof worker>>;
    try {
      result = await this.#pool.run({ ...request, guard: this.guard.buffer, cpuPart } satisfies RefineTask);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ForetokenError('WORKER_FAILED', `the refining worker died: ${reason}`, { cause });
    }
    if ('failure' in result) throw fromErrorRecord(result.failure);
    return result;
  }

  /** Stops a refinement under way before its next training step. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.guard.stop();
    await this.#pool.close();
    unguardExit(this.guard);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
