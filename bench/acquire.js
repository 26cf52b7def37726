// What a decision costs beside its peers, in one process; see bench/threads.js for several. `node bench/acquire.js`
// prints a table, `--json` the same as JSON.
import { pathToFileURL } from 'node:url';
import { RateLimiter, TokenBucket } from 'limiter';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { Bench } from 'tinybench';
import { Foretoken } from '../dist/index.js';
import { addon } from '../dist/table/native.js';
import { threadsBench } from './threads.js';

const rounds = 9;
const calls = 1000;
const million = 1_000_000;
const unlimited = 1e12;

/** A plain bucket class, as one would write it by hand. */
class HandWritten {
  constructor(ratePerMs, burst) {
    this.ratePerMs = ratePerMs;
    this.burst = burst;
    this.level = burst;
    this.atMs = performance.now();
  }

  tryAcquire(cost) {
    const now = performance.now();
    this.level = Math.min(this.burst, this.level + (now - this.atMs) * this.ratePerMs);
    this.atMs = now;
    if (this.level < cost) return false;
    this.level -= cost;
    return true;
  }
}

/** Targets whose buckets are wide enough to admit everything: the path that matters. */
async function open(count) {
  const foretoken = await Foretoken.open({
    ratePerSec: unlimited,
    burst: unlimited,
    capacity: count,
    borrow: false,
    control: false,
  });
  const targets = foretoken.addTargets(Array.from({ length: count }, (_, i) => ({ name: `t${i}` })));
  return { foretoken, targets };
}

const kept = [];

function arms(small, large) {
  const [target, leased] = small.targets;
  const thousand = small.targets.slice(0, 1000);
  const others = small.targets.slice(1000, 2000);
  let random = 1;
  const below = (n) => {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    return Math.floor((random / 2 ** 32) * n);
  };
  // In an order of their own, so that memory is what is measured and not the making of numbers.
  const drawn = Array.from({ length: million }, () => large.targets[below(million)]);
  const drawnHandles = Float64Array.from(drawn, ({ handle }) => handle);
  let at = 0;
  const next = () => {
    at = (at + calls) % drawn.length;
    return at;
  };
  const batchOf = (targets) => ({
    handles: Float64Array.from(targets, ({ handle }) => handle),
    costs: new Float64Array(targets.length).fill(1),
    decisions: new Int32Array(targets.length),
  });
  const batch = batchOf(thousand.slice(0, 256));
  const large4096 = Array.from({ length: 200 }, () =>
    batchOf(Array.from({ length: 4096 }, () => large.targets[below(million)])),
  );
  const batch4096 = batchOf(Array.from({ length: 4096 }, (_, i) => thousand[i % 1000]));
  const bucket = new TokenBucket({ bucketSize: 1e9, tokensPerInterval: 1e9, interval: 'second' });
  bucket.content = 1e9;
  const limiter = new RateLimiter({ tokensPerInterval: 1e9, interval: 'second' });
  const flexible = new RateLimiterMemory({ points: 1e9, duration: 1 });
  const hand = new HandWritten(1e6, 1e9);
  // What any native call costs: this one finds its table closed.
  const closed = addon().createTable({ capacity: 1, rate: 1, burst: 1, virtual: false, system: false, areaBytes: 0 });
  const nothing = closed.lease;
  closed.close();
  // The call still answers into the frame, which would go with the table.
  kept.push(closed);
  let denied = 0;
  let turn = 0;
  return {
    denied: () => denied,
    perCall: { batch256: 1024, batch4096: 4096, batch4096over1M: 4096 },
    run: {
      emptyCall: () => {
        for (let i = 0; i < calls; i++) nothing();
      },
      strict: () => {
        for (let i = 0; i < calls; i++) if (!target.tryAcquire(1)) denied++;
      },
      strict1k: () => {
        for (let i = 0; i < calls; i++) if (!thousand[i].tryAcquire(1)) denied++;
      },
      strict1M: () => {
        const from = next();
        for (let i = 0; i < calls; i++) if (!large.foretoken.tryAcquire(drawnHandles[from + i], 1)) denied++;
      },
      strict1MObjects: () => {
        const from = next();
        for (let i = 0; i < calls; i++) if (!drawn[from + i].tryAcquire(1)) denied++;
      },
      batch256: () => {
        for (let i = 0; i < 4; i++)
          if (small.foretoken.acquireBatch(batch.handles, batch.costs, batch.decisions)[0] <= 0) denied++;
      },
      batch4096: () => {
        if (small.foretoken.acquireBatch(batch4096.handles, batch4096.costs, batch4096.decisions)[0] <= 0) denied++;
      },
      batch4096over1M: () => {
        const { handles, costs, decisions } = large4096[turn++ % large4096.length];
        if (large.foretoken.acquireBatch(handles, costs, decisions)[0] <= 0) denied++;
      },
      leased: () => {
        for (let i = 0; i < calls; i++) if (!leased.tryAcquireLeased(1)) denied++;
      },
      leased1k: () => {
        for (let i = 0; i < calls; i++) if (!others[i].tryAcquireLeased(1)) denied++;
      },
      leased1M: () => {
        const from = next();
        for (let i = 0; i < calls; i++) if (!drawn[from + i].tryAcquireLeased(1)) denied++;
      },
      limiterTokenBucket: () => {
        for (let i = 0; i < calls; i++) if (!bucket.tryRemoveTokens(1)) denied++;
      },
      limiterRateLimiter: () => {
        for (let i = 0; i < calls; i++) if (!limiter.tryRemoveTokens(1)) denied++;
      },
      rateLimiterFlexible: async () => {
        for (let i = 0; i < calls; i++) await flexible.consume('key', 1);
      },
      handWrittenJs: () => {
        for (let i = 0; i < calls; i++) if (!hand.tryAcquire(1)) denied++;
      },
    },
  };
}

