import { describe, expect, it } from 'vitest';
import { type LimiterSample, type LimitReason, RateLimiter } from '../../src/control/limiter.js';
import { Random } from '../../src/learn/random.js';
import { Device } from './device.js';
import { World } from './world.js';

const tickMs = 100;

const emptySample = (): LimiterSample => ({
  elapsedMs: tickMs,
  admitted: 0,
  admittedTokens: 0,
  deniedTokens: 0,
  completions: 0,
  durationMs: 0,
});

interface Play {
  limiter: RateLimiter;
  device: Device;
  burst: number;
  /** Requests a second that come. */
  askedPerSec: number;
  /** Part of the completions that is reported. */
  reported: number;
}

/** A device behind a token bucket at the limiter's rate. @returns the limit after each tick */
function play({ limiter, device, burst, askedPerSec, reported }: Play, fromMs: number, toMs: number): number[] {
  const limits: number[] = [];
  const random = new Random(fromMs + 3);
  let level = 0;
  for (let nowMs = fromMs + 10, sample = emptySample(); nowMs <= toMs; nowMs += 10) {
    level = Math.min(burst, level + limiter.ratePerSec / 100);
    const due = askedPerSec / 100;
    let asked = Math.floor(due) + (random.uniform() < due % 1 ? 1 : 0);
    for (; asked > 0; asked--) {
      if (level < 1) {
        sample.deniedTokens += asked;
        break;
      }
      level--;
      device.serve(nowMs - 10 * random.uniform());
      sample.admitted++;
      sample.admittedTokens++;
    }
    for (const { tookMs } of device.done(nowMs))
      if (reported === 1 || random.uniform() < reported) {
        sample.completions++;
        sample.durationMs += tookMs;
      }
    if (nowMs % tickMs !== 0) continue;
    limiter.observe(sample);
    sample = emptySample();
    limits.push(limiter.ratePerSec);
  }
  return limits;
}

interface Crowd {
  limiter: RateLimiter;
  device: Device;
  burst: number;
  /** Each waits for its tokens, then for the device, and comes again. */
  clients: number;
}

/** Clients that come again once they are served, so that no more of them than there are can queue. @returns the limit after each tick */
function playCrowd({ limiter, device, burst, clients }: Crowd, fromMs: number, toMs: number): number[] {
  const limits: number[] = [];
  let level = 0;
  let waiting = clients - device.pending;
  for (let nowMs = fromMs + 1, sample = emptySample(); nowMs <= toMs; nowMs++) {
    level = Math.min(burst, level + limiter.ratePerSec / 1000);
    for (const { tookMs } of device.done(nowMs)) {
      sample.completions++;
      sample.durationMs += tookMs;
      waiting++;
    }
    for (; waiting > 0 && level >= 1; waiting--, level--) {
      device.serve(nowMs);
      sample.admitted++;
      sample.admittedTokens++;
    }
    if (nowMs % tickMs !== 0) continue;
    sample.deniedTokens = waiting;
    limiter.observe(sample);
    sample = emptySample();
    limits.push(limiter.ratePerSec);
  }
  return limits;
}

