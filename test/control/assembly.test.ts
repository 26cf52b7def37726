import { expect, it } from 'vitest';
import { stepsToWarm } from '../../src/control/assembly.js';
import { Roster } from '../../src/control/roster.js';

const rosterOf = (targets: number): Roster => {
  const roster = new Roster();
  for (let slot = 1; slot <= targets; slot++)
    roster.put({ name: `t${slot}`, handle: slot, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY }, slot);
  return roster;
};

it.each([
  [0, 600],
  [10, 600],
  [10_000, 40],
  [100_000, 30],
])(
  'the history of %i targets is taken in for %i steps: the more there are the fewer, and never too few',
  (targets, steps) => {
    expect(stepsToWarm(rosterOf(targets))).toBe(steps);
  },
);
