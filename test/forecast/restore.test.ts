import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { LstmForecaster } from '../../src/forecast/lstm.js';
import { Sleepers } from '../../src/forecast/sleepers.js';
import { StateWalk } from '../../src/forecast/state-walk.js';
import { LiveWatch } from '../../src/learn/watch.js';
import { carry } from './carry.js';
import { openEngine, run } from './engines.js';
import { onOff, poisson, type Series } from './series.js';

const openWith = (options: Partial<EngineOptions> = {}) =>
  openEngine({ rows: 64, horizonsMs: [5_000, 30_000, 300_000], ...options });

/** Whether frames are the same, without a list of all that differs: that takes minutes. */
const same = (a: Float32Array[], b: Float32Array[]): boolean =>
  a.every(({ buffer }, i) => Buffer.from(buffer).equals(Buffer.from(b[i]!.buffer)));

/** What an engine knows, as bytes, and a walk that puts them back. */
function keep(engine: ForecastEngine, rows: number) {
  const all = Int32Array.from({ length: rows }, (_, row) => row);
  const known = all.filter((row) => engine.knows(row));
  const silent = all.filter((row) => !engine.knows(row));
  const { walk } = engine.save(known, silent)!;
  const bytes = Buffer.concat(Array.from(walk.save(), (block) => Buffer.from(block)));
  return {
    bytes,
    /** Of all of it. */
    print: createHash('sha256').update(walk.numbers).update(bytes).digest('hex'),
    putBack: async (other: ForecastEngine, rowOf: (row: number) => number = (row) => row, readable = bytes.length) => {
      let at = 0;
      const [to, toSilent] = [known.map(rowOf), silent.map(rowOf)];
      await other.restore(StateWalk.loading(walk.numbers, known, to, toSilent, bytes.length), async (block) => {
        block.set(bytes.subarray(at, at + block.length));
        at += block.length;
        if (at > readable) throw new Error('no more');
      });
    },
  };
}

/** Rhythms, bursts out of silence and rows that nobody asks under, side by side. */
const mixed = (steps: number, rows: number): Series => {
  const [bursts, calm] = [
    onOff(steps, rows, 7),
    poisson(steps, rows, 8, (step, row) => ((step + row) % 13 < 3 ? 50 : 1)),
  ];
  return bursts.map((demand, step) =>
    demand.map((value, row) => (row % 7 === 6 ? 0 : row % 2 ? value : calm[step]![row]!)),
  );
};

