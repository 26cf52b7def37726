import { describe, expect, it } from 'vitest';
import { type EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { quantileCount, quantileLevels } from '../../src/forecast/forecaster.js';
import { Mixture } from '../../src/forecast/mixture.js';
import { awakeNow, Sleepers, sleepAfterSteps } from '../../src/forecast/sleepers.js';
import { Random } from '../../src/learn/random.js';
import { frameOf, pinball } from './series.js';

const horizonsMs = [1000, 5000, 30_000, 300_000];
const longest = 300;
const width = horizonsMs.length * quantileCount;
const hour = 3600;

/** Demand of a row in a step. Rows go on all the time, stop for hours, run once an hour, or ask once and once again. */
function demandOf(random: Random, row: number, step: number): number {
  const sinceHour = (step + 13 * row) % hour;
  switch ((7 * row + (row >> 3)) % 6) {
    case 0:
      return random.poisson(5);
    case 1:
      return step < 300 || (step > 3600 && step < 4200) ? random.poisson(20) : 0;
    case 2:
      return sinceHour < 60 ? random.poisson(50) : 0;
    case 3:
      return step === row ? 1 : step === 4000 + 3 * row ? 100 : 0;
    case 4:
      return sinceHour < 200 && step % 10 < 2 ? random.poisson(500) : 0;
    default:
      return step < 1000 || step > 4500 ? (random.uniform() < 0.05 ? random.poisson(10) : 0) : 0;
  }
}

/** Two mixtures over the same demand, of which one sleeps; `rowsAt` tells how many rows there are in a step. */
function compare(steps: number, used: number, rowsAt: (step: number) => number) {
  const rows = rowsAt(steps);
  const [sleeping, never] = [true, false].map((sleeps) => ({
    mixture: new Mixture({ stepMs: 1000, horizonsMs, externals: 0, sleeps }),
    frame: frameOf(rows, horizonsMs),
  })) as [
    { mixture: Mixture; frame: ReturnType<typeof frameOf> },
    { mixture: Mixture; frame: ReturnType<typeof frameOf> },
  ];
  const random = new Random(3);
  const demand = new Float64Array(rows);
  const last = new Int32Array(used).fill(-1);
  const wokeAt = new Int32Array(used).fill(-1);
  const most = new Float64Array(used);
  const worst = { awake: 0, asleep: 0, justWoken: 0, wokenLongAgo: 0, wakings: 0 };
  /** Loss of q90 five steps ahead, of the rows that ever slept. */
  const losses = [0, 0];
  const open: { step: number; said: Float32Array[]; totals: Float64Array }[] = [];
  const totals = new Float64Array(used);
  for (let step = 0; step < steps; step++) {
    for (let row = 0; row < used; row++) {
      demand[row] = demandOf(random, row, step);
      totals[row]! += demand[row]!;
      most[row] = Math.max(most[row]!, demand[row]!);
      if (!(demand[row]! > 0)) continue;
      if (last[row]! >= 0 && step - last[row]! > sleepAfterSteps + longest) {
        wokeAt[row] = step;
        worst.wakings++;
      }
      last[row] = step;
    }
    for (const { mixture, frame } of [sleeping, never]) {
      mixture.observe(demand, rowsAt(step));
      mixture.predict(rowsAt(step), [], frame);
    }
    for (let row = 0; row < used; row++) {
      const idle = last[row]! >= 0 && step - last[row]! > sleepAfterSteps + longest;
      const woke = wokeAt[row]!;
      const kind = idle ? 'asleep' : woke < 0 ? 'awake' : step - woke < 60 ? 'justWoken' : 'wokenLongAgo';
      for (let at = row * width; at < (row + 1) * width; at++) {
        const [got, expected] = [sleeping.frame.quantiles[at]!, never.frame.quantiles[at]!];
        // Of what is forecast, or of a thousandth of the most that was ever asked for.
        const off = Math.abs(got - expected) / Math.max(expected, 1e-3 * most[row]!);
        if (off > worst[kind]) worst[kind] = off;
      }
    }
    if (step > sleepAfterSteps + longest && step % 7 === 0)
      open.push({
        step,
        said: [sleeping, never].map(({ frame }) => frame.quantiles.slice(0, used * width)),
        totals: totals.slice(),
      });
    while (open.length > 0 && step - open[0]!.step >= 5) {
      const { said, totals: before } = open.shift()!;
      for (let row = 0; row < used; row++) {
        const actual = (totals[row]! - before[row]!) / 5;
        const at = row * width + quantileCount + quantileLevels.indexOf(0.9);
        said.forEach((quantiles, i) => {
          losses[i]! += pinball(0.9, quantiles[at]!, actual);
        });
      }
    }
  }
  return { ...worst, lossRatio: losses[0]! / losses[1]! };
}

describe('a mixture whose idle rows sleep', () => {
  it.each([
    ['of few rows', 600],
    ['of many, each scored in turn', 2100],
    ['of more', 9000],
  ])('forecasts as one that never sleeps (%s)', (_, rows) => {
    const { awake, asleep, justWoken, wokenLongAgo, wakings, lossRatio } = compare(5600, 60, () => rows);
    expect(wakings).toBeGreaterThan(20);
    expect(awake).toBe(0);
    expect(asleep).toBeLessThan(3e-4);
    expect(justWoken).toBeLessThan(1e-2);
    expect(wokenLongAgo).toBeLessThan(1e-4);
    expect(Math.abs(lossRatio - 1)).toBeLessThan(1e-5);
  });

  it('does so also while the table grows', () => {
    const rowsAt = (step: number) => (step < 2000 ? 600 : step < 3700 ? 2100 : step < 4600 ? 4500 : 6500);
    const { awake, justWoken, wokenLongAgo } = compare(5600, 60, rowsAt);
    expect(awake).toBeLessThan(1e-6);
    expect(justWoken).toBeLessThan(1e-1);
    expect(wokenLongAgo).toBeLessThan(1e-2);
  });
});

describe('sleepers', () => {
  const rows = 16;
  const draw = { every: 8, first: 4 };
  /** Who is awake after some steps in which rows last asked so many steps ago. */
  function awakeWith(idle: readonly number[], kept: readonly number[] = [], sleeps = true): number[] {
    const sleepers = new Sleepers(longest, sleeps);
    sleepers.grow(rows, 0);
    const lastActive = new Int32Array(rows).fill(-1);
    const rouse = (step: number, demand: Float64Array) =>
      sleepers.rouse(step, demand, rows, lastActive, draw, kept, () => {});
    rouse(1, new Float64Array(rows).fill(1));
    for (let row = 0; row < rows; row++) lastActive[row] = 10_000 - idle[row % idle.length]!;
    for (const step of [10_000, 10_001]) rouse(step, new Float64Array(rows));
    return [...sleepers.awake];
  }
  const all = Array.from({ length: rows }, (_, row) => row);
  const undrawn = all.filter((row) => row % 8 >= 4);
  const long = sleepAfterSteps + longest;

  it('are all that did not ask for long, but those that teach the others', () => {
    expect(awakeWith([long - 1])).toEqual(all);
    expect(awakeWith([long + 1])).toEqual(all.filter((row) => !undrawn.includes(row)));
    expect(awakeWith([long + 1], [5, 15])).toEqual([0, 1, 2, 3, 5, 8, 9, 10, 11, 15]);
    expect(awakeWith([long + 1], [], false)).toEqual(all);
  });

  it('are rows under which nobody ever asked', () => {
    expect(awakeWith([10_001])).toEqual([]);
    expect(awakeWith([10_001], [], false)).toEqual([]);
  });

  it('wake with demand, and when they are to teach', () => {
    const sleepers = new Sleepers(longest, true);
    sleepers.grow(rows, 7);
    const lastActive = new Int32Array(rows).fill(3);
    const woken: number[][] = [];
    const rouse = (step: number, asked: number, every: number) => {
      const demand = new Float64Array(rows);
      demand[asked] = 1;
      sleepers.rouse(step, demand, rows, lastActive, { every, first: 4 }, [], (row, since) => woken.push([row, since]));
      lastActive[asked] = step;
    };
    rouse(5000, 6, 8);
    expect(woken).toEqual([
      [0, 7],
      [1, 7],
      [2, 7],
      [3, 7],
      [6, 7],
      [8, 7],
      [9, 7],
      [10, 7],
      [11, 7],
    ]);
    woken.length = 0;
    // Who taught until now stays awake until the last of its forecasts has been scored.
    rouse(5001, 6, 12);
    expect(woken).toEqual([
      [12, 7],
      [13, 7],
      [14, 7],
      [15, 7],
    ]);
    for (let step = 5002; step <= 5001 + longest; step++) rouse(step, 6, 12);
    expect([...sleepers.awake]).toContain(8);
    rouse(5002 + longest, 6, 12);
    rouse(5003 + longest, 6, 12);
    expect([...sleepers.awake]).toEqual([0, 1, 2, 3, 6, 12, 13, 14, 15]);
    expect([sleepers.asleepSince[6], sleepers.asleepSince[8]]).toEqual([awakeNow, 5002 + longest]);
  });
});

describe('an engine whose idle rows sleep', () => {
  const rows = 2100;
  const open = (options: Partial<EngineOptions> = {}) =>
    ForecastEngine.open({
      rows,
      stepMs: 1000,
      horizonsMs: [1000, 30_000],
      refine: false,
      deterministic: true,
      ...options,
    });
  const [pausing, other, steady] = [2094, 7, 20];
  const pause = sleepAfterSteps + 30 + 300;
  const demandAt = (step: number): Float64Array => {
    const demand = new Float64Array(rows);
    const isOn = (from: number) => step % (120 + pause) >= from && step % (120 + pause) < from + 100;
    demand[steady] = 3 + (step % 5);
    if (isOn(0)) demand[pausing] = step % 10 < 3 ? 40 : 2;
    if (isOn(20)) demand[other] = 100 - (step % 20);
    return demand;
  };
  const run = async (engine: ForecastEngine, from: number, to: number) => {
    const said: number[][] = [];
    for (let step = from; step < to; step++) {
      const { quantiles } = await engine.step(demandAt(step), rows);
      said.push(
        [steady, pausing, other].flatMap((row) => [
          ...quantiles.subarray(row * 2 * quantileCount, (row + 1) * 2 * quantileCount),
        ]),
      );
    }
    return said;
  };
  /** Asleep again for a while, awake, asleep, awake again. */
  const end = 2 * (120 + pause) + 110;

  it('forecasts, model and all, as one that never sleeps, and repeats itself', async () => {
    await using one = await open();
    await using same = await open();
    await using never = await open({ sleeps: false });
    const [got, again, expected] = [await run(one, 0, end), await run(same, 0, end), await run(never, 0, end)];
    expect(again).toEqual(got);
    const own = 2 * quantileCount;
    got.forEach((said, step) => {
      expect(said.slice(0, own)).toEqual(expected[step]!.slice(0, own));
      for (let i = own; i < said.length; i++)
        if (Math.abs(said[i]! - expected[step]![i]!) > 1e-2 * expected[step]![i]! + 1e-4)
          throw new Error(`step ${step}, ${i}: ${said[i]} instead of ${expected[step]![i]}`);
    });
    // In its pause nothing is forecast for a row, and something before it and after.
    expect(got.at(-120)!.slice(own)).toEqual(new Array(2 * own).fill(0));
    expect(Math.min(got[110]![own]!, got.at(-1)![own]!)).toBeGreaterThan(0);
  });

  it.each([
    ['while they sleep', 120 + pause - 100],
    ['just after they woke', 120 + pause + 50],
  ])('goes on from the history as if it had never stopped (%s)', async (_, stop) => {
    await using never = await open();
    await using warmed = await open();
    await run(never, 0, stop);
    const rowOf = new Map([
      ['a', steady],
      ['b', pausing],
      ['c', other],
      ['last', rows - 1],
    ]);
    const targets = [...rowOf.keys()];
    const data = Float32Array.from(
      { length: stop * targets.length },
      (_, i) => demandAt(Math.floor(i / targets.length))[rowOf.get(targets[i % targets.length]!)!]!,
    );
    expect(await warmed.warm({ timeMs: 0, stepMs: 1000, steps: stop, targets, data }, (name) => rowOf.get(name))).toBe(
      stop,
    );
    expect(await run(warmed, stop, stop + 250)).toEqual(await run(never, stop, stop + 250));
  });

  it('keeps rows awake that ETS or Prophet still forecast', async () => {
    const rows = 600;
    const options = { rows, modelPath: 'none.onnx', horizonsMs: [1000, 120_000] };
    await using one = await open(options);
    await using never = await open({ ...options, sleeps: false });
    const demand = new Float64Array(rows);
    const [fitted, width] = [rows - 1, 2 * quantileCount];
    for (let step = 0; step < 1000 + sleepAfterSteps + 120 + 500; step++) {
      demand[fitted] = step < 1000 ? 20 + 15 * Math.sin(step / 60) : 0;
      const [got, expected] = [await one.step(demand, rows), await never.step(demand, rows)].map(({ quantiles }) =>
        quantiles.slice(fitted * width, (fitted + 1) * width),
      );
      expect(got).toEqual(expected);
    }
  });

  it.each([
    ['in its sleep', 120 + pause - 100],
    ['while it asks', 60],
  ])('begins anew with a row that is given to another target %s', async (_, stop) => {
    await using engine = await open({ engine: 'ewma' });
    await using fresh = await open({ engine: 'ewma' });
    await run(engine, 0, stop);
    // What all rows learn together, they do here from a row beside it.
    const beside = pausing - 8;
    for (let step = 0; step < stop; step++) {
      const demand = demandAt(step);
      demand[beside] = demand[pausing]!;
      demand[pausing] = 0;
      await fresh.step(demand, rows);
    }
    for (const each of [engine, fresh]) {
      for (const row of [pausing, beside]) each.reset(row);
      for (let step = 0; step < 70; step++) {
        const demand = demandAt(step);
        demand[pausing] = 0;
        await each.step(demand, rows);
      }
    }
    expect(await run(engine, 0, 250)).toEqual(await run(fresh, 0, 250));
  });
});
