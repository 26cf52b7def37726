/** Rows that share a time. */
export interface Block {
  readonly timeMs: number;
  readonly ids: Int32Array;
}

/** Blocks in order of time; those of one time in order of arrival. Data mostly comes in order, late data is let in. */
export class Timeline<T extends Block> {
  #blocks: T[] = [];
  #rows = 0;

  get rows(): number {
    return this.#rows;
  }

  get last(): T | undefined {
    return this.#blocks.at(-1);
  }

  insert(block: T): void {
    const last = this.last;
    if (last === undefined || last.timeMs <= block.timeMs) this.#blocks.push(block);
    else this.#blocks.splice(this.#indexOf(block.timeMs + 1), 0, block);
    this.#rows += block.ids.length;
  }

  /** The block of exactly this time, where times are unique. */
  at(timeMs: number): T | undefined {
    const block = this.#blocks[this.#indexOf(timeMs)];
    return block?.timeMs === timeMs ? block : undefined;
  }

  /** Puts a block in place of another of the same time. */
  replace(old: T, block: T): void {
    this.#blocks[this.#blocks.indexOf(old)] = block;
    this.#rows += block.ids.length - old.ids.length;
  }

  /** Blocks with times in [fromMs, toMs). */
  range(fromMs: number, toMs: number): T[] {
    return this.#blocks.slice(this.#indexOf(fromMs), this.#indexOf(toMs));
  }

  all(): readonly T[] {
    return this.#blocks;
  }

  dropBefore(timeMs: number): void {
    for (const block of this.#blocks.splice(0, this.#indexOf(timeMs))) this.#rows -= block.ids.length;
  }

  /** The time from which on at most `maxRows` rows lie; of the newest time all are kept. */
  cutForRows(maxRows: number): number {
    if (this.#rows <= maxRows) return Number.NEGATIVE_INFINITY;
    let rows = 0;
    let index = this.#blocks.length;
    let cut = this.last?.timeMs ?? 0;
    while (index > 0) {
      const { timeMs } = this.#blocks[index - 1]!;
      while (index > 0 && this.#blocks[index - 1]!.timeMs === timeMs) rows += this.#blocks[--index]!.ids.length;
      if (rows > maxRows) break;
      cut = timeMs;
    }
    return cut;
  }

  /** Index of the first block at or after a time. */
  #indexOf(timeMs: number): number {
    let low = 0;
    let high = this.#blocks.length;
    // The newest blocks are asked for most, and the newest of all is the common case.
    if (high > 0 && this.#blocks[high - 1]!.timeMs < timeMs) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#blocks[middle]!.timeMs < timeMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
