import { describe, expect, it } from 'vitest';
import { StateWalk } from '../../src/forecast/state-walk.js';

/** The bytes that a walk wrote, and a reader of them. */
function written(walk: StateWalk) {
  const bytes = Buffer.concat(Array.from(walk.save(), (block) => Buffer.from(block)));
  let at = 0;
  const read = async (block: Uint8Array): Promise<void> => {
    block.set(bytes.subarray(at, at + block.length));
    at += block.length;
  };
  return { bytes, read };
}

/** Some state of every kind there is, for so many rows. */
class State {
  readonly doubles: Float64Array;
  readonly wide: Float32Array;
  readonly bytes: Uint8Array;
  readonly shorts: Uint16Array;
  readonly shared: Float32Array;
  readonly all = new Float64Array(3);
  count = 0;
  list: Float64Array = new Float64Array(0);
  owner = 0;

  constructor(rows: number, seed = 0) {
    const value = (_: unknown, i: number) => seed * (1 + ((i * 7919) % 251));
    this.doubles = Float64Array.from({ length: rows }, value);
    this.wide = Float32Array.from({ length: rows * 40 }, value);
    this.bytes = Uint8Array.from({ length: rows }, value);
    this.shorts = Uint16Array.from({ length: rows * 3 }, value);
    this.shared = new Float32Array(new SharedArrayBuffer(rows * 4 * 2));
    this.shared.set(this.wide.subarray(0, rows * 2));
    if (seed === 0) return;
    this.all.set([seed, Number.NaN, Number.NEGATIVE_INFINITY]);
    this.count = 1 / 3;
    this.list = Float64Array.of(0.1, -0, 1e300);
    this.owner = 5;
  }

  walk(walk: StateWalk, turn = { every: 1, first: 0 }): void {
    this.count = walk.number(this.count);
    this.list = walk.list(this.list);
    this.owner = walk.row(this.owner);
    walk.rows(this.doubles, 1);
    walk.whole(this.all);
    walk.rows(this.wide, 40, turn);
    walk.rows(this.bytes, 1);
    walk.rows(this.shorts, 3, turn);
    walk.rows(this.shared, 2);
  }
}

const nobody = new Int32Array(0);
const rowsOf = (count: number) => Int32Array.from({ length: count }, (_, row) => row);

/** Writes one state down and puts it back into another. */
async function carry(
  from: State,
  to: State,
  rows: Int32Array,
  places: Int32Array,
  turn?: { every: number; first: number },
) {
  const saving = StateWalk.saving(rows);
  from.walk(saving, turn);
  const { bytes, read } = written(saving);
  expect(bytes.length).toBe(saving.byteLength);
  const loading = StateWalk.loading(saving.numbers, rows, places, nobody, bytes.length);
  to.walk(loading, turn);
  await loading.load(read);
  return loading;
}

