import { ForetokenError } from '../errors.js';
import type { DemandMatrix } from './store.js';

/** Most numbers a matrix may hold, 1 GiB. */
const maxCells = 2 ** 28;

/**
 * Collects rows of steps into a matrix of demand on an even grid that ends at `toMs`. A step falls
 * whole into the cell that holds its middle, so that steps that begin some ms early or late stay one
 * to a cell. A step much longer than a cell is spread over the cells it covers.
 */
export class DemandGrid {
  readonly fromMs: number;
  readonly #steps: number;
  readonly #stepMs: number;
  readonly #columns: (Float32Array | undefined)[] = [];
  #targets = 0;
  #first: number;

  constructor(steps: number, stepMs: number, toMs: number) {
    this.#steps = steps;
    this.#stepMs = stepMs;
    this.fromMs = toMs - steps * stepMs;
    this.#first = steps;
  }

  /** @param id small whole number of the target */
  add(id: number, timeMs: number, stepMs: number, demand: number): void {
    const from = (timeMs - this.fromMs) / this.#stepMs;
    const length = stepMs / this.#stepMs;
    if (length < 1.5) {
      const cell = Math.floor(from + length / 2);
      if (cell >= 0 && cell < this.#steps) this.#put(id, cell, demand);
      return;
    }
    const last = Math.min(this.#steps, Math.ceil(from + length));
    for (let cell = Math.max(0, Math.floor(from)); cell < last; cell++) {
      const covered = Math.min(cell + 1, from + length) - Math.max(cell, from);
      if (covered > 0) this.#put(id, cell, (demand * covered) / length);
    }
  }

  #put(id: number, cell: number, demand: number): void {
    let column = this.#columns[id];
    if (column === undefined) {
      this.#targets += 1;
      if (this.#targets * this.#steps > maxCells) {
        throw new ForetokenError(
          'INVALID_ARGUMENT',
          `history: recentDemand of ${this.#steps} steps has too many targets`,
        );
      }
      column = new Float32Array(this.#steps);
      this.#columns[id] = column;
    }
    column[cell]! += demand;
    if (cell < this.#first) this.#first = cell;
  }

  /** Targets in the order of their names; cells before the first row are left out. */
  matrix(nameOf: (id: number) => string): DemandMatrix {
    const found: { name: string; column: Float32Array }[] = [];
    this.#columns.forEach((column, id) => {
      if (column !== undefined) found.push({ name: nameOf(id), column });
    });
    found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    const width = found.length;
    const steps = this.#steps - this.#first;
    const data = new Float32Array(steps * width);
    found.forEach(({ column }, at) => {
      for (let step = 0; step < steps; step++) data[step * width + at] = column[this.#first + step]!;
    });
    return {
      timeMs: this.fromMs + this.#first * this.#stepMs,
      stepMs: this.#stepMs,
      steps,
      targets: found.map(({ name }) => name),
      data,
    };
  }
}

/** @throws ForetokenError INVALID_ARGUMENT */
export function checkGrid(steps: number, stepMs: number, toMs: number | undefined): void {
  const refuse = (name: string, value: unknown, expected: string): never => {
    throw new ForetokenError('INVALID_ARGUMENT', `history: ${name} must be ${expected}, got ${String(value)}`);
  };
  if (!Number.isInteger(steps) || steps < 1 || steps > maxCells) refuse('steps', steps, 'a whole number above 0');
  if (!(stepMs > 0) || !Number.isFinite(stepMs)) refuse('stepMs', stepMs, 'a number above 0');
  if (toMs !== undefined && !Number.isFinite(toMs)) refuse('toMs', toMs, 'a finite number');
}
