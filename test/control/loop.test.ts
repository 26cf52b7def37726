import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { allocatorNames } from '../../src/allocate/allocator.js';
import { ForetokenError } from '../../src/errors.js';
import { Random } from '../../src/learn/random.js';
import { World, wallStart } from './world.js';

const slotsOf = (...names: string[]) => Object.fromEntries(names.map((name, i) => [name, i + 1]));

describe('a forecast burst', () => {
  /** `a` is steady; `b` has never asked for anything and is forecast to ask for more than there is. */
  const foretold = async (from = 3) => {
    const world = await World.open();
    const { a, b } = { a: world.add('a'), b: world.add('b') };
    world.engine.script = (row, step) => (row === a.slot ? 300 : row === b.slot && step >= from ? 2000 : 0);
    await world.run(2900, () => ({ a: 30 }));
    return { world, a, b };
  };

  it('has rate and a deposit in its bucket before it comes', async () => {
    const { world } = await foretold();
    const before = world.peek('b');
    expect(before.ratePerSec).toBe(0);
    expect(before.deposit).toBe(0);
    await world.run(100, () => ({ a: 30 }));
    const after = world.peek('b');
    expect(after.ratePerSec).toBeGreaterThan(600);
    expect(after.deposit).toBeGreaterThan(100);
    expect(after.tokens).toBeGreaterThanOrEqual(after.deposit);
    expect(world.reports.at(-1)!.depositedTokens).toBeGreaterThan(100);
    expect(world.ask('b', Math.floor(after.deposit))).toBe(Math.floor(after.deposit));
  });

  it('that does not come gives its deposit back within the step', async () => {
    const { world } = await foretold();
    await world.run(100, () => ({ a: 30 }));
    expect(world.peek('b').deposit).toBeGreaterThan(100);
    // At 0.75 of the median missing, two tenths of a second of it are missing after three ticks.
    await world.run(400, () => ({ a: 30 }));
    expect(world.peek('b').deposit).toBe(0);
  });

  it('leaves no deposit behind once it has expired: every token and all burst are back', async () => {
    const { world, b } = await foretold(3);
    world.engine.script = (row, step) => (row === b.slot && step === 3 ? [0, 0, 2000, 2000, 2000] : 0);
    // No median, so that nothing counts as missing and the deposit stays until it expires.
    await world.run(100);
    expect(world.peek('b').deposit).toBeGreaterThan(100);
    const started = world.nowMs;
    while (world.peek('b').deposit > 0 && world.nowMs < started + 20_000) await world.run(100);
    expect(world.nowMs - started).toBeGreaterThanOrEqual(6000);
    expect(world.nowMs - started).toBeLessThanOrEqual(6200);
    await world.run(2000);
    const levels = ['a', 'b'].reduce((sum, name) => sum + world.peek(name).tokens, 0);
    expect(levels + world.table.peek(0, 1)!.tokens).toBeGreaterThan(1000 - 0.1);
    expect(world.table.sums().burst).toBeCloseTo(1000, 3);
  });
});

describe('a burst nobody forecast', () => {
  it.each([true, false])('is answered within two ticks (borrow: %s)', async (borrow) => {
    const world = await World.open({ borrow, burst: 400 });
    const a = world.add('a');
    world.add('b');
    world.engine.script = (row) => (row === a.slot ? [300, 350, 400, 450, 500] : 0);
    await world.run(5000, () => ({ a: 30 }));
    const before = world.peek('b').ratePerSec;
    await world.run(100, () => ({ a: 30, b: 100 }));
    const between = world.peek('b').ratePerSec;
    await world.run(100, () => ({ a: 30, b: 100 }));
    expect(world.peek('b').ratePerSec).toBeGreaterThan(before + 200);
    expect(between).toBeGreaterThanOrEqual(before);
    const third = await world.run(100, () => ({ a: 30, b: 100 }));
    expect(third.b).toBeGreaterThan(30);
    expect(third.a).toBe(30);
    await world.run(700);
    expect(world.reports.at(-1)!.corrections).toBeGreaterThan(0);
  });

  it('leaves the rate it was given once it is over', async () => {
    const world = await World.open();
    world.add('b');
    await world.run(1000, () => ({ b: 200 }));
    await world.run(300, () => ({ b: 200 }));
    const during = world.peek('b').ratePerSec;
    expect(during).toBeGreaterThan(100);
    await world.run(10_000);
    expect(world.peek('b').ratePerSec).toBeLessThan(during / 100);
  });
});

