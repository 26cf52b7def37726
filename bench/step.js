import { ControlLoop } from '../dist/control/loop.js';
import { Roster } from '../dist/control/roster.js';
import { ForecastEngine } from '../dist/forecast/engine.js';
import { openMemoryHistory } from '../dist/history/memory.js';
import { BucketTable } from '../dist/table/table.js';

const count = 10_000;
const steps = 15;
const stepMs = 1000;
const horizonsMs = [5_000, 30_000, 300_000];

/** The whole step on a virtual clock, its parts as the loop itself reports them. */
export async function stepBench() {
  const ratePerSec = 1e6;
  const options = {
    ratePerSec,
    burst: ratePerSec,
    borrow: true,
    allocator: 'max-min',
    stepMs,
    tickMs: 100,
    failSafeMs: 1e6,
  };
  const table = BucketTable.create({ capacity: count, ratePerSec, burst: ratePerSec, clock: 'virtual' });
  const engine = await ForecastEngine.open({ rows: count + 1, stepMs, horizonsMs, refine: false, deterministic: true });
  const history = await openMemoryHistory();
  const roster = new Roster();
  const loop = new ControlLoop({ table, options, history, engine, roster, onEvent: () => {} });
  const handles = Array.from({ length: count }, (_, i) => {
    const handle = table.addTarget({ mayBorrow: true });
    loop.put({ name: `t${i}`, handle, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY });
    return handle;
  });
  let random = 1;
  const next = () => {
    random = (random * 1103515245 + 12345) % 2 ** 31;
    return random / 2 ** 31;
  };
  const parts = {};
  const add = (name, ms) => {
    parts[name] ??= [];
    parts[name].push(ms);
  };
  for (let step = 0; step < steps; step++) {
    let tickMs = 0;
    for (let tick = 1; tick <= 10; tick++) {
      table.advanceTo(step * stepMs + tick * 100);
      for (const handle of handles) if (next() < 0.5) table.tryAcquire(handle, 1);
      const started = performance.now();
      loop.tick(step * stepMs + tick * 100);
      tickMs += performance.now() - started;
    }
    const started = performance.now();
    const before = process.cpuUsage();
    const report = await loop.step((step + 1) * stepMs);
    const cpu = process.cpuUsage(before);
    const whole = performance.now() - started;
    for (const [name, ms] of Object.entries(report.costMs)) add(name, ms);
    add('whole step', whole);
    // Of all threads, inference included: what the step takes from the machine however busy it is.
    add('whole step, CPU time', (cpu.user + cpu.system) / 1000);
    add('one tick', tickMs / 10);
  }
  await engine.close();
  await history.close();
  table.close();
  const medianMs = Object.fromEntries(
    Object.entries(parts).map(([name, values]) => {
      const sorted = values.slice(5).sort((a, b) => a - b);
      return [name, sorted[sorted.length >> 1]];
    }),
  );
  return { targets: count, steps: steps - 5, medianMs };
}
