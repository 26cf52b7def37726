import { describe, expect, it } from 'vitest';
import { World, wallStart } from './world.js';

/** `a` asks for 300 tokens/s as forecast; `b` has never asked and is forecast to ask for 2000 from step 3 on. */
async function foretold() {
  const world = await World.open();
  const [a, b] = [world.add('a', { weight: 3, reservation: 50, limit: 600 }), world.add('b')];
  world.engine.script = (row, step) =>
    row === a.slot ? [250, 280, 300, 320, 340] : row === b.slot && step >= 3 ? 2000 : 0;
  await world.run(3000, () => ({ a: 30 }));
  return world;
}
const wallMs = (world: World) => wallStart + world.nowMs;

describe('an explanation', () => {
  it('says what was forecast, how sure one wanted to be, and what came of it', async () => {
    const world = await foretold();
    const a = await world.loop.explain('a', wallMs(world));
    expect(a).toMatchObject({
      target: 'a',
      timeMs: wallStart + 3000,
      mode: 'enforce',
      allocator: 'max-min',
      forecasts: [{ horizonMs: 5000, q50PerSec: 250, q90PerSec: 300, carriedBy: 'scripted' }],
      leadMs: 5000,
      throttlingCost: 32,
      weight: 3,
      reservation: 50,
      limit: 600,
      fairSharePerSec: 750,
      credits: 0,
      deposit: undefined,
    });
    // The 0.97 quantile of the forecast, which is what a denied token costs against 32 idle ones.
    expect(a.quantile).toBeCloseTo(32 / 33, 6);
    expect(a.demandPerSec).toBeGreaterThanOrEqual(319);
    // Little is left of what it asked for before there was a forecast.
    expect(a.demandPerSec).toBeLessThan(360);
    expect(a.ratePerSec).toBeCloseTo(world.peek('a').ratePerSec, 2);
    expect(a.tokens).toBeCloseTo(world.peek('a').tokens, 2);
  });

  it('does not take what is left to divide for what its cost asks for', async () => {
    const world = await World.open({ borrow: false, allocator: 'proportional' });
    const a = world.add('a');
    world.engine.script = (row) => (row === a.slot ? [2, 3, 4, 5, 6] : 0);
    await world.run(2000);
    const { quantile, text } = await world.loop.explain('a', wallMs(world));
    expect(quantile).toBeGreaterThan(0.999);
    expect(text).toContain('covers the next step of those dearest to deny with probability above 0.999');
    expect(text).not.toContain('idle ones, so');
    const lent = await World.open();
    lent.add('a');
    await lent.run(2000);
    expect((await lent.loop.explain('a', wallMs(lent))).text).toContain(
      'idle ones, so its next step was to be covered',
    );
  });

  it('names a deposit with its expiry, and says it all in sentences', async () => {
    const world = await foretold();
    const b = await world.loop.explain('b', wallMs(world));
    expect(b.deposit!.tokens).toBeCloseTo(world.peek('b').deposit, 2);
    // The horizon and a step from when it was made.
    expect(b.deposit!.expiresMs).toBe(wallStart + 3000 + 5000 + 1000);
    expect(b.text).toMatch(
      /^At 2023-11-14 22:13:23\.000 UTC b had \d+ tokens\/s and a bucket of \d+ with \d+ in it\. /,
    );
    expect(b.text).toContain('2,000 to 2,000 over 5 s (scripted)');
    expect(b.text).toMatch(/\d+ tokens are a deposit for a burst, until 2023-11-14 22:13:29\.000 UTC\./);
    expect(b.text).not.toContain('NaN');
  });

  it('names corrections since the last step, and what is asked for beyond the forecast', async () => {
    const world = await World.open();
    world.add('a');
    world.add('b');
    await world.run(2000);
    await world.run(300, () => ({ b: 100 }));
    const { correction, text } = await world.loop.explain('b', wallMs(world));
    expect(correction.tokens).toBeGreaterThan(0);
    expect(correction.extraPerSec).toBeGreaterThan(100);
    expect(text).toContain('Corrections added');
    expect(text).toContain('beyond its forecast');
    await world.run(1700);
    expect((await world.loop.explain('b', wallMs(world))).correction.tokens).toBe(0);
    world.engine.script = () => 100;
    await world.run(20_000, () => ({ b: 10 }));
    expect((await world.loop.explain('b', wallMs(world))).text).not.toContain('beyond its forecast');
  });

  it('names the mode and the credits', async () => {
    const world = await World.open({ allocator: 'credit' });
    const { handle } = world.add('a');
    world.add('b');
    world.engine.script = (row) => (row === 1 ? 100 : 2000);
    world.table.setMode(handle, 'shadow');
    await world.run(5000, () => ({ a: 10, b: 200 }));
    const a = await world.loop.explain('a', wallMs(world));
    expect(a.mode).toBe('shadow');
    expect(a.credits).toBeGreaterThan(0);
    expect(a.text).toContain('in shadow');
    expect((await world.loop.explain('b', wallMs(world))).credits).toBeLessThan(0);
  });

  it('of who is unknown, or replaced by another in its slot, is refused or starts anew', async () => {
    const world = await foretold();
    await expect(world.loop.explain('c', 0)).rejects.toMatchObject({ code: 'UNKNOWN_TARGET' });
    world.remove('b');
    await expect(world.loop.explain('b', 0)).rejects.toMatchObject({ code: 'UNKNOWN_TARGET' });
    world.add('c');
    expect(await world.loop.explain('c', wallMs(world))).toMatchObject({
      ratePerSec: 0,
      deposit: undefined,
      forecasts: [{ q50PerSec: 0, q90PerSec: 0 }],
    });
  });
});