describe('demand as forecast', () => {
  it('within the dead band brings no correction', async () => {
    const world = await World.open();
    const a = world.add('a');
    world.engine.script = (row) => (row === a.slot ? [200, 220, 240, 260, 280] : 0);
    const random = new Random(7);
    // The first step has no forecast yet.
    await world.run(1000, () => ({ a: 20 }));
    world.reports.length = 0;
    await world.run(30_000, () => ({ a: 16 + Math.floor(random.uniform() * 9) }));
    expect(world.reports).toHaveLength(30);
    expect(world.reports.map((report) => report.corrections)).toEqual(Array(30).fill(0));
  });

  it('is served in full while a greedy neighbour takes whatever is left', async () => {
    const world = await World.open();
    const steady = world.add('steady');
    const greedy = world.add('greedy');
    world.engine.script = (row) => (row === steady.slot ? 100 : row === greedy.slot ? 5000 : 0);
    await world.run(2000, () => ({ greedy: 500, steady: 10 }));
    const admitted = await world.run(20_000, () => ({ greedy: 500, steady: 10 }));
    expect(admitted.steady).toBeGreaterThan(0.99 * 2000);
    expect(admitted.greedy).toBeGreaterThan(0.95 * 18_000);
  });
});

describe('beside a greedy neighbour', () => {
  /** A target that asked for less than its share comes with more than it saved. */
  const served = async (forecast: number) => {
    const world = await World.open({ horizonsMs: [5000, 30_000, 300_000] });
    const now = world.add('now and then');
    world.add('greedy');
    world.engine.script = (row, _step, horizonMs) => (row === now.slot && horizonMs === 30_000 ? forecast : 5000);
    await world.run(10_000, () => ({ greedy: 500, 'now and then': 20 }));
    const admitted = await world.run(3900, (tick) => ({
      greedy: 500,
      'now and then': tick < 38 ? 90 : 0,
    }));
    return admitted['now and then']!;
  };

  it('who is forecast to leave its share has it in advance, and who is not has what it saved', async () => {
    const saved = await served(5000);
    expect(saved).toBeLessThan(0.9 * 38 * 90);
    expect(await served(200)).toBeGreaterThan(saved + 300);
  });
});

