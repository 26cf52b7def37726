import { StateWalk } from '../../src/forecast/state-walk.js';

interface Walked {
  walk(walk: StateWalk): void;
}

/** Puts what one knows of rows into another, new one, under other numbers. */
export async function carry(one: Walked, other: Walked, from: readonly number[], to: readonly number[]): Promise<void> {
  const saving = StateWalk.saving(Int32Array.from(from));
  one.walk(saving);
  const bytes = Buffer.concat(Array.from(saving.save(), (block) => Buffer.from(block)));
  const walk = StateWalk.loading(
    saving.numbers,
    Int32Array.from(from),
    Int32Array.from(to),
    new Int32Array(0),
    bytes.length,
  );
  other.walk(walk);
  let at = 0;
  await walk.load(async (block) => {
    block.set(bytes.subarray(at, at + block.length));
    at += block.length;
  });
}