const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe('the rate found of a device', () => {
  const bounds = { minPerSec: 20, maxPerSec: 50_000 };

  it.each([
    { servers: 1, noise: 0, burst: 20, reported: 1, start: 300, capacity: 1000 },
    { servers: 1, noise: 0.5, burst: 20, reported: 1, start: 300, capacity: 1000 },
    { servers: 8, noise: 0, burst: 20, reported: 1, start: 300, capacity: 1000 },
    { servers: 8, noise: 0.5, burst: 20, reported: 1, start: 300, capacity: 1000 },
    { servers: 8, noise: 1, burst: 20, reported: 1, start: 2000, capacity: 1000 },
    { servers: 16, noise: 0.5, burst: 500, reported: 1, start: 2000, capacity: 8000 },
    { servers: 4, noise: 0.3, burst: 20, reported: 1, start: 300, capacity: 400 },
    { servers: 32, noise: 0.3, burst: 200, reported: 0.3, start: 3000, capacity: 5000 },
  ])('is within a tenth of its capacity 5 s after that halves and after it comes back: %o', (shape) => {
    for (const seed of [1, 2, 3]) {
      const device = new Device(shape.capacity, shape.servers, shape.noise, seed);
      const limiter = new RateLimiter(shape.start, bounds);
      const setting = {
        limiter,
        device,
        askedPerSec: 3 * shape.capacity,
        burst: shape.burst,
        reported: shape.reported,
      };
      [1, 0.5, 1].forEach((part, phase) => {
        device.capacityPerSec = shape.capacity * part;
        play(setting, phase * 20_000, phase * 20_000 + 5000);
        const found = play(setting, phase * 20_000 + 5000, (phase + 1) * 20_000);
        expect(Math.abs(mean(found) / device.capacityPerSec - 1)).toBeLessThan(0.1);
        // Probes go a little beyond and queues are drained below; it does not run away either way.
        const near = found.filter((limit) => Math.abs(limit / device.capacityPerSec - 1) < 0.2);
        expect(near.length / found.length).toBeGreaterThan(0.85);
      });
    }
  });

  it.each([
    { servers: 1, noise: 0, burst: 20, clients: 96, capacity: 1000 },
    { servers: 1, noise: 0.5, burst: 20, clients: 32, capacity: 200 },
    { servers: 8, noise: 0.5, burst: 10, clients: 96, capacity: 500 },
    { servers: 8, noise: 0.5, burst: 50, clients: 300, capacity: 500 },
    { servers: 16, noise: 1, burst: 200, clients: 200, capacity: 4000 },
    { servers: 4, noise: 0.3, burst: 100, clients: 1000, capacity: 1000 },
  ])('is as near where those who ask come again only once they are served: %o', (shape) => {
    const { capacity, servers, noise, burst, clients } = shape;
    for (const seed of [1, 2, 3, 4, 5]) {
      const device = new Device(capacity, servers, noise, seed);
      const crowd = { limiter: new RateLimiter(1000, bounds), device, burst, clients };
      [1, 0.5, 1].forEach((part, phase) => {
        device.capacityPerSec = capacity * part;
        playCrowd(crowd, phase * 20_000, phase * 20_000 + 5000);
        const found = playCrowd(crowd, phase * 20_000 + 5000, (phase + 1) * 20_000);
        expect(Math.abs(mean(found) / device.capacityPerSec - 1)).toBeLessThan(0.1);
      });
    }
  });

  it('is not sought where demand stays below the limit', () => {
    const limiter = new RateLimiter(500, bounds);
    const device = new Device(1000, 8, 0.5);
    const found = play({ limiter, device, burst: 50, askedPerSec: 200, reported: 1 }, 0, 20_000);
    expect(new Set(found)).toEqual(new Set([500]));
    expect(limiter.reason).toBe('unused');
  });

  it('goes down also where something else keeps the device busy', () => {
    const limiter = new RateLimiter(5000, bounds);
    const device = new Device(1000, 8, 0);
    play({ limiter, device, burst: 50, askedPerSec: 800, reported: 1 }, 0, 10_000);
    expect(limiter.ratePerSec).toBe(5000);
    device.capacityPerSec = 400;
    const found = play({ limiter, device, burst: 50, askedPerSec: 800, reported: 1 }, 10_000, 20_000);
    expect(found.at(-1)).toBeLessThan(500);
  });

  it('stays within its bounds', () => {
    const high = new RateLimiter(1, { minPerSec: 100, maxPerSec: 600 });
    expect(high.ratePerSec).toBe(100);
    const fast = play(
      { limiter: high, device: new Device(1e6, 8, 0), burst: 50, askedPerSec: 5000, reported: 1 },
      0,
      20_000,
    );
    expect(Math.max(...fast)).toBe(600);
    const low = new RateLimiter(1e9, { minPerSec: 100, maxPerSec: 600 });
    expect(low.ratePerSec).toBe(600);
    const slow = play(
      { limiter: low, device: new Device(50, 1, 0), burst: 50, askedPerSec: 5000, reported: 1 },
      0,
      20_000,
    );
    expect(Math.min(...slow)).toBe(100);
  });

  /** What a window of half a second saw. */
  const seen = (admittedPerSec: number, servedPerSec: number, tookMs: number): LimiterSample => ({
    elapsedMs: 500,
    admitted: admittedPerSec / 2,
    admittedTokens: admittedPerSec / 2,
    deniedTokens: 1,
    completions: servedPerSec / 2,
    durationMs: (servedPerSec / 2) * tookMs,
  });

  it('takes back what was kept free for a queue once that is drained', () => {
    const limiter = new RateLimiter(800, bounds);
    for (let window = 0; window < 3; window++) limiter.observe(seen(500, 500, 10));
    limiter.observe(seen(800, 500, 400));
    expect(limiter.reason).toBe('overloaded');
    expect(limiter.ratePerSec).toBeLessThan(400);
    limiter.observe(seen(limiter.ratePerSec, 500, 11));
    expect(limiter.reason).toBe('probing');
    expect(limiter.ratePerSec).toBeGreaterThan(480);
    expect(limiter.ratePerSec).toBeLessThan(500);
  });

  it('does not hold against a resource what was admitted while nothing was reported', () => {
    const limiter = new RateLimiter(500, bounds);
    for (let window = 0; window < 3; window++) limiter.observe(seen(500, 500, 10));
    for (let window = 0; window < 20; window++) expect(limiter.observe(seen(500, 0, 0))).toBe(false);
    const before = limiter.ratePerSec;
    expect(limiter.observe(seen(500, 500, 30))).toBe(true);
    expect(limiter.reason).toBe('holding');
    expect(limiter.ratePerSec).toBeGreaterThan(0.9 * before);
  });

  it('is taken for nothing that is not reported, and goes on from a record', () => {
    const limiter = new RateLimiter(500, bounds);
    for (let i = 0; i < 1000; i++)
      expect(limiter.observe({ ...emptySample(), admitted: 50, admittedTokens: 50 })).toBe(false);
    expect([limiter.ratePerSec, limiter.reason]).toEqual([500, 'unproven']);
    const device = new Device(1000, 8, 0.5);
    play({ limiter, device, burst: 20, askedPerSec: 3000, reported: 1 }, 0, 10_000);
    const next = new RateLimiter(20, bounds);
    next.restore(JSON.parse(JSON.stringify(limiter.record())));
    expect(next.record()).toEqual(limiter.record());
  });
});

