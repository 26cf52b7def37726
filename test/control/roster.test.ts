import { expect, it } from 'vitest';
import { Roster } from '../../src/control/roster.js';

const entry = (name: string, handle: number) => ({
  name,
  handle,
  reservation: 0,
  weight: 1,
  limit: Number.POSITIVE_INFINITY,
});

/** As the roster of a table that processes share is read: slot by slot, whatever happened first. */
it('a target that moved to another slot is there, although it is learnt later that it left the one before', () => {
  const roster = new Roster();
  roster.put(entry('b', 2), 2);
  roster.put(entry('b', 11), 1);
  roster.remove(2);
  expect([...roster.slots]).toEqual([['b', 1]]);
  expect([...roster.live.subarray(0, 3)]).toEqual([0, 1, 0]);
});

it('a target whose slot another one has by now is gone', () => {
  const roster = new Roster();
  roster.put(entry('a', 1), 1);
  roster.put(entry('b', 11), 1);
  expect([...roster.slots]).toEqual([['b', 1]]);
  roster.remove(1);
  expect([...roster.slots]).toEqual([]);
});
