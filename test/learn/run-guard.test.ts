import { expect, it, vi } from 'vitest';
import { RunGuard } from '../../src/learn/run-guard.js';

it('has a thread say that it is busy before it looks for a stop, and begin nothing after one', async () => {
  const guard = new RunGuard();
  const work = vi.fn(async () => guard.busy);
  expect(await guard.during(work)).toBe(true);
  expect(guard.busy).toBe(false);
  // Between the two nobody may find it free and end it.
  const busy: boolean[] = [];
  vi.spyOn(guard, 'stopped', 'get').mockImplementation(() => {
    busy.push(guard.busy);
    return true;
  });
  await expect(guard.during(work)).rejects.toMatchObject({ code: 'CLOSED' });
  expect(busy).toEqual([true]);
  expect(guard.busy).toBe(false);
  expect(work).toHaveBeenCalledTimes(1);
});
