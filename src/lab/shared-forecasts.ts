import type { Forecaster, ForecastFrame } from '../forecast/forecaster.js';

interface Waiting {
  resolve: (frame: ForecastFrame) => void;
  reject: (reason: unknown) => void;
}

/**
 * One forecaster for several contestants that see the same demand and go step by step together: what all ask in a
 * step is computed once, when the last one asks. Nobody is still at the step before by then, so the frame, which
 * the next step overwrites, is read by nobody either.
 */
export class SharedForecasts {
  readonly #forecaster: Forecaster;
  readonly #parts: number;
  #waiting: Waiting[] = [];
  #open: number;

  constructor(forecaster: Forecaster, parts: number) {
    this.#forecaster = forecaster;
    this.#parts = parts;
    this.#open = parts;
  }

  /** The forecaster as one contestant sees it; to be called once for each. The last to close it closes it for all. */
  part(): Forecaster {
    const close = async (): Promise<void> => {
      this.#open -= 1;
      if (this.#open === 0) await this.#forecaster.close();
    };
    return {
      name: this.#forecaster.name,
      step: (demand, rows) => this.#step(demand, rows),
      reset: (row) => this.#forecaster.reset(row),
      close,
      [Symbol.asyncDispose]: close,
    };
  }

  #step(demand: Float64Array, rows: number): Promise<ForecastFrame> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      if (this.#waiting.length < this.#parts) return;
      const all = this.#waiting;
      this.#waiting = [];
      this.#forecaster.step(demand, rows).then(
        (frame) => {
          for (const one of all) one.resolve(frame);
        },
        (reason: unknown) => {
          for (const one of all) one.reject(reason);
        },
      );
    });
  }
}