describe('an explanation of the past', () => {
  it('is what was recorded at the end of a step, the last one up to that time', async () => {
    const world = await foretold();
    const then = await world.loop.explain('b', wallMs(world));
    await world.run(5000);
    const now = await world.loop.explain('b', wallMs(world));
    expect(now.tokens).not.toBeCloseTo(then.tokens, 1);
    for (const ms of [3000, 3400, 3999])
      expect(await world.loop.explain('b', 0, wallStart + ms)).toMatchObject({ ...then, timeMs: wallStart + 3000 });
    // Its deposit has grown less in the meantime.
    expect((await world.loop.explain('b', 0, wallStart + 8000)).timeMs).toBeGreaterThan(wallStart + 3000);
    world.remove('b');
    await world.run(1000);
    expect((await world.loop.explain('b', 0, wallStart + 3000)).ratePerSec).toBe(then.ratePerSec);
    await expect(world.loop.explain('b', 0, wallStart + 999)).rejects.toMatchObject({
      code: 'UNKNOWN_TARGET',
      message: 'no decision about "b" is recorded in the hour up to 2023-11-14 22:13:20.999 UTC',
    });
  });

  it('holds what changed, and what stays the same once a minute', async () => {
    const world = await World.open();
    world.add('a');
    world.add('idle');
    world.engine.script = (row, step) => (row === 1 ? (step < 100 ? 400 : 800) : 0);
    await world.run(121_000, (tick) => ({ a: tick < 1000 ? 40 : 80 }));
    const times = async (name: string) =>
      (await world.history.decisions(name, 0, Number.POSITIVE_INFINITY)).map(
        ({ timeMs }) => (timeMs - wallStart) / 1000,
      );
    expect(await times('idle')).toEqual([]);
    const recorded = await times('a');
    expect(recorded).toContain(1);
    expect(recorded).toContain(100);
    expect(recorded.length).toBeGreaterThanOrEqual(4);
    expect(recorded.length).toBeLessThan(15);
    for (let i = 1; i < recorded.length; i++) expect(recorded[i]! - recorded[i - 1]!).toBeLessThanOrEqual(60);
  });

  it('holds each change of what is owed, of the mode and of what is expected, also where the rate stays as it was', async () => {
    // Nothing is deposited or corrected, and all rate is divided.
    const world = await World.open({ ratePerSec: 1000, borrow: false, adjust: false });
    const { handle } = world.add('a', { reservation: 100 });
    world.add('b');
    let forecast = 4000;
    world.engine.script = () => forecast;
    const then = async () => {
      await world.run(1000, () => ({ b: 10 }));
      return world.loop.explain('a', 0, wallMs(world));
    };
    for (let i = 0; i < 5; i++) await then();
    const before = await then();
    world.table.setMode(handle, 'shadow');
    expect(await then()).toMatchObject({ mode: 'shadow', reservation: 100 });
    world.loop.put({ name: 'a', handle, reservation: 120, weight: 1, limit: 900 });
    expect(await then()).toMatchObject({ mode: 'shadow', reservation: 120, limit: 900 });
    forecast = 6000;
    const after = await then();
    expect(after.forecasts[0]!.q50PerSec).toBe(6000);
    expect(after.ratePerSec).toBeCloseTo(before.ratePerSec, -1);
  });

  it('of more targets than are recorded in a step takes turns', async () => {
    const world = await World.open({ capacity: 1200, ratePerSec: 1e6, burst: 1e6 });
    const names = Array.from({ length: 1200 }, (_, i) => `t${i}`);
    for (const name of names) world.add(name);
    world.engine.script = (_, step) => 100 * 2 ** (step % 2);
    const recorded = async () =>
      Promise.all(names.map(async (name) => (await world.history.decisions(name, 0, Number.POSITIVE_INFINITY)).length));
    await world.run(1000);
    expect((await recorded()).filter((times) => times > 0)).toHaveLength(500);
    await world.run(2000);
    expect((await recorded()).every((times) => times > 0)).toBe(true);
  });

  it('names what shadows would have done, also of times past, and nothing of one that has said nothing', async () => {
    const said = { ratePerSec: 12, deniedTokens: 34 };
    let nobody = 0;
    const world = await World.open({
      shadows: {
        specs: [
          { engine: 'last', allocator: 'max-min' },
          { engine: 'auto', allocator: 'credit' },
        ],
        outcomes: (slot) => (slot === nobody ? [] : [{ engine: 'auto', allocator: 'credit', ...said }]),
      },
    });
    const { slot } = world.add('a');
    world.engine.script = () => 100;
    await world.run(2000, () => ({ a: 10 }));
    const shadows = [{ engine: 'auto', allocator: 'credit', ...said }];
    const now = await world.loop.explain('a', wallMs(world));
    expect(now.shadows).toEqual(shadows);
    expect(now.text).toContain(
      'Under engine auto and allocator credit it would have 12 tokens/s, and 34 tokens would have been denied so far.',
    );
    expect(now.forecasts).toMatchObject([{ q50PerSec: 100, carriedBy: 'scripted' }]);
    const past = await world.loop.explain('a', wallMs(world), wallMs(world));
    expect(past.shadows).toEqual(shadows);
    expect(past.forecasts).toMatchObject([{ q50PerSec: 100, carriedBy: 'scripted' }]);
    nobody = slot;
    expect((await world.loop.explain('a', wallMs(world))).shadows).toEqual([]);
  });
});