describe('without a forecast', () => {
  it('those who are short borrow by weight, and nothing lies idle', async () => {
    const world = await World.open();
    world.add('light', { weight: 1 });
    world.add('heavy', { weight: 3 });
    // The corrections would share by excess: what is tested is borrowing alone.
    world.engine.script = () => [0, 0, 5000, 5000, 5000];
    const order = (tick: number) => (tick % 2 ? { light: 200, heavy: 200 } : { heavy: 200, light: 200 });
    await world.run(3000, order);
    const admitted = await world.run(20_000, order);
    expect(admitted.light! + admitted.heavy!).toBeGreaterThan(0.97 * 20_000);
    expect(admitted.heavy! / admitted.light!).toBeGreaterThan(2.7);
    expect(admitted.heavy! / admitted.light!).toBeLessThan(3.3);
  });

  it('a reservation is served whatever others ask for', async () => {
    const world = await World.open();
    world.add('owed', { reservation: 400 });
    for (const name of ['x', 'y', 'z']) world.add(name, { weight: 100 });
    await world.run(2000, () => ({ x: 300, y: 300, z: 300 }));
    const admitted = await world.run(10_000, () => ({ x: 300, y: 300, z: 300, owed: 40 }));
    expect(admitted.owed).toBe(4000);
  });

  it('those of equal weight who are backlogged are served alike to a fiftieth', async () => {
    const world = await World.open();
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) world.add(name);
    // Whoever asks first changes from tick to tick, as it does among threads.
    const everyone = (tick: number) =>
      Object.fromEntries(names.map((_, i) => [names[(i + tick) % names.length]!, 100 + 40 * i]));
    await world.run(3000, everyone);
    const admitted = await world.run(30_000, everyone);
    const counts = names.map((name) => admitted[name]!);
    expect(Math.min(...counts) / Math.max(...counts)).toBeGreaterThanOrEqual(0.98);
    expect(counts.reduce((a, b) => a + b, 0)).toBeGreaterThan(0.98 * 30_000);
  });

  it('many who are short of a whole request each are served in turn, and nothing lies idle', async () => {
    const world = await World.open({ ratePerSec: 200, burst: 20, capacity: 80 });
    const names = Array.from({ length: 60 }, (_, i) => `t${i}`);
    for (const name of names) world.add(name);
    const everyone = Object.fromEntries(names.map((name) => [name, 5]));
    await world.run(2000, () => everyone);
    const admitted = await world.run(20_000, () => everyone);
    const counts = names.map((name) => admitted[name] ?? 0);
    expect(counts.reduce((a, b) => a + b, 0)).toBeGreaterThan(0.8 * 200 * 20);
    expect(Math.min(...counts) / Math.max(...counts)).toBeGreaterThan(0.8);
  });

  it('rates nobody uses are lent where the reservoir cannot hold them, and come back with the first request', async () => {
    const world = await World.open({ ratePerSec: 1000, burst: 40, capacity: 4 });
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) world.add(name);
    world.engine.script = () => [0, 0, 5000, 5000, 5000];
    const rates = () => names.map((name) => world.peek(name).ratePerSec);
    await world.run(2000, () => ({ a: 200 }));
    expect(rates()[0]).toBeGreaterThan(900);
    expect(rates().reduce((sum, rate) => sum + rate, 0)).toBeLessThanOrEqual(1000);
    await world.run(200, () => ({ a: 200, b: 20 }));
    expect(rates()[1]).toBeGreaterThan(195);
  });

  it('who took less than its share finds what it left, however often a greedy neighbour asks', async () => {
    const world = await World.open();
    world.add('quiet');
    world.add('greedy');
    await world.run(10_000, () => ({ greedy: 500, quiet: 2 }));
    const { quiet } = await world.run(100, () => ({ greedy: 500, quiet: 400 }));
    expect(quiet).toBe(400);
    // What is kept costs the greedy nothing once it lies there.
    const { greedy } = await world.run(10_000, () => ({ greedy: 500, quiet: 2 }));
    expect(greedy).toBeGreaterThan(0.97 * 9800 - 400);
  });

  it('with one greedy target alone, it gets all there is', async () => {
    const world = await World.open();
    world.add('only');
    await world.run(2000, () => ({ only: 300 }));
    expect((await world.run(10_000, () => ({ only: 300 }))).only).toBeGreaterThan(9700);
  });
});

