import { ForetokenError } from '../errors.js';
import type { Numbers } from '../grown.js';

/** The rows whose number leaves `first` when divided by `every`. */
export interface Turn {
  every: number;
  first: number;
}

/** An array of the state; `rows` are the places in it, `width` numbers from each place times `width` on. */
interface Section {
  values: Numbers;
  width: number;
  /** Undefined: the array is of all rows together, and written whole. */
  rows: Int32Array | undefined;
}

/** Part of a section, from one of its rows to before another. */
interface Piece extends Section {
  from: number;
  to: number;
}

/** Bytes that are copied, written and read at a time. */
const blockBytes = 2 ** 20;
/** Every piece begins at a multiple of this many bytes, so that any kind of number can be read there. */
const alignment = 8;
/** Longer runs of numbers are copied by the runtime, shorter ones faster one by one. */
const longRun = 32;

const aligned = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;
const bytesOf = ({ values, width, from, to }: Piece): number => (to - from) * width * values.BYTES_PER_ELEMENT;

/**
 * A walk through the state of forecasters: each is shown the walk, and shows it in turn all that its forecasts hang on. The
 * same walk writes down what it is shown and, in another run, puts back what was written, so that both are of one mind
 * about what there is and in which order. Single numbers are exchanged on the way; arrays are only noted, and copied
 * afterwards, block by block, until when they must not be replaced.
 *
 * Rows may have other numbers when they come back. A row that does not is left out.
 */
export class StateWalk {
  /** Whether the state is put back. */
  readonly isLoading: boolean;
  /** Rows there must be room for. */
  readonly size: number;
  /** Whether every row has come back, and has the number it had. */
  readonly inPlace: boolean;
  /** Bytes of all blocks, as they were written. */
  readonly #expected: number | undefined;
  readonly #numbers: number[] | Float64Array;
  #next = 0;
  readonly #from: Int32Array;
  /** Where rows go; −1: nowhere. The rows themselves when the state is written down. */
  readonly #to: Int32Array;
  readonly #silent: Int32Array;
  readonly #places: Map<number, number> | undefined;
  #known: Set<number> | undefined;
  readonly #turns = new Map<string, Int32Array>();
  readonly #sections: Section[] = [];
  readonly #afterwards: (() => void)[] = [];

  /**
   * @param rows the rows to be written down, ascending
   * @param silent others that nobody ever asked under: see `silentRows`
   */
  static saving(rows: Int32Array, silent: Int32Array = new Int32Array(0)): StateWalk {
    return new StateWalk([], rows, rows, silent);
  }

  /**
   * @param numbers as a walk that saved had them
   * @param from its rows
   * @param to the number that each has now, −1 if it is gone
   * @param silent where those go that nobody ever asked under
   * @param byteLength of all blocks then
   */
  static loading(
    numbers: Float64Array,
    from: Int32Array,
    to: Int32Array,
    silent: Int32Array,
    byteLength: number,
  ): StateWalk {
    return new StateWalk(numbers, from, to, silent, byteLength);
  }

  private constructor(
    numbers: number[] | Float64Array,
    from: Int32Array,
    to: Int32Array,
    silent: Int32Array,
    expected?: number,
  ) {
    const isLoading = expected !== undefined;
    this.#expected = expected;
    this.#numbers = numbers;
    this.#from = from;
    this.#to = to;
    this.isLoading = isLoading;
    this.#silent = silent;
    this.size = [to, silent].reduce((size, rows) => rows.reduce((most, row) => Math.max(most, row + 1), size), 0);
    this.inPlace = to.every((row, i) => row === from[i]);
    if (isLoading) this.#places = new Map(Array.from(from, (row, i) => [row, to[i]!]));
  }

