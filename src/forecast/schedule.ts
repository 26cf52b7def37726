/** Recent steps kept to refine on: fewer, the more rows there are, as memory goes with both. */
const mostSteps = 8192;
const leastSteps = 2048;
const mostKept = 2 ** 21;
/** Demands refined on at most, rows times steps: those of the busiest rows. More teach little and cost in proportion. */
const mostDemands = 2 ** 19;

/** The demand of the last steps, for refinement. */
export class RecentDemand {
  readonly #ring: Float32Array[] = [];
  #count = 0;

  /** Steps seen in all. */
  get steps(): number {
    return this.#count;
  }

  push(demand: Float64Array, rows: number): void {
    this.#count++;
    // The oldest array is used again where it fits, so a steady system allocates nothing.
    const kept = Math.max(leastSteps, Math.min(mostSteps, Math.floor(mostKept / Math.max(1, rows))));
    let spare: Float32Array | undefined;
    while (this.#ring.length >= kept) spare = this.#ring.shift();
    const step = spare?.length === rows ? spare : new Float32Array(rows);
    step.set(demand.subarray(0, rows));
    this.#ring.push(step);
  }

  /** Demand of a step, counted from 1; undefined where it is no longer kept. */
  at(step: number): Float32Array | undefined {
    return step > this.#count - this.#ring.length ? this.#ring[step - 1 - this.#count + this.#ring.length] : undefined;
  }

  reset(row: number): void {
    for (const step of this.#ring) if (row < step.length) step[row] = 0;
  }

  /** The busiest rows, `data[step * rows + row]`, oldest first, and where in the table each stands, ascending. */
  matrix(): { rows: number; steps: number; data: Float32Array; places: number[] } {
    const sums: number[] = [];
    for (const step of this.#ring)
      for (let row = 0; row < step.length; row++) sums[row] = (sums[row] ?? 0) + step[row]!;
    const places = sums
      .map((sum, row) => ({ sum, row }))
      .filter(({ sum }) => sum > 0)
      .sort((a, b) => b.sum - a.sum || a.row - b.row)
      .slice(0, Math.floor(mostDemands / this.#ring.length))
      .map(({ row }) => row)
      .sort((a, b) => a - b);
    const rows = places.length;
    const data = new Float32Array(this.#ring.length * rows);
    this.#ring.forEach((step, s) => {
      places.forEach((row, i) => {
        data[s * rows + i] = step[row] ?? 0;
      });
    });
    return { rows, steps: this.#ring.length, data, places };
  }
}

/**
 * What a training step is taken to cost, ms of one core, where a budget is given in time: measured at hidden
 * 48, windows of 64 steps and 32 rows.
 */
export const trainingStepCostMs = 6;
/** Part of one core that refinement may use. */
export const refinementCpuPart = 0.1;

/** Steps of history before the first refinement; the next come when there is half as much again. */
const firstAt = 300;
const growth = 0.5;
const longestPause = 1024;
const mostPerRefinement = 300;
/** Of a run that must end soon and be repeatable. */
export const mostInReplay = 2000;

/**
 * When to refine, and for how many training steps: as history grows by half, within a tenth of one core at a stated
 * cost a step.
 */
export class RefinementSchedule {
  readonly #stepMs: number;
  readonly #costMs: number;
  #nextAt = firstAt;
  readonly #mostInAll: number;
  #spent = 0;

  constructor(stepMs: number, costMs: number, mostInAll = Number.POSITIVE_INFINITY) {
    this.#mostInAll = mostInAll;
    this.#stepMs = stepMs;
    this.#costMs = costMs;
  }

  /** Training steps to do now; 0: not yet. */
  due(steps: number): number {
    if (steps < this.#nextAt) return 0;
    const earned = Math.floor((steps * this.#stepMs * refinementCpuPart) / this.#costMs) - this.#spent;
    const allowed = Math.min(mostPerRefinement, this.#mostInAll - this.#spent, earned);
    this.#nextAt = steps + Math.min(Math.floor(growth * steps), longestPause);
    return Math.max(0, allowed);
  }

  spent(trainingSteps: number): void {
    this.#spent += trainingSteps;
  }
}