describe('targets', () => {
  it('added and asked for while a forecast is made are reported with no forecast, not with less than none', async () => {
    const world = await World.open();
    world.add('a');
    world.engine.script = () => 10;
    await world.run(900, () => ({ a: 1 }));
    world.engine.during = async () => {
      world.add('b');
      // The step takes as long as some ticks.
      for (let tick = 0; tick < 5; tick++) {
        world.ask('b', 40);
        await world.tick();
      }
    };
    const { rows } = (await world.loop.step(wallStart + world.nowMs, 1, true))!;
    expect((await world.loop.explain('b', wallStart + world.nowMs)).correction.extraPerSec).toBeGreaterThan(100);
    expect(rows!.map(({ q50PerSec, q90PerSec }) => [q50PerSec, q90PerSec])).toEqual([
      [10, 10],
      [0, 0],
    ]);
  });

  it('added and removed between ticks are taken in, and a slot given anew starts without its past', async () => {
    const world = await World.open({ capacity: 1 });
    const a = world.add('a');
    world.engine.script = (row) => (row === a.slot ? 400 : 0);
    await world.run(3500, () => ({ a: 40 }));
    expect(world.peek('a').ratePerSec).toBeGreaterThan(100);
    world.remove('a');
    world.engine.resets.length = 0;
    const b = world.add('b', { reservation: 50 });
    expect(b.slot).toBe(a.slot);
    expect(world.engine.resets).toContain(a.slot);
    await world.run(100);
    expect(world.peek('b').ratePerSec).toBeCloseTo(50, 3);
    expect(world.table.peek(a.handle, 1)).toBeUndefined();
    world.engine.script = () => 0;
    await world.run(1500, () => ({ b: 5 }));
    const report = world.reports.at(-1)!;
    expect(report.targets).toBe(1);
    // The step in which they changed holds b's requests alone.
    expect(report.demandTokens).toBeLessThanOrEqual(50);
  });

  it('removed and replaced while a forecast is made do not hand it to their successor', async () => {
    const world = await World.open({ capacity: 1 });
    const a = world.add('a');
    world.engine.script = () => 500;
    await world.run(900, () => ({ a: 50 }));
    world.engine.during = async () => {
      world.remove('a');
      const b = world.add('b');
      expect(b.slot).toBe(a.slot);
      world.engine.resets.length = 0;
    };
    await world.run(100);
    world.engine.during = async () => {};
    expect(world.peek('b').ratePerSec).toBe(0);
    expect(world.engine.resets).toContain(a.slot);
  });

  it('replaced while a forecast is made do not hand their demand to the trust in their successor', async () => {
    const world = await World.open({ capacity: 1, trust: true });
    const a = world.add('a');
    await world.run(1900, () => ({ a: 50 }));
    const trusted = () => [...world.loop.state(wallStart).targets].map(({ name }) => name);
    expect(trusted()).toEqual(['a']);
    world.engine.during = async () => {
      world.remove('a');
      expect(world.add('b').slot).toBe(a.slot);
    };
    await world.run(100, () => ({ a: 50 }));
    world.engine.during = async () => {};
    expect(trusted()).toEqual([]);
    await world.run(1000, () => ({ b: 50 }));
    expect(trusted()).toEqual(['b']);
  });

  it('change their reservation within a tick', async () => {
    const world = await World.open();
    const a = world.add('a', { reservation: 10 });
    await world.run(500);
    world.table.setFallback(a.handle, 700, 700);
    world.loop.put({
      name: 'a',
      handle: a.handle,
      reservation: 700,
      weight: 1,
      limit: Number.POSITIVE_INFINITY,
    });
    await world.run(100);
    expect(world.peek('a').ratePerSec).toBeGreaterThanOrEqual(700 - 1e-3);
    expect(world.engine.resets).toEqual([a.slot]);
  });

  it('added to the table but not yet to the loop keep their fallback out of the sums', async () => {
    const world = await World.open();
    world.add('a', { reservation: 900 });
    await world.run(500);
    world.table.addTarget({ mayBorrow: true });
    world.add('c', { reservation: 100 });
    await world.run(1500);
    expect(world.peek('c').ratePerSec).toBeGreaterThanOrEqual(100 - 1e-3);
    expect(world.events.filter((event) => event.kind === 'controller')).toEqual([]);
  });
});

