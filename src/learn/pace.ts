import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A pause is cut into naps, so that whoever wants the thread to end need not wait long. */
const napMs = 100;
/** A run is rested for as if it had taken at most this long, ms; what is owed beyond it is rested after the next. */
const longestRunMs = 100;

/** What a pace goes by; replaced in tests. */
export interface PaceClock {
  /** Processor time this thread has used, ms. */
  cpuMs(): number;
  nowMs(): number;
  sleep(ms: number): Promise<void>;
}

/**
 * Keeps a thread's processor time to a part of one core by resting between runs. Time before the first rest counts
 * too, from when the pace was made.
 */
export class Pace {
  readonly #part: number;
  readonly #clock: PaceClock;
  readonly #cpuStartMs: number;
  readonly #startMs: number;

  /** @param part of one core, above 0 and at most 1 */
  constructor(part: number, clock: PaceClock = threadClock()) {
    this.#part = part;
    this.#clock = clock;
    this.#cpuStartMs = clock.cpuMs();
    this.#startMs = clock.nowMs();
  }

  /** Processor time used since the start, ms. */
  get usedMs(): number {
    return this.#clock.cpuMs() - this.#cpuStartMs;
  }

  /** Rests until the time used is the part of the time passed that it may be. */
  async rest(stopped: () => boolean = () => false): Promise<void> {
    const clock = this.#clock;
    const dueMs = Math.min(this.#startMs + this.usedMs / this.#part, clock.nowMs() + longestRunMs / this.#part);
    for (let leftMs = dueMs - clock.nowMs(); leftMs > 0 && !stopped(); leftMs = dueMs - clock.nowMs())
      await clock.sleep(Math.min(leftMs, napMs));
  }
}

/** The kernel's account of this thread; elsewhere than on Linux all time that was not slept away counts as used. */
function threadClock(): PaceClock {
  let sleptMs = 0;
  const nowMs = () => performance.now();
  return {
    nowMs,
    cpuMs: () => kernelCpuMs() ?? nowMs() - sleptMs,
    sleep: async (ms) => {
      const before = nowMs();
      await sleep(ms);
      sleptMs += nowMs() - before;
    },
  };
}

/** The first number is the time on a processor, ns. */
function kernelCpuMs(): number | undefined {
  try {
    const ns = Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]);
    return ns > 0 ? ns / 1e6 : undefined;
  } catch {
    return undefined;
  }
}
