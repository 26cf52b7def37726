import { expect, it, onTestFinished, vi } from 'vitest';
import type { Parts } from '../../src/control/assembly.js';
import { LateWarm } from '../../src/control/late-warm.js';
import { Roster } from '../../src/control/roster.js';

it('gives the few that are added to a large table as much of the history as a small table has', async () => {
  const roster = new Roster();
  for (let slot = 1; slot <= 10_000; slot++)
    roster.put({ name: `t${slot}`, handle: slot, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY }, slot);
  const matrix = { timeMs: 0, stepMs: 1000, steps: 1, targets: ['t7', 't9'], data: Float32Array.of(1, 2) };
  const recentDemand = vi.fn(async () => matrix);
  const warmLate = vi.fn(async () => 2);
  const told: string[] = [];
  const parts = { history: { recentDemand }, engine: { warmLate } } as unknown as Parts;
  const late = new LateWarm(parts, roster, 1000, (message) => told.push(message));
  onTestFinished(() => late.close());
  late.add('t7');
  late.add('t9');
  await vi.waitFor(() => expect(told).toEqual(['forecasters warmed with the history of 2 added targets']));
  expect(recentDemand.mock.calls).toEqual([[600, 1000, undefined, ['t7', 't9']]]);
  expect(warmLate).toHaveBeenCalledWith(matrix, expect.any(Function), expect.any(AbortSignal));
});
