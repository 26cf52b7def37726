import { Workload } from '../../src/workload/generator.js';
import type { Trace } from '../../src/workload/trace.js';

/** Some minutes of a few tenants, some of them with rhythms. */
export function bursty(seconds: number): Trace {
  const workload = new Workload({
    seed: 11,
    targets: 6,
    timeScale: 0.15,
    mix: ['periodic', 'rhythms', 'on-off', 'calm'],
    ratePerSec: [4, 40],
  });
  const generated = workload.requests(seconds * 1000);
  return { file: 'generated', ...generated, cost: new Float64Array(generated.requests).fill(1) };
}