describe('a loop that was held up', () => {
  it('beyond the fail-safe time begins anew from the fallback, and says so once', async () => {
    const world = await World.open();
    const a = world.add('a', { reservation: 100 });
    world.engine.script = (row) => (row === a.slot ? 600 : 0);
    await world.run(3000, () => ({ a: 60 }));
    expect(world.peek('a').ratePerSec).toBeGreaterThan(250);
    world.events.length = 0;
    world.nowMs += 5000;
    world.table.advanceTo(world.nowMs);
    expect(world.peek('a').ratePerSec).toBeCloseTo(100, 3);
    await world.run(100);
    expect(world.events.map((event) => event.kind)).toEqual(['resumed']);
    expect(world.peek('a').ratePerSec).toBeGreaterThan(250);
  });

  it('so that its allocation is refused plans anew in the next tick', async () => {
    const world = await World.open();
    const a = world.add('a', { reservation: 100 });
    world.engine.script = (row) => (row === a.slot ? 600 : 0);
    await world.run(3000, () => ({ a: 60 }));
    world.events.length = 0;
    world.nowMs += 5000;
    world.table.advanceTo(world.nowMs);
    await world.loop.step(wallStart + world.nowMs, 5);
    expect(world.events.map((event) => event.kind)).toEqual(['controller']);
    expect(world.events[0]!.message).toContain('refused');
    await world.run(100);
    expect(world.peek('a').ratePerSec).toBeGreaterThan(250);
  });

  it('for very long makes up for ten steps and no more, so that it catches up', async () => {
    const world = await World.open();
    world.add('a');
    await world.run(1000);
    const before = world.engine.seen.length;
    world.nowMs += 3_600_000;
    world.table.advanceTo(world.nowMs);
    await world.loop.step(wallStart + world.nowMs, 3600);
    expect(world.engine.seen.length - before).toBe(10);
  });

  it('for some steps spreads what came over them', async () => {
    const world = await World.open();
    const { a } = slotsOf('a');
    world.add('a');
    world.ask('a', 300);
    await world.run(500);
    world.nowMs = 3000;
    world.table.advanceTo(3000);
    world.loop.tick(wallStart + 3000);
    await world.loop.step(wallStart + 3000, 3);
    expect(world.engine.seen.map((row) => row[a!])).toEqual([100, 100, 100]);
    const matrix = await world.history.recentDemand(10, 1000);
    expect([...matrix.data]).toEqual([100, 100, 100]);
  });
});

describe('the history', () => {
  it('holds what each target asked for and got, step by step', async () => {
    const world = await World.open({ burst: 100, borrow: false });
    world.add('a');
    world.add('b');
    const asked: Record<string, number>[] = [];
    const random = new Random(3);
    const admitted = await world.run(5000, () => {
      const tick = { a: Math.floor(random.uniform() * 100), b: Math.floor(random.uniform() * 20) };
      asked.push(tick);
      return tick;
    });
    for (const name of ['a', 'b']) {
      const points = await world.history.series(name, 'step', 0, Number.POSITIVE_INFINITY);
      const byStep = [0, 1, 2, 3, 4].map((step) =>
        asked.slice(step * 10, step * 10 + 10).reduce((sum, tick) => sum + tick[name]!, 0),
      );
      expect(points.map((point) => point.demandTokens)).toEqual(byStep);
      expect(points.reduce((sum, point) => sum + point.admittedTokens, 0)).toBe(admitted[name]);
      expect(points.map((point) => point.timeMs)).toEqual([0, 1, 2, 3, 4].map((step) => wallStart + step * 1000));
    }
  });
});

describe('whatever is forecast and asked for', () => {
  const action = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({ ask: fc.integer({ min: 0, max: 5 }), tokens: fc.integer({ min: 0, max: 300 }) }),
    },
    { weight: 4, arbitrary: fc.record({ ticks: fc.integer({ min: 1, max: 12 }) }) },
    { weight: 1, arbitrary: fc.record({ remove: fc.integer({ min: 0, max: 5 }) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        add: fc.integer({ min: 0, max: 5 }),
        part: fc.double({ min: 0, max: 0.15, noNaN: true }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ stallMs: fc.integer({ min: 1, max: 6000 }) }) },
  );

  it('the sums stay within the resource, reservations are kept and no interval is overrun', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { minLength: 10, maxLength: 60 }),
        fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 30, maxLength: 30 }),
        fc.boolean(),
        fc.constantFrom(...allocatorNames),
        async (actions, forecasts, borrow, allocator) => {
          const script = (row: number, step: number) => {
            const top = forecasts[(row * 7 + step) % forecasts.length]!;
            return [top / 8, top / 4, top / 3, top / 2, top];
          };
          const world = await World.open({ borrow, allocator, burst: 400, script });
          for (const name of ['0', '1', '2']) world.add(name, { reservation: Number(name) * 50 });
          await world.run(1000);
          for (const act of actions) {
            if ('ask' in act) {
              if (world.members.has(`${act.ask}`)) world.ask(`${act.ask}`, act.tokens);
            } else if ('ticks' in act) await world.run(act.ticks * 100);
            else if ('remove' in act) {
              if (world.members.has(`${act.remove}`)) world.remove(`${act.remove}`);
            } else if ('add' in act) {
              if (!world.members.has(`${act.add}`)) {
                world.add(`${act.add}`, { reservation: act.part * 1000, weight: 1 + act.add });
                // A tick gives it its reservation; until then it draws on the reservoir.
                world.nowMs += 1;
                world.table.advanceTo(world.nowMs);
                world.loop.tick(wallStart + world.nowMs);
              }
            } else {
              world.nowMs += act.stallMs;
              world.table.advanceTo(world.nowMs);
            }
          }
          await world.run(1000);
          world.table.close();
        },
      ),
      { numRuns: 40, seed: 11 },
    );
  });
});

