import { RateLimiter, TokenBucket } from 'limiter';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { Bench } from 'tinybench';
import { Foretoken } from '../dist/index.js';

const rounds = 9;
const calls = 1000;

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

/** Nanoseconds per decision, every bucket wide enough to admit: the path that matters. */
export async function acquireBench() {
  const foretoken = await Foretoken.open({
    ratePerSec: 1e9,
    burst: 1e9,
    capacity: 1000,
    borrow: false,
    control: false,
  });
  const targets = foretoken.addTargets(Array.from({ length: 1000 }, (_, i) => ({ name: `t${i}` })));
  const target = targets[0];
  const bucket = new TokenBucket({ bucketSize: 1e9, tokensPerInterval: 1e9, interval: 'second' });
  bucket.content = 1e9;
  const limiter = new RateLimiter({ tokensPerInterval: 1e9, interval: 'second' });
  const flexible = new RateLimiterMemory({ points: 1e9, duration: 1 });
  const hand = new HandWritten(1e6, 1e9);
  let admitted = 0;
  const batch = Array.from({ length: 256 }, () => target);
  const arms = {
    strict: () => {
      for (let i = 0; i < calls; i++) if (target.tryAcquire(1)) admitted++;
    },
    strict1k: () => {
      for (let i = 0; i < calls; i++) if (targets[i].tryAcquire(1)) admitted++;
    },
    batch256: () => {
      for (let i = 0; i < 4; i++) admitted += foretoken.acquireBatch(batch).length;
    },
    limiterTokenBucket: () => {
      for (let i = 0; i < calls; i++) if (bucket.tryRemoveTokens(1)) admitted++;
    },
    limiterRateLimiter: () => {
      for (let i = 0; i < calls; i++) if (limiter.tryRemoveTokens(1)) admitted++;
    },
    rateLimiterFlexible: async () => {
      for (let i = 0; i < calls; i++) await flexible.consume('key', 1);
    },
    handWrittenJs: () => {
      for (let i = 0; i < calls; i++) if (hand.tryAcquire(1)) admitted++;
    },
  };
  const perCall = { batch256: 1024 };
  const samples = Object.fromEntries(Object.keys(arms).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const bench = new Bench({ time: 60, warmup: round === 0, warmupTime: 60 });
    for (const [name, run] of Object.entries(arms)) bench.add(name, run);
    await bench.run();
    for (const task of bench.tasks) {
      if (task.result.state !== 'completed') throw new Error(`${task.name}: ${task.result.state}`);
      samples[task.name].push((task.result.latency.p50 * 1e6) / (perCall[task.name] ?? calls));
    }
  }
  await foretoken.close();
  if (admitted === 0) throw new Error('nothing was admitted: the figures would be those of denials');
  const figures = Object.fromEntries(
    Object.entries(samples).map(([name, values]) => {
      const sorted = values.toSorted((a, b) => a - b);
      return [name, { median: sorted[sorted.length >> 1], min: sorted[0], max: sorted.at(-1) }];
    }),
  );
  return { unit: 'ns/op', rounds, arms: figures, ratio: figures.strict.median / figures.limiterTokenBucket.median };
}
