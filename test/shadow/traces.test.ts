import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readTrace } from '../../src/workload/trace.js';
import { type Request, runLive } from './live.js';

/** Recorded traffic is not part of this package. */
const folder = fileURLToPath(new URL('../../../shared/traces', import.meta.url));
const seconds = 200;

describe.skipIf(!existsSync(folder))('on recorded traffic, which is looked for in ../shared/traces', () => {
  it.each([
    ['cloudphysics', 'requests', true],
    ['cloudphysics', 'requests', false],
    ['financial1', 'bytes', true],
    ['financial1', 'bytes', false],
    ['wrccdc', 'requests', true],
    ['wrccdc', 'requests', false],
  ] as const)(
    'a shadow that does what the table does denies nearly what it denies (%s, %s, borrow: %s)',
    async (name, cost, borrow) => {
      const trace = await readTrace(join(folder, `${name}.csv.gz`), { cost });
      const count = trace.timesMs.findIndex((timeMs) => timeMs > seconds * 1000);
      const requests = Array.from(
        { length: count },
        (_, i): Request => [trace.timesMs[i]!, trace.target[i]!, trace.cost[i]!],
      );
      const meanPerSec = requests.reduce((sum, [, , tokens]) => sum + tokens, 0) / seconds;
      const { figures, tokens, events } = await runLive({
        options: { ratePerSec: 2 * meanPerSec, burst: 2 * meanPerSec, borrow, shadow: [{}] },
        seconds,
        traffic: { targets: trace.names.map((name) => ({ name })), requests },
      });
      expect(events).toEqual([]);
      expect(figures!.deniedTokens).toBeCloseTo(tokens.refused, 0);
      const off = Math.abs(figures!.shadows[0]!.deniedTokens - tokens.refused);
      expect(off).toBeLessThan(0.05 * tokens.refused + 0.005 * tokens.asked);
    },
  );
});