const spread = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: sorted[sorted.length >> 1], min: sorted[0], max: sorted.at(-1) };
};

/** Nanoseconds per decision, and with `threads` million decisions a second of one and two threads. */
export async function acquireBench({ threads = true } = {}) {
  const small = await open(2000);
  const large = await open(million);
  const { run, perCall, denied } = arms(small, large);
  const samples = Object.fromEntries(Object.keys(run).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const bench = new Bench({ time: 60, warmup: round === 0, warmupTime: 60 });
    for (const [name, arm] of Object.entries(run)) bench.add(name, arm);
    await bench.run();
    for (const task of bench.tasks) {
      if (task.result.state !== 'completed') throw new Error(`${task.name}: ${task.result.state}`);
      samples[task.name].push((task.result.latency.p50 * 1e6) / (perCall[task.name] ?? calls));
    }
  }
  await small.foretoken.close();
  await large.foretoken.close();
  if (denied() > 0) throw new Error(`${denied()} requests were denied: the figures would be partly those of denials`);
  const figures = Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, spread(values)]));
  return { unit: 'ns/op', rounds, arms: figures, ...(threads ? { threads: await threadsBench() } : {}) };
}

export function print({ rounds, arms, threads }) {
  const base = arms.limiterTokenBucket.median;
  console.log(`\nOne decision, ns (median of ${rounds} interleaved rounds, min..max; times limiter's TokenBucket)\n`);
  for (const [name, { median, min, max }] of Object.entries(arms)) {
    const range = `${min.toFixed(1)}..${max.toFixed(1)}`;
    console.log(
      `  ${name.padEnd(22)} ${median.toFixed(1).padStart(8)}   ${range.padEnd(18)} ${(median / base).toFixed(2)}`,
    );
  }
  if (!threads) return;
  console.log('\nThreads, million decisions a second\n');
  for (const [name, rate] of Object.entries(threads))
    console.log(`  ${name.padEnd(22)} ${rate.toFixed(1).padStart(8)}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const figures = await acquireBench();
  if (process.argv.includes('--json')) {
    const { unit, arms, threads } = figures;
    console.log(JSON.stringify({ unit, arms, threads }));
  } else print(figures);
}