describe('an engine that goes on from where another was', () => {
  it.each(['auto', 'lstm', 'ewma', 'ets', 'prophet'] as const)(
    'forecasts the same to the bit (%s)',
    async (name) => {
      // Two rounds of fitting have gone by: 30 bins of 30 s before the first.
      const steps = name === 'lstm' || name === 'ewma' ? 400 : 1000;
      const series = mixed(steps + 330, 12);
      // One that nobody asked under so far is asked for the first time.
      for (const demand of series.slice(steps + 9)) demand[6] = demand[1]!;
      const { engine: never } = await openWith({ engine: name });
      await run(never, series.slice(0, steps));
      const { putBack, print } = keep(never, 12);
      const { engine: restarted } = await openWith({ engine: name });
      // As when targets are put.
      for (let row = 0; row < 12; row++) restarted.reset(row);
      await putBack(restarted);
      expect(keep(restarted, 12).print).toBe(print);
      // Until what is open at the longest horizon has been scored, and some steps more.
      expect(same(await run(restarted, series.slice(steps)), await run(never, series.slice(steps)))).toBe(true);
      expect(restarted.scores()).toEqual(never.scores());
      expect(restarted.likeness).toBe(never.likeness);
    },
    60_000,
  );

  it('leaves no trace in the one that is kept, also while forecasters are being fitted', async () => {
    // Bins of a step each: after 30 of them a round is under way.
    const options = { engine: 'ets', stepMs: 30_000, horizonsMs: [300_000] } as const;
    const series = poisson(75, 4, 5, (step, row) => (row + 1) * (40 + 30 * Math.sin(step / 6)));
    const { engine: kept } = await openWith(options);
    const { engine: never } = await openWith(options);
    const expected = await run(never, series);
    const got = await run(kept, series.slice(0, 30));
    for (const demand of series.slice(30)) {
      keep(kept, 4);
      got.push(...(await run(kept, [demand])));
    }
    expect(same(got, expected)).toBe(true);
  });

  it('begins a fit anew that was under way', async () => {
    const options = { engine: 'ets', stepMs: 30_000, horizonsMs: [300_000] } as const;
    const series = poisson(40, 4, 5, (step, row) => (row + 1) * (40 + 30 * Math.sin(step / 6)));
    const { engine: never } = await openWith(options);
    await run(never, series.slice(0, 30));
    const { engine: restarted } = await openWith(options);
    await keep(never, 4).putBack(restarted);
    await run(restarted, series.slice(30));
    expect(restarted.fittingMs.ets).toBeGreaterThan(0);
  });

  it('does so in a large table, where rows take turns', async () => {
    const rows = 1100;
    const series = mixed(140, rows);
    const { engine: never } = await openWith({ rows });
    const { engine: restarted } = await openWith({ rows });
    await run(never, series.slice(0, 100));
    await keep(never, rows).putBack(restarted);
    expect(same(await run(never, series.slice(100)), await run(restarted, series.slice(100)))).toBe(true);
  });

  it('does so where most rows sleep, and when they wake', async () => {
    const rousing = vi.spyOn(Sleepers.prototype, 'rouse');
    onTestFinished(() => rousing.mockRestore());
    const rows = 2100;
    // One in eight goes on asking.
    const series: Series = Array.from({ length: 2180 }, (_, step) =>
      Array.from({ length: rows }, (__, row) => (step < 9 || row % 8 === 0 ? (step * 31 + row * 17) % 23 : 0)),
    );
    for (const demand of series.slice(2140)) demand.fill(3, 2000);
    const options = { engine: 'ewma', rows, horizonsMs: [5_000, 12_000] } as const;
    const { engine: never } = await openWith(options);
    const { engine: restarted } = await openWith(options);
    await run(never, series.slice(0, 2130));
    const { putBack, print } = keep(never, rows);
    await putBack(restarted);
    expect(keep(restarted, rows).print).toBe(print);
    const [expected, got] = [await run(never, series.slice(2130)), await run(restarted, series.slice(2130))];
    expect(same(expected, got)).toBe(true);
    const { awake } = rousing.mock.contexts.at(-1) as Sleepers;
    expect(awake.length).toBeLessThan(0.7 * rows);
  }, 120_000);

  it('knows it of rows that have other numbers now, and nothing of those that are gone', async () => {
    const series = mixed(430, 12);
    const { engine: never } = await openWith();
    const { engine: restarted } = await openWith();
    await run(never, series.slice(0, 400));
    // Rows come back the other way round, but for the first two.
    const rowOf = (row: number) => (row < 2 ? -1 : 20 - row);
    await keep(never, 12).putBack(restarted, rowOf);
    expect([restarted.knows(20), restarted.knows(18)]).toEqual([false, true]);
    const moved = series.slice(400).map((demand) => {
      const places = new Array<number>(21).fill(0);
      demand.forEach((value, row) => {
        if (rowOf(row) >= 0) places[rowOf(row)] = value;
      });
      return places;
    });
    const [expected, got] = [await run(never, series.slice(400)), await run(restarted, moved)];
    const width = 3 * quantileCount;
    let [miss, sum] = [0, 0];
    expected.forEach((frame, step) => {
      for (let row = 2; row < 12; row++)
        for (let i = 0; i < width; i++) {
          const value = frame[row * width + i]!;
          const difference = Math.abs(got[step]![rowOf(row) * width + i]! - value);
          miss += difference;
          sum += value;
        }
    });
    // What was open has not been scored, of anybody.
    expect(miss / sum).toBeLessThan(0.05);
    expect(restarted.knows(20)).toBe(false);
  });

  it('scores nothing that was forecast for rows that have other numbers now', async () => {
    const series = mixed(50, 6);
    const { engine: never } = await openWith();
    await run(never, series);
    const onResolved = vi.fn();
    const { engine: moved } = await openWith({ onResolved });
    await keep(never, 6).putBack(moved, (row) => 5 - row);
    await run(moved, series.slice(0, 5));
    expect(onResolved).not.toHaveBeenCalled();
    await run(moved, series.slice(5, 6));
    expect(onResolved).toHaveBeenCalledTimes(1);
  });

  it('forecasts the same where a fitted row was given to another just before', async () => {
    const options = { stepMs: 30_000, horizonsMs: [300_000] } as const;
    const series = poisson(70, 4, 5, (step, row) => (row + 1) * (40 + 30 * Math.sin(step / 6)));
    const { engine: never } = await openWith(options);
    await run(never, series.slice(0, 40));
    never.reset(2);
    const { engine: restarted } = await openWith(options);
    await keep(never, 4).putBack(restarted);
    expect(await run(restarted, series.slice(40))).toEqual(await run(never, series.slice(40)));
  });

  it('has the challenger on trial go on, and lets it be promoted when it would have been', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'foretoken-restore-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    // A rhythm that the shipped model has to learn.
    const series = poisson(
      330,
      6,
      5,
      (step, row) => ((step + 3 * row) % 37 < 3 || (step + 3 * row) % 23 === 0 ? 40 : 0.2) * (row + 1),
    );
    const options = { engine: 'lstm', refine: true, horizonsMs: [1000, 5000] } as const;
    const { engine: never, events } = await openWith({ ...options, refinedFolder: folder });
    await run(never, series.slice(0, 230));
    expect(events.map(({ message }) => message)).toEqual([expect.stringMatching(/^challenger on trial/)]);
    const { putBack } = keep(never, 6);
    const { engine: restarted, events: after } = await openWith(options);
    await putBack(restarted);
    const expected = await run(never, series.slice(230));
    expect(await run(restarted, series.slice(230))).toEqual(expected);
    expect(after).toEqual([events[1]]);
    expect(after[0]!.message).toMatch(/^challenger promoted/);

    // So does one that was kept some steps before the end, and has the history of those.
    const { engine: replaying, events: replayed } = await openWith(options);
    await putBack(replaying);
    const since = { timeMs: 0, stepMs: 1000, steps: 20, targets: ['0', '1', '2', '3', '4', '5'] };
    const data = Float32Array.from(series.slice(226, 246).flat());
    expect(await replaying.warm({ ...since, data }, Number, { known: 4 })).toBe(20);
    expect(await run(replaying, series.slice(246))).toEqual(expected.slice(16));
    expect(replayed).toEqual(after);

    // A restart that finds it promoted has it serve, with the state and the record of its trial.
    const { engine: later } = await openWith({ ...options, refinedFolder: folder });
    await putBack(later);
    const [frame] = await run(later, series.slice(230, 231));
    expect(frame).not.toEqual(expected[0]);
    expect(later.modelFrame()!.engine[0]).toBe(2);
    // One that cannot be read leaves no challenger behind.
    const { engine: failed, events: anew } = await openWith(options);
    await expect(putBack(failed, (row) => row, 0)).rejects.toThrow('no more');
    await run(failed, series);
    const { engine: fresh } = await openWith(options);
    await run(fresh, series);
    expect(anew).toEqual(events);
    expect(failed.modelFrame()).toEqual(fresh.modelFrame());
    // Where refinement is not wanted, there is none.
    const { engine: without, events: none } = await openWith({ ...options, refine: false });
    await putBack(without);
    await run(without, series.slice(230));
    expect(none).toEqual([]);
  }, 30_000);

  it.each(['auto', 'lstm'] as const)('knows nothing of a row that is given to another meanwhile (%s)', async (name) => {
    const series = mixed(60, 6);
    const { engine: never } = await openWith({ engine: name });
    await run(never, series);
    const { putBack } = keep(never, 6);
    const { engine: restarted } = await openWith({ engine: name });
    const restoring = putBack(restarted);
    restarted.reset(3);
    await restoring;
    never.reset(3);
    expect([2, 3].map((row) => restarted.knows(row))).toEqual([true, false]);
    expect(await run(restarted, series)).toEqual(await run(never, series));
  });

  it('begins from nothing where the state cannot be read, and says so', async () => {
    const series = mixed(60, 6);
    const rows = 200;
    const wide = mixed(40, rows);
    const { engine: large } = await openWith({ rows });
    await run(large, wide);
    const { putBack, bytes } = keep(large, rows);
    // More than one block of it, so that part of it has been put back by then.
    expect(bytes.length).toBeGreaterThan(2 ** 20);
    const { engine: restarted } = await openWith({ rows });
    await expect(putBack(restarted, (row) => row, bytes.length - 1)).rejects.toThrow('no more');
    const { engine: fresh } = await openWith({ rows });
    expect(same(await run(restarted, wide), await run(fresh, wide))).toBe(true);
    const { engine: small } = await openWith({ rows: 2 });
    const { engine: never } = await openWith();
    await run(never, series);
    await expect(keep(never, 6).putBack(small)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('keeps nothing once closed, nor of the last value, and tells of rows that change hands meanwhile', async () => {
    const { engine } = await openWith();
    await run(engine, mixed(20, 4));
    const { forgotten } = engine.save(Int32Array.of(0, 1))!;
    engine.reset(1);
    expect([...forgotten]).toEqual([1]);
    expect([...engine.save(Int32Array.of(0))!.forgotten]).toEqual([]);
    // A model that is late writes to what would be copied.
    const late = vi.spyOn(LstmForecaster.prototype, 'isIdle', 'get').mockReturnValue(false);
    expect(engine.save(Int32Array.of(0))).toBeUndefined();
    late.mockRestore();
    expect(engine.save(Int32Array.of(0))).toBeDefined();
    await engine.close();
    expect(engine.save(Int32Array.of(0))).toBeUndefined();
    const { engine: last } = await openWith({ engine: 'last' });
    expect(last.likeness).toBeUndefined();
  });

  it('is only such a one that has the same forecasters, steps and horizons', async () => {
    const { engine } = await openWith();
    const others = [{ engine: 'lstm' }, { stepMs: 500 }, { horizonsMs: [5_000, 30_000] }, { sleeps: false }] as const;
    for (const options of others) expect((await openWith(options)).engine.likeness).not.toBe(engine.likeness);
    expect((await openWith({ refine: true, seed: 2, rows: 3 })).engine.likeness).toBe(engine.likeness);
  });
});

describe('a comparison of two models that goes on', () => {
  const options = { stepMs: 1000, horizonsMs: [5_000] };
  const said = (value: number) => new Float32Array(3 * quantileCount).fill(value);
  const watchOf = (steps: number, last: number) => {
    const watch = new LiveWatch(options);
    for (let step = 0; step < steps; step++) watch.step([3, 9, last], 3, said(5), said(7));
    return watch;
  };
  const carryOver = async (watch: LiveWatch, from: number[], to: number[]) => {
    const other = new LiveWatch(options);
    await carry(watch, other, from, to);
    return other;
  };

  it('does not count what was said of rows that have other numbers now', async () => {
    const watch = watchOf(20, 6);
    const moved = await carryOver(watch, [0, 1, 2], [2, 1, 0]);
    const before = watch.bestLosses();
    expect(moved.bestLosses()).toEqual(before);
    moved.step([0, 0, 0], 3, said(5), said(7));
    expect(moved.bestLosses()).toEqual(before);
  });

  it('takes those nobody has any more for rows that nobody asks under', async () => {
    const [watch, quiet] = [watchOf(20, 1e6), watchOf(20, 1e6)];
    const other = await carryOver(watch, [0, 1], [0, 1]);
    for (let step = 0; step < 5; step++) {
      other.step([3, 9, 0], 3, said(5), said(7));
      quiet.step([3, 9, 1e6], 3, said(5), said(7));
    }
    // Of a row that was given up nothing is missed, and it wanted nothing.
    expect(other.bestLosses()[0]).toBeLessThan(quiet.bestLosses()[0]! / 1.01);
    const whole = await carryOver(watchOf(20, 1e6), [0, 1, 2], [0, 1, 2]);
    for (let step = 0; step < 5; step++) whole.step([3, 9, 1e6], 3, said(5), said(7));
    expect(whole.bestLosses()).toEqual(quiet.bestLosses());
  });
});
