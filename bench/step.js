import { ControlLoop } from '../dist/control/loop.js';
import { Roster } from '../dist/control/roster.js';
import { ForecastEngine } from '../dist/forecast/engine.js';
import { sleepAfterSteps } from '../dist/forecast/sleepers.js';
import { openMemoryHistory } from '../dist/history/memory.js';
import { BucketTable } from '../dist/table/table.js';

/** The longest horizon is scored for the first time after 300 steps, and from then on every 30. */
const warmSteps = 330;
const cycle = 30;
const stepMs = 1000;
const ticks = 10;
const horizonsMs = [5_000, 30_000, 300_000];

/**
 * The whole step on a virtual clock, its parts as the loop and the engine themselves report them, over a whole
 * turn of the horizons.
 * @param count targets
 * @param idle part of the targets that ask in the first step only, and sleep when it is measured; others ask in every step
 */
export async function stepBench(count = 10_000, idle = 0) {
  const warm = warmSteps + (idle > 0 ? sleepAfterSteps : 0);
  const isBusy = (i) => (i * 7919) % 1000 >= 1000 * idle;
  const memoryBefore = process.memoryUsage().rss;
  const ratePerSec = 100 * count;
  const options = {
    ratePerSec,
    burst: ratePerSec,
    borrow: true,
    allocator: 'max-min',
    stepMs,
    tickMs: stepMs / ticks,
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
  const busy = handles.filter((_, i) => isBusy(i));
  let random = 1;
  const next = () => {
    random = (random * 1103515245 + 12345) % 2 ** 31;
    return random / 2 ** 31;
  };
  const parts = new Map();
  const add = (name, ms) => parts.set(name, [...(parts.get(name) ?? []), ms]);
  for (let step = 0; step < warm + cycle; step++) {
    const measured = step >= warm;
    let tickMs = 0;
    for (let tick = 1; tick <= ticks; tick++) {
      table.advanceTo(step * stepMs + tick * options.tickMs);
      for (const handle of step === 0 ? handles : busy) if (next() < 0.5) table.tryAcquire(handle, 1);
      if (!measured && tick < ticks) continue;
      const started = performance.now();
      loop.tick(step * stepMs + tick * options.tickMs);
      tickMs += performance.now() - started;
    }
    const spentBefore = engine.spentMs;
    const before = process.cpuUsage();
    const started = performance.now();
    const report = await loop.step((step + 1) * stepMs);
    const whole = performance.now() - started;
    const cpu = process.cpuUsage(before);
    if (!measured) continue;
    for (const [name, ms] of Object.entries(report.costMs)) {
      add(name, ms);
      if (name !== 'forecast') continue;
      for (const [part, spent] of Object.entries(engine.spentMs)) add(`  ${part}`, spent - spentBefore[part]);
    }
    add('whole step', whole);
    // Of all threads, inference included: what the step takes from the machine however busy it is.
    add('whole step, CPU time', (cpu.user + cpu.system) / 1000);
    add('one tick', tickMs / ticks);
  }
  const memory = process.memoryUsage().rss - memoryBefore;
  await engine.close();
  await history.close();
  table.close();
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    targets: count,
    busy: busy.length,
    memoryPerTarget: memory / count,
    steps: cycle,
    ms: Object.fromEntries(
      [...parts].map(([name, values]) => [name.trim(), { mean: mean(values), most: Math.max(...values) }]),
    ),
  };
}

export function printStep({ targets, busy, memoryPerTarget, steps, ms }) {
  const number = (value) => value.toLocaleString('en-US');
  const who =
    busy < targets ? `${number(targets)} targets, of which ${number(busy)} ask` : `${number(targets)} targets`;
  console.log(`One step for ${who}, ms of one core (mean and most of ${steps} steps)\n`);
  const inner = ['features', 'model', 'score', 'mix'];
  for (const [name, { mean, most }] of Object.entries(ms))
    console.log(
      `  ${(inner.includes(name) ? `  ${name}` : name).padEnd(24)} ${mean.toFixed(1).padStart(7)} ${most.toFixed(1).padStart(7)}`,
    );
  console.log(`\n  ${number(memoryPerTarget / 1024)} KiB of memory a target, everything counted`);
}
