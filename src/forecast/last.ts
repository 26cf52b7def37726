import { type ForecastFrame, quantileCount } from './forecaster.js';

/** How many times the last value each level is taken to be. */
const factors = [1, 1.25, 1.5, 2, 3] as const;

/** The lowest rung: what was asked for in the last step goes on, with a margin that grows with the level. */
export class LastValue {
  readonly #stepS: number;

  constructor(stepMs: number) {
    this.#stepS = stepMs / 1000;
  }

  /** Fills a frame; every horizon is the same. */
  predict(demand: ArrayLike<number>, rows: number, frame: ForecastFrame): void {
    frame.rows = rows;
    const horizons = frame.horizonsMs.length;
    for (let row = 0; row < rows; row++)
      for (let h = 0; h < horizons; h++) {
        const at = (row * horizons + h) * quantileCount;
        for (let q = 0; q < quantileCount; q++) frame.quantiles[at + q] = (demand[row]! / this.#stepS) * factors[q]!;
      }
    frame.engine.fill(0, 0, rows * horizons);
  }
}
