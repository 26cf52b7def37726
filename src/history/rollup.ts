import { grown } from '../grown.js';
import { demandField, stepFieldCount } from './record.js';
import { pointOf } from './resolution.js';
import { type Block, Timeline } from './timeline.js';

/** One step: counts column after column, in the order of `stepFields`. */
export interface StepBlock extends Block {
  readonly stepMs: number;
  readonly data: Float64Array;
}

/** One point of a rollup: per row its counts, then the largest demand of a step. */
export interface PointBlock extends Block {
  readonly data: Float64Array;
}

export const pointWidth = stepFieldCount + 1;
const maxColumn = stepFieldCount;

/**
 * Points of one length in memory. What comes in is summed up in an open point; when another point's
 * turn comes, the sum is closed into the timeline and handed on to the coarser rollup. Closing twice
 * adds up, so late data needs no care and every row reaches every rollup exactly once.
 */
export class Rollup {
  readonly timeline = new Timeline<PointBlock>();
  readonly #lengthMs: number;
  readonly #coarser: Rollup | undefined;
  #timeMs = Number.NaN;
  #count = 0;
  #ids = new Int32Array(64);
  #data = new Float64Array(64 * pointWidth);
  /** Row of a target in the open point, plus 1; 0 where it has none. */
  #rowOf = new Int32Array(64);

  constructor(lengthMs: number, coarser?: Rollup) {
    this.#lengthMs = lengthMs;
    this.#coarser = coarser;
  }

  addStep(block: StepBlock): void {
    this.#open(block.timeMs);
    const { ids, data } = block;
    const rows = ids.length;
    for (let row = 0; row < rows; row++) {
      const at = this.#offsetOf(ids[row]!);
      const sums = this.#data;
      for (let field = 0; field < stepFieldCount; field++) sums[at + field]! += data[field * rows + row]!;
      const demand = data[demandField * rows + row]!;
      if (demand > sums[at + maxColumn]!) sums[at + maxColumn] = demand;
    }
  }

  addPoint(block: PointBlock): void {
    this.#open(block.timeMs);
    block.ids.forEach((id, row) => {
      const at = this.#offsetOf(id);
      addRow(this.#data, at, block.data, row * pointWidth);
    });
  }

  /** Closes the open point, so that the timeline holds everything added so far. */
  settle(): void {
    if (this.#count === 0) return;
    const block: PointBlock = {
      timeMs: this.#timeMs,
      ids: this.#ids.slice(0, this.#count),
      data: this.#data.slice(0, this.#count * pointWidth),
    };
    for (const id of block.ids) this.#rowOf[id] = 0;
    this.#count = 0;
    const closed = this.timeline.at(block.timeMs);
    if (closed === undefined) this.timeline.insert(block);
    else this.timeline.replace(closed, sumOf(closed, block));
    this.#coarser?.addPoint(block);
  }

  #open(timeMs: number): void {
    const start = pointOf(timeMs, this.#lengthMs);
    if (start === this.#timeMs) return;
    this.settle();
    this.#timeMs = start;
  }

  /** Where a target's row begins in the open point; a new row of zeros if it has none. */
  #offsetOf(id: number): number {
    if (id >= this.#rowOf.length) this.#rowOf = grown(this.#rowOf, Math.max(id + 1, 2 * this.#rowOf.length));
    const known = this.#rowOf[id]!;
    if (known > 0) return (known - 1) * pointWidth;
    const row = this.#count++;
    if (row >= this.#ids.length) {
      this.#ids = grown(this.#ids, 2 * (row + 1));
      this.#data = grown(this.#data, this.#ids.length * pointWidth);
    }
    this.#ids[row] = id;
    this.#rowOf[id] = row + 1;
    this.#data.fill(0, row * pointWidth, (row + 1) * pointWidth);
    return row * pointWidth;
  }
}

function addRow(into: Float64Array, at: number, from: Float64Array, start: number): void {
  for (let field = 0; field < maxColumn; field++) into[at + field]! += from[start + field]!;
  into[at + maxColumn] = Math.max(into[at + maxColumn]!, from[start + maxColumn]!);
}

function sumOf(a: PointBlock, b: PointBlock): PointBlock {
  const rowOf = new Map<number, number>();
  a.ids.forEach((id, row) => {
    rowOf.set(id, row);
  });
  const ids = [...a.ids];
  for (const id of b.ids) {
    if (!rowOf.has(id)) rowOf.set(id, ids.push(id) - 1);
  }
  const data = new Float64Array(ids.length * pointWidth);
  data.set(a.data);
  b.ids.forEach((id, row) => {
    addRow(data, rowOf.get(id)! * pointWidth, b.data, row * pointWidth);
  });
  return { timeMs: a.timeMs, ids: Int32Array.from(ids), data };
}
