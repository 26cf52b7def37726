import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BucketTable } from '../../src/table/table.js';

describe('region time', () => {
  for (const clock of ['monotonic', 'system'] as const)
    it(`on the ${clock} clock passes as the process's does, never faster, and never goes back`, async () => {
      const table = BucketTable.create({ capacity: 1, ratePerSec: 1, burst: 1, clock });
      if (clock === 'system') expect(table.clock).toBe('monotonic');
      const began = performance.now();
      const first = table.nowMs();
      let last = first;
      for (let i = 0; i < 20; i++) {
        await sleep(5);
        expect(table.nowMs()).toBeGreaterThanOrEqual(last);
        last = table.nowMs();
      }
      const passed = performance.now() - began;
      const region = last - first;
      expect(region).toBeLessThanOrEqual(passed);
      // Slower by at most what calibration is rounded down by, and the time between the two readings.
      expect(region).toBeGreaterThan(0.99 * passed - 5);
      table.close();
    });

  it('is the same for all threads that attach', () => {
    const table = BucketTable.create({ capacity: 1, ratePerSec: 1, burst: 1, clock: 'monotonic' });
    const other = BucketTable.attach(table.token);
    const [a, b, c] = [table.nowMs(), other.nowMs(), table.nowMs()];
    expect(b).toBeGreaterThanOrEqual(a);
    expect(c).toBeGreaterThanOrEqual(b);
    expect(other.clock).toBe(table.clock);
    other.close();
    table.close();
  });
});
