import { ControlLoop } from '../dist/control/loop.js';
import { Roster } from '../dist/control/roster.js';
import { ForecastEngine } from '../dist/forecast/engine.js';
import { resolveOptions } from '../dist/options.js';
import { ShadowFeed } from '../dist/shadow/feed.js';
import { Shadows } from '../dist/shadow/shadows.js';
import { BucketTable } from '../dist/table/table.js';

const warmSteps = 10;
const steps = 20;
const ticks = 10;
const stepMs = 1000;

/**
 * What one shadow of the live engine costs on a virtual clock: in the live loop's thread to hand over what it saw, and in
 * the shadows' own to play it. Every target asks in every other tick.
 * @param count targets
 */
export async function shadowBench(count = 10_000) {
  const ratePerSec = 100 * count;
  const options = resolveOptions({
    ratePerSec,
    burst: ratePerSec,
    capacity: count,
    engine: 'ewma',
    horizonsMs: [5000, 30_000],
    shadow: [{ allocator: 'proportional' }],
  });
  const table = BucketTable.create({ capacity: count, ratePerSec, burst: ratePerSec, clock: 'virtual' });
  const engine = await ForecastEngine.open({
    rows: count + 1,
    stepMs,
    horizonsMs: options.horizonsMs,
    engine: 'ewma',
    deterministic: true,
  });
  const shadows = await Shadows.open(options, console.error);
  const messages = [];
  const feed = new ShadowFeed(
    { collect: table.constants.collect, wantsLive: true, wantsModel: false, modelFrame: () => undefined },
    (message) => messages.push(message),
  );
  let handedMs = 0;
  const timed =
    (name) =>
    (...given) => {
      const started = performance.now();
      feed[name](...given);
      handedMs += performance.now() - started;
    };
  const onlooker = Object.fromEntries(
    ['put', 'remove', 'ticked', 'stepBegan', 'forecast'].map((name) => [name, timed(name)]),
  );
  const loop = new ControlLoop({
    table,
    options: { ...options, failSafeMs: 1e6 },
    engine,
    roster: new Roster(),
    onlooker,
    onEvent: ({ message }) => console.error(message),
  });
  const handles = Array.from({ length: count }, (_, i) => {
    const handle = table.addTarget({ mayBorrow: true });
    loop.put({ name: `t${i}`, handle, reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY });
    return handle;
  });
  const spent = { 'handed over, a step': 0, 'played, a step': 0, 'played, a tick': 0, 'the live loop, a tick': 0 };
  for (let step = 0; step < warmSteps + steps; step++) {
    const measured = step >= warmSteps ? 1 / steps : 0;
    handedMs = 0;
    for (let tick = 1; tick <= ticks; tick++) {
      table.advanceTo(step * stepMs + tick * (stepMs / ticks));
      for (let i = tick % 2; i < count; i += 2) table.tryAcquire(handles[i], 1 + (i % 7));
      const started = performance.now();
      const before = handedMs;
      loop.tick(step * stepMs + tick * (stepMs / ticks));
      spent['the live loop, a tick'] += ((performance.now() - started - (handedMs - before)) / ticks) * measured;
    }
    await loop.step((step + 1) * stepMs);
    spent['handed over, a step'] += handedMs * measured;
    for (const message of messages.splice(0)) {
      const started = performance.now();
      await shadows.take(message);
      const ms = (performance.now() - started) * measured;
      if (message.type === 'tick') spent['played, a tick'] += ms / ticks;
      if (message.type === 'step') spent['played, a step'] += ms;
    }
  }
  await shadows.close();
  await engine.close();
  table.close();
  return { targets: count, steps, ms: spent };
}

export function printShadow({ targets, steps, ms }) {
  console.log(`One shadow of ${targets.toLocaleString('en-US')} targets, ms of one core (mean of ${steps} steps)\n`);
  for (const [name, mean] of Object.entries(ms)) console.log(`  ${name.padEnd(24)} ${mean.toFixed(1).padStart(7)}`);
}
