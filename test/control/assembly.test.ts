import { expect, it, onTestFinished, vi } from 'vitest';
import { openParts, stepsToWarm } from '../../src/control/assembly.js';
import { Roster } from '../../src/control/roster.js';
import { ForecastEngine } from '../../src/forecast/engine.js';
import { resolveOptions } from '../../src/options.js';
import type { BucketTable } from '../../src/table/table.js';

it.each([
  [0, 600],
  [10, 600],
  [10_000, 60],
  [100_000, 30],
])(
  'the history of %i targets is taken in for %i steps: the more there are the fewer, and never too few',
  (targets, steps) => {
    expect(stepsToWarm(targets)).toBe(steps);
  },
);

it.each([
  [undefined, { refine: true, refineCpuPart: 0.1 }],
  [{ cpuPart: 0.02 }, { refine: true, refineCpuPart: 0.02 }],
  [false, { refine: false }],
] as const)('refinement as it is asked for (%o) is what the engine is opened with', async (refine, expected) => {
  const opening = vi.spyOn(ForecastEngine, 'open').mockRejectedValue(new Error('enough'));
  onTestFinished(() => opening.mockRestore());
  const options = resolveOptions({ ratePerSec: 1, ...(refine === undefined ? {} : { refine }) });
  const table = { capacity: options.capacity } as BucketTable;
  await expect(openParts(options, table, new Roster(), () => {})).rejects.toThrow('enough');
  expect(opening).toHaveBeenCalledWith(expect.objectContaining(expected));
});
