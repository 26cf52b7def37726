/** Something that is due at a time. `place` is the heap's own: where the thing lies in it, -1 when it does not. */
export interface Due {
  dueMs: number;
  place: number;
}

/** A binary heap by due time. What lies in it can be taken out or moved when its time changes, in log n. */
export class DueHeap<T extends Due> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  /** Puts it in, or moves it if it is in already. */
  put(item: T, dueMs: number): void {
    const sooner = item.place < 0 || dueMs < item.dueMs;
    item.dueMs = dueMs;
    if (item.place < 0) item.place = this.#items.push(item) - 1;
    if (sooner) this.#rise(item);
    else this.#sink(item);
  }

  remove(item: T): void {
    const { place } = item;
    if (place < 0) return;
    item.place = -1;
    const last = this.#items.pop()!;
    if (last === item) return;
    this.#items[place] = last;
    last.place = place;
    this.#rise(last);
    this.#sink(last);
  }

  #rise(item: T): void {
    const items = this.#items;
    let { place } = item;
    while (place > 0) {
      const above = items[(place - 1) >> 1]!;
      if (above.dueMs <= item.dueMs) break;
      items[place] = above;
      above.place = place;
      place = (place - 1) >> 1;
    }
    items[place] = item;
    item.place = place;
  }

  #sink(item: T): void {
    const items = this.#items;
    let { place } = item;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= items.length) break;
      if (below + 1 < items.length && items[below + 1]!.dueMs < items[below]!.dueMs) below++;
      if (items[below]!.dueMs >= item.dueMs) break;
      items[place] = items[below]!;
      items[place]!.place = place;
      place = below;
    }
    items[place] = item;
    item.place = place;
  }
}