  /** The numbers written down so far. */
  get numbers(): Float64Array {
    return Float64Array.from(this.#numbers);
  }

  /** A number of the state. @returns it, or the one that was written down */
  number(value: number): number {
    const { length } = this.#numbers;
    if (!this.isLoading) {
      (this.#numbers as number[]).push(value);
      return value;
    }
    if (this.#next >= length) throw unlike('it has too few numbers');
    return this.#numbers[this.#next++]!;
  }

  /** The number of things that follow, at most `most`. */
  count(value: number, most: number): number {
    const count = this.number(value);
    if (!(Number.isInteger(count) && count >= 0 && count <= most))
      throw unlike(`it counts ${count} of at most ${most}`);
    return count;
  }

  /** A few numbers, how many may differ from run to run. */
  list(values: ArrayLike<number>): Float64Array {
    const { length } = this.#numbers;
    const count = this.count(values.length, this.isLoading ? length - this.#next : Number.POSITIVE_INFINITY);
    return Float64Array.from({ length: count }, (_, i) => this.number(values[i] ?? 0));
  }

  /** The number of a row. @returns −1 if it is gone */
  row(row: number): number {
    const written = this.number(row);
    return this.#places ? (this.#places.get(written) ?? -1) : written;
  }

  /** What is known of a few rows, by row; of those that are gone it is left out. @param walkOne walks through what is known of one */
  map<T>(known: Map<number, T>, walkOne: (value: T | undefined) => T): void {
    const entries = [...known];
    const count = this.count(entries.length, Number.POSITIVE_INFINITY);
    known.clear();
    for (let i = 0; i < count; i++) {
      const row = this.row(entries[i]?.[0] ?? 0);
      const value = walkOne(entries[i]?.[1]);
      if (row >= 0) known.set(row, value);
    }
  }

  /** Whether what is known of a row, by its number now, is among what is walked through. */
  has(row: number): boolean {
    this.#known ??= new Set(this.#to);
    return this.#known.has(row);
  }

  /**
   * An array with so many values for each row. There must be room for `size` rows.
   * @param turn the rows that it is filled for. Default: all. Their places hold only where `inPlace`
   */
  rows(values: Numbers, width: number, turn: Turn = { every: 1, first: 0 }): void {
    if (values.length < this.size * width)
      throw new ForetokenError('INVALID_ARGUMENT', `${values.length} numbers, but ${this.size} rows of ${width}`);
    this.#sections.push({ values, width, rows: this.#rowsOf(turn) });
  }

  /** Of an array with a value for each row those of the rows that nobody ever asked under. */
  silentRows(values: Numbers): void {
    this.#sections.push({ values, width: 1, rows: this.#silent });
  }

  /** An array of all rows together, as long as it was. */
  whole(values: Numbers): void {
    this.#sections.push({ values, width: 1, rows: undefined });
  }

  /** What is to be done when the arrays have been put back. */
  afterwards(act: () => void): void {
    if (this.isLoading) this.#afterwards.push(act);
  }

  /** Bytes of all blocks. */
  get byteLength(): number {
    let bytes = 0;
    for (const block of this.#blocks()) bytes += lengthOf(block);
    return bytes;
  }

  /** Copies the state block by block. What is yielded holds until the next. */
  *save(): Generator<Uint8Array> {
    for (const { bytes, parts } of this.#views()) {
      for (const { values, rows, from, to, width, view } of parts)
        if (rows) overRuns(rows, from, to, (row, i, n) => copy(values, row * width, n * width, view, i * width));
        else view.set(values.subarray(from, to));
      yield bytes;
    }
  }

  /**
   * Puts the state back.
   * @param read fills as many bytes as it is given with those that come next
   * @throws what `read` throws; rows are half of what they were then
   */
  async load(read: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    if (this.#next !== this.#numbers.length) throw unlike('it has too many numbers');
    if (this.byteLength !== this.#expected) throw unlike(`it has ${this.#expected} bytes, not ${this.byteLength}`);
    for (const { bytes, parts } of this.#views()) {
      await read(bytes);
      for (const { values, rows, from, to, width, view } of parts)
        if (rows) overRuns(rows, from, to, (row, i, n) => copy(view, i * width, n * width, values, row * width));
        else values.set(view, from);
    }
    for (const act of this.#afterwards) act();
  }

  /** Where the rows of a turn go. */
  #rowsOf({ every, first }: Turn): Int32Array {
    if (every === 1) return this.#to;
    const name = `${first} of ${every}`;
    const rows = this.#turns.get(name) ?? this.#to.filter((_, i) => this.#from[i]! % every === first);
    this.#turns.set(name, rows);
    return rows;
  }

  /** The blocks in order, and where each of their pieces lies; in the same memory, one after the other. */
  *#views(): Generator<{ bytes: Uint8Array; parts: (Piece & { view: Numbers })[] }> {
    let buffer = new ArrayBuffer(0);
    for (const block of this.#blocks()) {
      const length = lengthOf(block);
      if (buffer.byteLength < length) buffer = new ArrayBuffer(Math.max(length, blockBytes));
      let at = 0;
      const parts = block.map((piece) => {
        const view = viewOf(piece.values, buffer, at, (piece.to - piece.from) * piece.width);
        at += aligned(bytesOf(piece));
        return { ...piece, view };
      });
      yield { bytes: new Uint8Array(buffer, 0, length), parts };
    }
  }

  /** Pieces that are copied together, at most about a block of them. */
  *#blocks(): Generator<Piece[]> {
    let block: Piece[] = [];
    let room = blockBytes;
    for (const section of this.#sections) {
      const { values, width, rows } = section;
      const length = rows ? rows.length : values.length;
      const bytes = width * values.BYTES_PER_ELEMENT;
      for (let from = 0; from < length; ) {
        const fitting = Math.floor(room / bytes);
        if (fitting === 0 && block.length > 0) {
          yield block;
          block = [];
          room = blockBytes;
          continue;
        }
        const piece = { ...section, from, to: Math.min(length, from + Math.max(1, fitting)) };
        block.push(piece);
        room -= aligned(bytesOf(piece));
        from = piece.to;
      }
    }
    if (block.length > 0) yield block;
  }
}

/** Visits runs of rows that lie side by side, with the place of the first of them after `from`; not those that are gone. */
function overRuns(
  rows: Int32Array,
  from: number,
  to: number,
  visit: (row: number, place: number, length: number) => void,
): void {
  for (let i = from; i < to; ) {
    let end = i + 1;
    while (rows[i]! >= 0 && end < to && rows[end] === rows[end - 1]! + 1) end++;
    if (rows[i]! >= 0) visit(rows[i]!, i - from, end - i);
    i = end;
  }
}

function copy(from: Numbers, at: number, length: number, to: Numbers, place: number): void {
  if (length > longRun) to.set(from.subarray(at, at + length), place);
  else for (let i = 0; i < length; i++) to[place + i] = from[at + i]!;
}

const lengthOf = (block: readonly Piece[]): number => block.reduce((sum, piece) => sum + aligned(bytesOf(piece)), 0);

function viewOf(like: Numbers, buffer: ArrayBuffer, at: number, length: number): Numbers {
  return new (like.constructor as new (buffer: ArrayBuffer, at: number, length: number) => Numbers)(buffer, at, length);
}

const unlike = (reason: string): ForetokenError =>
  new ForetokenError('HISTORY_UNAVAILABLE', `this is not the state of such forecasters: ${reason}`);