describe('the loop with a rate to be found', () => {
  it('keeps every law while the limit follows a device whose capacity halves and comes back', async () => {
    const world = await World.open({
      ratePerSec: 1000,
      burst: 100,
      tickMs: 20,
      adaptive: { minPerSec: 100, maxPerSec: 5000 },
    });
    world.add('owed', { reservation: 100 });
    world.add('a');
    world.add('b');
    world.engine.script = () => 400;
    const device = new Device(600, 4, 0.3);
    const reasons = new Set<LimitReason | 'fixed'>();
    for (const [capacity, untilMs] of [
      [600, 20_000],
      [300, 40_000],
      [600, 60_000],
    ] as const) {
      device.capacityPerSec = capacity;
      const found: number[] = [];
      const beganMs = world.nowMs;
      while (world.nowMs < untilMs) {
        for (const name of ['owed', 'a', 'b'])
          for (let served = world.ask(name, 16); served > 0; served--) device.serve(world.nowMs);
        await world.tick();
        const { handle } = world.members.get('a')!;
        for (const { tookMs } of device.done(world.nowMs)) world.table.complete(handle, 0, 0, tookMs * 1e6);
        if (world.nowMs - beganMs > 5000) found.push(world.table.sums().resourceRate);
        if (world.reports.length > 0) reasons.add(world.reports.at(-1)!.limit);
      }
      expect(Math.abs(mean(found) / capacity - 1)).toBeLessThan(0.1);
    }
    expect(world.reports.at(-1)!.ratePerSec).toBeCloseTo(world.table.sums().resourceRate, -1);
    expect([...reasons]).toEqual(expect.arrayContaining(['probing', 'overloaded']));
    expect(world.events.map(({ kind }) => kind)).toContain('limit');
    expect(world.events.filter(({ kind }) => kind === 'controller')).toEqual([]);
  });

  it('says once that nothing is reported, and leaves the limit where it was', async () => {
    const world = await World.open({ adaptive: { minPerSec: 100, maxPerSec: 5000 } });
    world.add('a');
    await world.run(30_000, () => ({ a: 20 }));
    expect(world.events.filter(({ kind }) => kind === 'limit').map(({ message }) => message)).toEqual([
      expect.stringContaining('complete()'),
    ]);
    expect(world.reports.at(-1)).toMatchObject({ ratePerSec: 1000, limit: 'unproven' });
  });
});
