/** Recent steps kept to refine on: fewer, the more rows there are, as memory goes with both. */
const mostSteps = 8192;
const leastSteps = 2048;
const mostKept = 2 ** 21;
/** Demands refined on at most, rows times steps: those of the busiest rows. More teach little and cost in proportion. */
const mostDemands = 2 ** 19;

/** Demand of a step: of all rows, or of those alone that asked, ascending, where that is less. */
interface StepDemand {
  asked?: Uint32Array;
  demand: Float32Array;
}

/** The demand of the last steps, for refinement. Rows that do not ask take no memory beside many that do not. */
export class RecentDemand {
  readonly #ring: StepDemand[] = [];
  #count = 0;
  /** In the last step. */
  #rows = 0;

  /** Steps seen in all. */
  get steps(): number {
    return this.#count;
  }

  push(demand: Float64Array, rows: number): void {
    this.#count++;
    this.#rows = rows;
    const most = this.most;
    let oldest: StepDemand | undefined;
    while (this.#ring.length >= most) oldest = this.#ring.shift();
    let count = 0;
    for (let row = 0; row < rows; row++) if (demand[row]! > 0) count++;
    if (2 * count < rows) {
      const asked = new Uint32Array(count);
      const kept = new Float32Array(count);
      for (let row = 0, i = 0; i < count; row++)
        if (demand[row]! > 0) {
          asked[i] = row;
          kept[i++] = demand[row]!;
        }
      this.#ring.push({ asked, demand: kept });
      return;
    }
    // The oldest array is used again where it fits, so a steady system allocates nothing.
    const kept = oldest && !oldest.asked && oldest.demand.length === rows ? oldest.demand : new Float32Array(rows);
    kept.set(demand.subarray(0, rows));
    this.#ring.push({ demand: kept });
  }

  /** Steps that are kept. */
  get kept(): number {
    return this.#ring.length;
  }

  /** Steps that would be kept at most, of as many rows as there are now. */
  get most(): number {
    return Math.max(leastSteps, Math.min(mostSteps, Math.floor(mostKept / Math.max(1, this.#rows))));
  }

  /** A row's demand in a step, counted from 1; 0 where it is no longer kept. */
  at(step: number, row: number): number {
    const kept = this.#ring[step - 1 - this.#count + this.#ring.length];
    return kept?.demand[placeOf(kept, row)] ?? 0;
  }

  reset(row: number): void {
    for (const kept of this.#ring) {
      const place = placeOf(kept, row);
      if (place < kept.demand.length) kept.demand[place] = 0;
    }
  }

  /** The busiest rows, `data[step * rows + row]`, oldest first, and where in the table each stands, ascending. */
  matrix(): { rows: number; steps: number; data: Float32Array; places: number[] } {
    const places = this.busiest(this.#ring.length);
    const rows = places.length;
    const columns = new Map(places.map((row, column) => [row, column]));
    const data = new Float32Array(this.#ring.length * rows);
    this.#ring.forEach(({ asked, demand }, s) => {
      const at = s * rows;
      if (asked)
        asked.forEach((row, i) => {
          const column = columns.get(row);
          if (column !== undefined) data[at + column] = demand[i]!;
        });
      else
        places.forEach((row, column) => {
          data[at + column] = demand[row] ?? 0;
        });
    });
    return { rows, steps: this.#ring.length, data, places };
  }

  /** The busiest rows, ascending: as many as are refined on where each has so many steps. */
  busiest(steps: number): number[] {
    const sums: number[] = [];
    for (const { asked, demand } of this.#ring)
      for (let i = 0; i < demand.length; i++) {
        const row = asked ? asked[i]! : i;
        sums[row] = (sums[row] ?? 0) + demand[i]!;
      }
    const busiest: { sum: number; row: number }[] = [];
    sums.forEach((sum, row) => {
      if (sum > 0) busiest.push({ sum, row });
    });
    busiest.sort((a, b) => b.sum - a.sum || a.row - b.row).splice(Math.floor(mostDemands / steps));
    return busiest.map(({ row }) => row).sort((a, b) => a - b);
  }
}

/** Where a row's demand lies; beyond the end if it has none. */
function placeOf({ asked, demand }: StepDemand, row: number): number {
  if (!asked) return row;
  let from = 0;
  for (let to = asked.length; from < to; ) {
    const middle = (from + to) >> 1;
    if (asked[middle]! < row) from = middle + 1;
    else to = middle;
  }
  return asked[from] === row ? from : demand.length;
}

/**
 * What a training step is taken to cost, ms of one core, where a budget is given in time: measured at hidden
 * 48, windows of 64 steps and 32 rows.
 */
export const trainingStepCostMs = 6;
/** Part of one core that refinement may take unless it is told otherwise. */
export const defaultRefinementCpuPart = 0.1;

/** Steps of history before the first refinement; the next come when there is half as much again. */
const firstAt = 200;
const growth = 0.5;
const longestPause = 1024;
const mostPerRefinement = 300;
/** Of a run that must end soon and be repeatable. */
export const mostInReplay = 2000;

/**
 * When to refine, and for how many training steps: as history grows by half, within a part of one core at a stated cost a
 * step.
 */
export class RefinementSchedule {
  readonly #stepMs: number;
  readonly #costMs: number;
  #nextAt = firstAt;
  readonly #mostInAll: number;
  readonly #cpuPart: number;
  #spent = 0;

  /** @param options `costMs`: of a training step; `cpuPart`: of one core; `mostInAll`: training steps, none if left out */
  constructor(options: { stepMs: number; costMs: number; cpuPart: number; mostInAll?: number }) {
    this.#mostInAll = options.mostInAll ?? Number.POSITIVE_INFINITY;
    this.#stepMs = options.stepMs;
    this.#costMs = options.costMs;
    this.#cpuPart = options.cpuPart;
  }

  /** Training steps to do now; 0: not yet. */
  due(steps: number): number {
    if (steps < this.#nextAt) return 0;
    const earned = Math.floor((steps * this.#stepMs * this.#cpuPart) / this.#costMs) - this.#spent;
    const allowed = Math.min(mostPerRefinement, this.#mostInAll - this.#spent, earned);
    this.#nextAt = steps + Math.min(Math.floor(growth * steps), longestPause);
    return Math.max(0, allowed);
  }

  spent(trainingSteps: number): void {
    this.#spent += trainingSteps;
  }
}