describe('a walk through the state', () => {
  it('puts back to the bit what was written down, in blocks where there is much of it', async () => {
    const rows = 20_000;
    const [from, to] = [new State(rows, 3), new State(rows)];
    const walk = await carry(from, to, rowsOf(rows), rowsOf(rows));
    const bytesOf = ({ buffer }: { buffer: ArrayBufferLike }) => Buffer.from(buffer);
    for (const name of ['doubles', 'wide', 'bytes', 'shorts', 'shared', 'all', 'list'] as const)
      expect([name, bytesOf(to[name]).equals(bytesOf(from[name]))]).toEqual([name, true]);
    expect([to.count, to.owner]).toEqual([from.count, from.owner]);
    expect([walk.size, walk.inPlace, walk.isLoading]).toEqual([rows, true, true]);
    const saving = StateWalk.saving(rowsOf(rows));
    from.walk(saving);
    const blocks = [...saving.save()].map((block) => block.length);
    expect(blocks.length).toBeGreaterThan(3);
    expect(Math.max(...blocks)).toBeLessThanOrEqual(2 ** 20);
  });

  it('brings rows to the numbers they have now, and leaves out those that are gone and those nobody asked for', async () => {
    const [from, to] = [new State(10, 3), new State(12)];
    const walk = await carry(from, to, Int32Array.of(1, 2, 3, 5, 8), Int32Array.of(7, 8, -1, 0, 11));
    expect(walk.inPlace).toBe(false);
    expect([walk.size, walk.has(7), walk.has(1)]).toEqual([12, true, false]);
    const source = [5, -1, -1, -1, -1, -1, -1, 1, 2, -1, -1, 8];
    source.forEach((was, row) => {
      const part = (values: ArrayLike<number>, width: number, at: number) =>
        Array.from({ length: width }, (_, i) => (at < 0 ? 0 : values[at * width + i]));
      for (const [name, width] of [
        ['doubles', 1],
        ['wide', 40],
        ['bytes', 1],
        ['shorts', 3],
        ['shared', 2],
      ] as const)
        expect([name, row, ...part(to[name], width, row)]).toEqual([name, row, ...part(from[name], width, was)]);
    });
    expect(to.owner).toBe(0);
    expect([to.count, to.list, to.all]).toEqual([from.count, from.list, from.all]);
  });

  it('writes of an array that is filled for the rows of a turn those alone', async () => {
    const [from, to] = [new State(9, 3), new State(9)];
    await carry(from, to, rowsOf(9), rowsOf(9), { every: 4, first: 1 });
    for (let row = 0; row < 9; row++) {
      const isOf = row % 4 === 1;
      expect(to.shorts[3 * row]).toBe(isOf ? from.shorts[3 * row] : 0);
      expect(to.wide[40 * row + 39]).toBe(isOf ? from.wide[40 * row + 39] : 0);
      expect(to.doubles[row]).toBe(from.doubles[row]);
    }
  });

  it('has of rows that nobody asked under what is shown of those alone', async () => {
    const [from, to] = [new State(9, 3), new State(9)];
    const saving = StateWalk.saving(Int32Array.of(1), Int32Array.of(0, 4, 8));
    saving.silentRows(from.doubles);
    const { bytes, read } = written(saving);
    const loading = StateWalk.loading(
      new Float64Array(0),
      Int32Array.of(1),
      Int32Array.of(1),
      Int32Array.of(6, -1, 8),
      bytes.length,
    );
    loading.silentRows(to.doubles);
    await loading.load(read);
    expect(loading.size).toBe(9);
    expect([...to.doubles]).toEqual([0, 0, 0, 0, 0, 0, from.doubles[0], 0, from.doubles[8]]);
  });

  it('says that a row is gone', () => {
    const saving = StateWalk.saving(Int32Array.of(4));
    saving.row(4);
    saving.row(3);
    const loading = StateWalk.loading(saving.numbers, Int32Array.of(4), Int32Array.of(2), nobody, 0);
    expect([loading.row(0), loading.row(0)]).toEqual([2, -1]);
  });

  it('has of what is known of a few rows that of those that are there, by the rows they have now', () => {
    const known = new Map([
      [4, 0.5],
      [1, 7],
      [3, 9],
    ]);
    const walkThrough = (walk: StateWalk, rows: Map<number, number>) =>
      walk.map(rows, (value = 0) => walk.number(value));
    const saving = StateWalk.saving(Int32Array.of(1, 3, 4));
    walkThrough(saving, known);
    expect([...known.keys()]).toEqual([4, 1, 3]);
    const now = new Map<number, number>();
    const loading = StateWalk.loading(saving.numbers, Int32Array.of(1, 3, 4), Int32Array.of(8, -1, 2), nobody, 0);
    walkThrough(loading, now);
    expect([...now]).toEqual([
      [2, 0.5],
      [8, 7],
    ]);
  });

  it.each([
    ['too few numbers', (numbers: Float64Array) => numbers.subarray(1), 0],
    ['too many', (numbers: Float64Array) => Float64Array.of(...numbers, 0), 0],
    ['other bytes', (numbers: Float64Array) => numbers, 8],
    ['a list without end', (numbers: Float64Array) => Float64Array.from(numbers, (n, i) => (i === 1 ? 1e9 : n)), 0],
    [
      'a list of part of a number',
      (numbers: Float64Array) => Float64Array.from(numbers, (n, i) => (i === 1 ? 2.5 : n)),
      0,
    ],
  ])('refuses what has %s before anything is put back', async (_, spoil, more) => {
    const rows = rowsOf(3);
    const saving = StateWalk.saving(rows);
    new State(3, 3).walk(saving);
    const { bytes, read } = written(saving);
    const to = new State(3);
    const putBack = async () => {
      const loading = StateWalk.loading(spoil(saving.numbers), rows, rows, nobody, bytes.length + more);
      to.walk(loading);
      await loading.load(read);
    };
    await expect(putBack()).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
    expect(to.doubles).toEqual(new Float64Array(3));
  });

  it('refuses arrays without room for the rows', () => {
    const walk = StateWalk.saving(Int32Array.of(3));
    expect(() => walk.rows(new Float32Array(7), 2)).toThrow('7 numbers, but 4 rows of 2');
  });
});
