import { ForetokenError } from '../errors.js';
import { grown } from '../grown.js';

/**
 * Numbers for names, given out in order of first appearance. Steps mostly name the same targets in
 * the same order, so a name is first compared with the one that stood at its place the last time;
 * a hash is computed only where they differ.
 */
export class NameTable {
  readonly #ids = new Map<string, number>();
  readonly #names: (string | undefined)[] = [];
  readonly #free: number[] = [];
  #last = new Int32Array(0);
  #lastCount = 0;
  #created = 0;

  /** Numbers given out, freed ones included. */
  get length(): number {
    return this.#names.length;
  }

  /** How often a number was given to a new name. */
  get created(): number {
    return this.#created;
  }

  /** Writes the numbers of `names` into `into`, which has at least their length. */
  intern(names: readonly string[], into: Int32Array): void {
    const count = names.length;
    if (this.#last.length < count) this.#last = grown(this.#last, Math.max(count, 2 * this.#last.length));
    for (let i = 0; i < count; i++) {
      const name = names[i]!;
      let id = i < this.#lastCount ? this.#last[i]! : -1;
      if (id < 0 || this.#names[id] !== name) {
        id = this.idOf(name);
        this.#last[i] = id;
      }
      into[i] = id;
    }
    this.#lastCount = Math.max(this.#lastCount, count);
  }

  /** The number of a name, a new one if it has none. */
  idOf(name: string): number {
    let id = this.#ids.get(name);
    if (id === undefined) {
      if (typeof name !== 'string') {
        throw new ForetokenError('INVALID_ARGUMENT', `history: a target's name must be a string, got ${typeof name}`);
      }
      id = this.#free.pop() ?? this.#names.length;
      this.#names[id] = name;
      this.#ids.set(name, id);
      this.#created += 1;
    }
    return id;
  }

  find(name: string): number | undefined {
    return this.#ids.get(name);
  }

  nameOf(id: number): string {
    const name = this.#names[id];
    if (name === undefined) throw new RangeError(`no name has the number ${id}`);
    return name;
  }

  /** Names in the order of their numbers, from the given number on. For tables nothing was freed from. */
  from(id: number): string[] {
    return this.#names.slice(id) as string[];
  }

  /** Forgets the names whose numbers `used` does not mark; their numbers are given out again. */
  keepOnly(used: Uint8Array): void {
    for (let id = 0; id < this.#names.length; id++) {
      const name = this.#names[id];
      if (name === undefined || used[id] === 1) continue;
      this.#ids.delete(name);
      this.#names[id] = undefined;
      this.#free.push(id);
    }
  }
}

/** New names that make it worth looking for those that nothing uses any more. */
export const pruneAfterNames = 65_536;