describe('whoever looks on', () => {
  it('is told what the loop sees, in order', async () => {
    const told: string[] = [];
    const note = (what: string) => void told.push(what);
    const world = await World.open({
      onlooker: {
        put: (slot, { name }) => note(`put ${name} ${slot}`),
        remove: (slot) => note(`remove ${slot}`),
        ticked: ({ data }, tickMs, wallMs, ratePerSec) => {
          const c = world.table.constants.collect;
          note(`${data[c.columns + c.demandTokens]} in ${tickMs} at ${wallMs - wallStart} of ${ratePerSec}`);
        },
        stepBegan: () => note('step'),
        forecast: ({ rows }, wallMs, steps) => note(`${rows} rows at ${wallMs - wallStart} after ${steps}`),
      },
    });
    world.add('a');
    world.loop.follow(500);
    await world.run(1000, (tick) => ({ a: tick }));
    world.remove('a');
    expect(told).toEqual([
      'put a 1',
      ...Array.from({ length: 10 }, (_, tick) => `${tick} in 100 at ${100 * (tick + 1)} of 500`),
      'step',
      '2 rows at 1000 after 1',
      'remove 1',
    ]);
  });

  it('and fails is told nothing more, which is one event, and the loop goes on', async () => {
    let calls = 0;
    const fail = (): never => {
      calls++;
      throw new Error('cannot look');
    };
    const onlooker = { put: () => {}, remove: fail, ticked: fail, stepBegan: fail, forecast: fail };
    const world = await World.open({ onlooker });
    world.add('a');
    const admitted = await world.run(3000, () => ({ a: 50 }));
    expect(admitted.a).toBeGreaterThan(1000);
    expect(world.reports).toHaveLength(3);
    expect(calls).toBe(1);
    expect(world.events).toMatchObject([{ kind: 'shadow', message: expect.stringContaining('cannot look') }]);
  });
});

describe('an allocation that comes too late for targets that were added', () => {
  it('is tried again in silence, and told of once when none was taken for as long as allocations last', async () => {
    const world = await World.open();
    world.add('a');
    await world.run(1000);
    const refusing = vi.spyOn(world.table, 'allocate').mockImplementation(() => {
      throw new ForetokenError('OVERCOMMITTED', 'too much');
    });
    const told = () => world.events.filter(({ kind }) => kind === 'controller').map(({ message }) => message);
    world.add('b');
    await world.run(2000);
    expect(told()).toEqual([]);
    await world.run(3000);
    expect(told()).toEqual(['allocation refused: too much']);
    refusing.mockRestore();
    await world.run(200);
    vi.spyOn(world.table, 'allocate').mockImplementation(() => {
      throw new ForetokenError('OVERCOMMITTED', 'too much again');
    });
    world.add('c');
    await world.run(2000);
    expect(told()).toHaveLength(1);
    await world.run(500);
    expect(told()).toHaveLength(2);
  });
});
