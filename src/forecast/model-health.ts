/** How long a model must have been well for a relapse to be told of at once, ms. */
const wellMs = 60_000;
/** How long any other relapse must last to be told of, ms. */
const lastingMs = 10_000;

/**
 * Tells of a model that fails, and of one that works again. The first failure is told of at once; once it was well again,
 * the next only after a minute in which no step failed, or when it has lasted for ten seconds: on a busy machine single
 * steps are late several times a minute. What was not told of does not end with an event either.
 */
export class ModelHealth {
  readonly #stepMs: number;
  readonly #tell: (message: string) => void;
  #works = true;
  /** Since the step that failed last, ms. */
  #wellMs = Number.POSITIVE_INFINITY;
  /** Of steps that failed one after the other, ms. */
  #illMs = 0;
  #isRelapse = false;
  #isTold = false;

  constructor(stepMs: number, tell: (message: string) => void) {
    this.#stepMs = stepMs;
    this.#tell = tell;
  }

  /** Whether the last step found it working. */
  get works(): boolean {
    return this.#works;
  }

  worked(): void {
    this.#works = true;
    this.#illMs = 0;
    this.#wellMs += this.#stepMs;
    if (this.#isTold) this.#tell('the model forecasts again');
    this.#isTold = false;
  }

  failed(reason: string): void {
    if (this.#works) this.#isRelapse = this.#wellMs < wellMs;
    this.#works = false;
    this.#wellMs = 0;
    this.#illMs += this.#stepMs;
    if (this.#isTold || (this.#isRelapse && this.#illMs < lastingMs)) return;
    this.#tell(`classical forecasters for now: ${reason}`);
    this.#isTold = true;
  }
}
