import { describe, expect, onTestFinished, test } from 'vitest';
import type { HistoryOptions } from '../../src/history/options.js';
import type { DecisionRecord, HistoryStore, Resolution } from '../../src/history/store.js';
import { forecast, point, random, step } from './records.js';

const minute = 60_000;
const hour = 60 * minute;
const forEver = Number.POSITIVE_INFINITY;
const keepAll = {
  step: forEver,
  '10s': forEver,
  '1m': forEver,
  '1h': forEver,
  forecasts: forEver,
  decisions: forEver,
};
/** A whole hour, so that points begin with the first step. */
const t0 = 1_700_000 * 1_000_000 - ((1_700_000 * 1_000_000) % hour);

/** What every store must do. `openRaw` opens one in a place of its own; it is closed when the test ends. */
export function conformance(name: string, openRaw: (options: HistoryOptions) => Promise<HistoryStore>): void {
  const open = async (options: HistoryOptions = {}): Promise<HistoryStore> => {
    const store = await openRaw(options);
    onTestFinished(() => store.close());
    return store;
  };

  describe(`${name}: steps`, () => {
    test('are read back as they were appended', async () => {
      const store = await open();
      store.appendStep(step(t0, { a: 3, b: 5 }));
      store.appendStep(step(t0 + 1000, { b: 7 }));
      await store.flush();
      expect(await store.series('a', 'step', t0, t0 + 2000)).toEqual([point(t0, 3)]);
      expect(await store.series('b', 'step', t0, t0 + 2000)).toEqual([point(t0, 5), point(t0 + 1000, 7)]);
      expect(store.health()).toEqual({ up: true, pending: 0, written: 2, failed: 0 });
    });

    test('are read in a range that includes its start and excludes its end', async () => {
      const store = await open();
      for (let i = 0; i < 5; i++) store.appendStep(step(t0 + i * 1000, { a: i + 1 }));
      await store.flush();
      const times = async (from: number, to: number) =>
        (await store.series('a', 'step', from, to)).map((p) => p.timeMs - t0);
      expect(await times(t0 + 1000, t0 + 3000)).toEqual([1000, 2000]);
      expect(await times(t0 + 1000.5, t0 + 3000.5)).toEqual([2000, 3000]);
      expect(await times(Number.NEGATIVE_INFINITY, forEver)).toEqual([0, 1000, 2000, 3000, 4000]);
      expect(await times(t0 + 3000, t0 + 1000)).toEqual([]);
    });

    test('of an unknown target are none', async () => {
      const store = await open();
      store.appendStep(step(t0, { a: 1 }));
      await store.flush();
      expect(await store.series('nobody', 'step', 0, forEver)).toEqual([]);
      expect(await store.series('nobody', '1h', 0, forEver)).toEqual([]);
    });

    test('of one time and target add up', async () => {
      const store = await open();
      store.appendStep(step(t0, { a: 3 }));
      store.appendStep(step(t0, { a: 5 }));
      store.appendStep({ ...step(t0, { a: 1, b: 1 }), targets: ['a', 'a'] });
      await store.flush();
      for (const resolution of ['step', '10s', '1m', '1h'] as const) {
        expect(await store.series('a', resolution, t0, t0 + hour)).toEqual([point(t0, 3, 5, 1, 1)]);
      }
    });

    test('may be written into the same arrays again once they are appended', async () => {
      const store = await open();
      const record = step(t0, { a: 3 });
      store.appendStep(record);
      record.arrivals[0] = 99;
      record.demandTokens[0] = 99;
      (record.targets as string[])[0] = 'b';
      await store.flush();
      expect(await store.series('a', 'step', t0, forEver)).toEqual([point(t0, 3)]);
      expect(await store.series('b', 'step', t0, forEver)).toEqual([]);
    });

    test('take any name for a target', async () => {
      const store = await open();
      const names = [
        '',
        "'; drop table steps; --",
        'a\u0000b',
        'a\u0000',
        '__proto__',
        'constructor',
        '😀 é',
        'x'.repeat(70_000),
      ];
      names.forEach((name, i) => {
        store.appendStep({ ...step(t0, { x: i + 1 }), targets: [name] });
      });
      await store.flush();
      for (const [i, name] of names.entries())
        expect(await store.series(name, 'step', 0, forEver)).toEqual([point(t0, i + 1)]);
      expect([...(await store.recentDemand(1, 1000)).targets]).toEqual([...names].sort());
    });

    test('may name none, and may name others each time', async () => {
      const store = await open();
      store.appendStep(step(t0, {}));
      for (let i = 0; i < 50; i++) store.appendStep(step(t0 + i * 1000, { [`t${i}`]: 1, [`t${i + 1}`]: 2, fixed: 3 }));
      await store.flush();
      expect(await store.series('t7', 'step', 0, forEver)).toEqual([point(t0 + 6000, 2), point(t0 + 7000, 1)]);
      expect(await store.series('fixed', '1h', 0, forEver)).toEqual([point(t0, ...new Array<number>(50).fill(3))]);
    });

    test('count what is negative or not finite as 0', async () => {
      const store = await open();
      const record = step(t0, { a: 1, b: 1, c: 1 });
      record.demandTokens.set([Number.NaN, -1, Number.POSITIVE_INFINITY]);
      store.appendStep(record);
      await store.flush();
      const demand = await Promise.all(['a', 'b', 'c'].map((t) => store.series(t, '1m', 0, forEver)));
      expect(demand.map(([p]) => [p?.demandTokens, p?.demandTokensMax, p?.arrivals])).toEqual([
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 1],
      ]);
    });

    test('that are malformed are refused and change nothing', async () => {
      const store = await open();
      const changes: Record<string, object> = {
        'a column shorter than the targets': { denied: new Float64Array(1) },
        'a column of another type': { denied: [1, 2] },
        'no column': { denied: undefined },
        'a time that is not a number': { timeMs: Number.NaN },
        'a negative time': { timeMs: -1 },
        'an endless time': { timeMs: Number.POSITIVE_INFINITY },
        'a step of no length': { stepMs: 0 },
        'targets that are no array': { targets: 'ab' },
        'a target that is no string': { targets: ['a', 7] },
      };
      for (const [what, change] of Object.entries(changes)) {
        const bad = { ...step(t0, { a: 1, b: 2 }), ...change };
        expect(() => store.appendStep(bad), what).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
      }
      await store.flush();
      expect(store.health()).toEqual({ up: true, pending: 0, written: 0, failed: 0 });
      store.appendStep(step(t0, { a: 1 }));
      await store.flush();
      expect(await store.series('a', 'step', 0, forEver)).toEqual([point(t0, 1)]);
    });
  });

  describe(`${name}: rollups`, () => {
    test('keep sum and largest demand, and hold what was not compacted yet', async () => {
      const store = await open();
      for (let i = 0; i < 25; i++) store.appendStep(step(t0 + i * 1000, { a: i }));
      await store.flush();
      const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
      const expected = {
        '10s': [point(t0, ...range(0, 10)), point(t0 + 10_000, ...range(10, 20)), point(t0 + 20_000, ...range(20, 25))],
        '1m': [point(t0, ...range(0, 25))],
        '1h': [point(t0, ...range(0, 25))],
      };
      for (let round = 0; round < 3; round++) {
        for (const resolution of ['10s', '1m', '1h'] as const) {
          expect(await store.series('a', resolution, t0, t0 + hour)).toEqual(expected[resolution]);
        }
        await store.compact();
      }
    });

    test('are read by the start of the point', async () => {
      const store = await open();
      for (let i = 0; i < 30; i++) store.appendStep(step(t0 + i * 1000, { a: 1 }));
      await store.flush();
      for (let round = 0; round < 2; round++) {
        const starts = async (from: number, to: number) =>
          (await store.series('a', '10s', from, to)).map((p) => p.timeMs - t0);
        expect(await starts(t0, t0 + 20_000)).toEqual([0, 10_000]);
        expect(await starts(t0 + 1, t0 + 20_001)).toEqual([10_000, 20_000]);
        expect(await starts(t0 + 20_001, forEver)).toEqual([]);
        await store.compact();
      }
    });

    test.each([1, 2, 3, 4])(
      'are right whenever compaction runs, late and leaping data included (seed %i)',
      async (seed) => {
        const store = await open({ retentionMs: keepAll });
        const below = random(seed * 7919);
        const steps: { time: number; target: string; count: number }[] = [];
        let time = t0;
        for (let i = 0; i < 400; i++) {
          time += [1000, 1000, 1000, 1000, 7000, 90_000, 3 * hour, -40_000][below(below(10) === 0 ? 8 : 4)]!;
          const at = below(12) === 0 ? time - below(2 * hour) : time;
          const counts: Record<string, number> = {};
          for (let target = 0; target < 4; target++) if (below(3) > 0) counts[`t${target}`] = below(100);
          store.appendStep(step(at, counts));
          for (const [target, count] of Object.entries(counts)) steps.push({ time: at, target, count });
          if (below(23) > 0) continue;
          await store.flush();
          await store.compact();
        }
        await store.flush();
        for (let round = 0; round < 2; round++) {
          for (const [resolution, length] of [
            ['step', 1],
            ['10s', 10_000],
            ['1m', minute],
            ['1h', hour],
          ] as const) {
            for (const target of ['t0', 't3']) {
              const points = new Map<number, number[]>();
              for (const { time: at, target: of, count } of steps) {
                const start = Math.floor(at / length) * length;
                if (of === target) points.set(start, [...(points.get(start) ?? []), count]);
              }
              const expected = [...points].sort(([a], [b]) => a - b).map(([start, counts]) => point(start, ...counts));
              expect(await store.series(target, resolution, 0, forEver)).toEqual(expected);
            }
          }
          await store.compact();
        }
      },
    );
  });

  describe(`${name}: retention`, () => {
    const seconds = (store: HistoryStore, from: number, to: number, counts: Record<string, number> = { a: 1 }) => {
      for (let i = from; i < to; i++) store.appendStep(step(t0 + i * 1000, counts));
    };
    const times = async (store: HistoryStore, resolution: Resolution) =>
      (await store.series('a', resolution, 0, forEver)).map((p) => (p.timeMs - t0) / 1000);

    test('deletes each resolution after its own time and keeps the sums in the coarser', async () => {
      const store = await open({ retentionMs: { step: 5000, '10s': 30_000, '1m': 2 * minute } });
      seconds(store, 0, 305);
      await store.flush();
      await store.compact();
      expect(await times(store, 'step')).toEqual([300, 301, 302, 303, 304]);
      expect(await times(store, '10s')).toEqual([280, 290, 300]);
      expect(await times(store, '1m')).toEqual([0, 60, 120, 180, 240, 300]);
      expect(await store.series('a', '1h', 0, forEver)).toEqual([point(t0, ...new Array<number>(305).fill(1))]);
    });

    test('runs by itself, by the time of what is appended', async () => {
      const store = await open({ retentionMs: { step: 10_000 }, compactEveryMs: minute });
      seconds(store, 0, 59);
      await store.flush();
      expect(await times(store, 'step')).toHaveLength(59);
      seconds(store, 59, 60);
      await store.flush();
      // A read waits for what runs by itself.
      await store.decisions('a', 0, 1);
      expect(await times(store, 'step')).toEqual([50, 51, 52, 53, 54, 55, 56, 57, 58, 59]);
    });

    test('never deletes what is not rolled up, however short it is', async () => {
      const store = await open({ retentionMs: { step: 1, '10s': 1, '1m': 1 } });
      for (let i = 0; i < 130; i++) {
        seconds(store, i, i + 1);
        await store.flush();
        if (i % 7 === 0) await store.compact();
      }
      await store.compact();
      expect(await times(store, 'step')).toEqual([]);
      expect(await times(store, '10s')).toEqual([120]);
      expect(await times(store, '1m')).toEqual([0, 60, 120]);
      expect(await store.series('a', '1h', 0, forEver)).toEqual([point(t0, ...new Array<number>(130).fill(1))]);
      for (let i = 130; i <= 3600; i += 10) seconds(store, i, i + 1);
      await store.flush();
      await store.compact();
      expect(await times(store, '1m')).toEqual([3600]);
      const [hourly] = await store.series('a', '1h', 0, forEver);
      expect(hourly).toEqual(point(t0, ...new Array<number>(477).fill(1)));
    });

    test('lets data that comes after its time into the rollups', async () => {
      const store = await open({ retentionMs: { step: 10_000 } });
      seconds(store, 0, 100);
      await store.flush();
      await store.compact();
      store.appendStep(step(t0, { a: 41 }));
      seconds(store, 100, 101);
      await store.flush();
      await store.compact();
      expect((await times(store, 'step'))[0]).toBe(91);
      const [first] = await store.series('a', '1h', 0, forEver);
      expect(first).toEqual(point(t0, 41, ...new Array<number>(101).fill(1)));
    });

    test('keeps at most so many rows, the newest ones', async () => {
      const store = await open({ maxRows: { step: 25, '10s': 7 } });
      seconds(store, 0, 120, { a: 1, b: 2 });
      await store.flush();
      await store.compact();
      expect(await times(store, 'step')).toEqual([108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]);
      expect(await times(store, '10s')).toEqual([90, 100, 110]);
      expect(await store.series('b', '1m', 0, forEver)).toHaveLength(2);
    });

    test('is not fooled by a clock that leaps for a moment', async () => {
      const store = await open({ retentionMs: { step: 4 * hour } });
      seconds(store, 0, 60);
      store.appendStep(step(t0 + 50 * 365 * 24 * hour, { a: 1 }));
      // What is late or early by an age is the newest when this runs.
      await store.flush();
      await store.compact();
      store.appendStep(step(1000, { a: 1 }));
      seconds(store, 60, 120);
      await store.flush();
      await store.compact();
      const kept = await store.series('a', 'step', t0, t0 + hour);
      expect(kept).toHaveLength(120);
    });

    test('applies to forecasts too', async () => {
      const store = await open({ retentionMs: { forecasts: 20_000 }, maxRows: { forecasts: 1000 } });
      for (let i = 0; i < 60; i++) {
        store.appendForecasts(forecast(t0 + i * 1000, 5000, 'ewma', { a: i }));
        store.appendStep(step(t0 + i * 1000, { a: 1 }));
      }
      await store.flush();
      await store.compact();
      expect((await store.forecasts('a', 0, forEver)).map((f) => (f.timeMs - t0) / 1000)).toEqual(
        Array.from({ length: 20 }, (_, i) => 40 + i),
      );
    });
  });

  describe(`${name}: recent demand`, () => {
    const rows = ({ steps, targets, data }: { steps: number; targets: readonly string[]; data: Float32Array }) =>
      Array.from({ length: steps }, (_, i) => [...data.subarray(i * targets.length, (i + 1) * targets.length)]);

    test('is a matrix of steps by targets, oldest first, targets by name, gaps zero', async () => {
      const store = await open();
      store.appendStep(step(t0, { b: 1, a: 2 }));
      store.appendStep(step(t0 + 1000, { c: 3 }));
      store.appendStep(step(t0 + 3000, { a: 4, c: 5 }));
      await store.flush();
      const matrix = await store.recentDemand(4, 1000);
      expect(matrix).toMatchObject({ timeMs: t0, stepMs: 1000, steps: 4, targets: ['a', 'b', 'c'] });
      expect(rows(matrix)).toEqual([
        [8, 4, 0],
        [0, 0, 12],
        [0, 0, 0],
        [16, 0, 20],
      ]);
    });

    test('ends at the given time, or with the newest step, and names only targets seen in it', async () => {
      const store = await open();
      for (let i = 0; i < 10; i++) store.appendStep(step(t0 + i * 1000, i < 5 ? { old: i } : { young: i }));
      await store.flush();
      const newest = await store.recentDemand(2, 1000);
      expect(newest).toMatchObject({ timeMs: t0 + 8000, steps: 2, targets: ['young'] });
      expect(rows(newest)).toEqual([[32], [36]]);
      const earlier = await store.recentDemand(2, 1000, t0 + 6000);
      expect(earlier).toMatchObject({ timeMs: t0 + 4000, targets: ['old', 'young'] });
      expect(rows(earlier)).toEqual([
        [16, 0],
        [0, 20],
      ]);
    });

    test('names the targets asked for alone, of those seen, on the grid that all have', async () => {
      const store = await open();
      store.appendStep(step(t0, { a: 1, b: 2, c: 3 }));
      store.appendStep(step(t0 + 1000, { a: 4, c: 5 }));
      store.appendStep(step(t0 + 2000, { b: 6 }));
      await store.flush();
      const some = await store.recentDemand(3, 1000, undefined, ['c', 'never seen', 'a']);
      expect(some).toMatchObject({ timeMs: t0, steps: 3, targets: ['a', 'c'] });
      expect(rows(some)).toEqual([
        [4, 12],
        [16, 20],
        [0, 0],
      ]);
      for (const none of [[], ['never seen']])
        expect(await store.recentDemand(3, 1000, undefined, none)).toMatchObject({ steps: 0, targets: [] });
    });

    test('begins with the first step there is', async () => {
      const store = await open();
      expect(await store.recentDemand(5, 1000)).toMatchObject({ steps: 0, targets: [], data: new Float32Array(0) });
      store.appendStep(step(t0, { a: 1 }));
      store.appendStep(step(t0 + 1000, { a: 2 }));
      await store.flush();
      const matrix = await store.recentDemand(600, 1000, t0 + 4000);
      expect(matrix).toMatchObject({ timeMs: t0, steps: 4 });
      expect(rows(matrix)).toEqual([[4], [8], [0], [0]]);
    });

    test('keeps one step to a cell although steps begin early or late', async () => {
      const store = await open();
      const jitter = [0, 12, -300, 450, -7, 0];
      jitter.forEach((ms, i) => {
        store.appendStep(step(t0 + i * 1000 + ms, { a: i + 1 }));
      });
      await store.flush();
      expect(rows(await store.recentDemand(6, 1000, t0 + 6000))).toEqual([[4], [8], [12], [16], [20], [24]]);
    });

    test('adds short steps up and spreads long ones over their time', async () => {
      const store = await open();
      store.appendStep(step(t0, { a: 10 }, 5000));
      store.appendStep(step(t0 + 5000, { a: 5 }, 1000));
      store.appendStep(step(t0 + 6000, { a: 1 }, 500));
      store.appendStep(step(t0 + 6500, { a: 2 }, 500));
      await store.flush();
      expect(rows(await store.recentDemand(7, 1000))).toEqual([[8], [8], [8], [8], [8], [20], [12]]);
      expect(rows(await store.recentDemand(3, 2000, t0 + 6000))).toEqual([[16], [16], [28]]);
    });

    test('is refused for a grid that is none', async () => {
      const store = await open();
      const grids: [number, number, number?][] = [
        [0, 1000],
        [1.5, 1000],
        [3, 0],
        [3, Number.NaN],
        [3, 1000, Number.NaN],
      ];
      for (const grid of grids) {
        await expect(store.recentDemand(...grid)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      }
    });
  });

  describe(`${name}: forecasts`, () => {
    test('are read back by target and time, horizons in order', async () => {
      const store = await open();
      store.appendForecasts(forecast(t0, 30_000, 'lstm', { a: 3, b: 4 }));
      store.appendForecasts(forecast(t0, 5000, 'ewma 5', { a: 5 }));
      store.appendForecasts(forecast(t0 + 1000, 5000, 'lstm', { a: 7 }));
      await store.flush();
      expect(await store.forecasts('a', t0, t0 + 1000)).toEqual([
        { timeMs: t0, horizonMs: 5000, engine: 'ewma 5', q50: 5, q90: 10, actual: 15 },
        { timeMs: t0, horizonMs: 30_000, engine: 'lstm', q50: 3, q90: 6, actual: 9 },
      ]);
      expect(await store.forecasts('b', 0, forEver)).toHaveLength(1);
      expect(await store.forecasts('nobody', 0, forEver)).toEqual([]);
    });

    test('that are malformed are refused', async () => {
      const store = await open();
      const good = forecast(t0, 5000, 'lstm', { a: 1 });
      for (const change of [{ horizonMs: 0 }, { engine: 7 }, { q90: new Float64Array(2) }]) {
        const bad = { ...good, ...change } as typeof good;
        expect(() => store.appendForecasts(bad)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
      }
    });
  });

  describe(`${name}: decisions`, () => {
    const decision = (timeMs: number, shape: string, rows: Record<string, number[]>): DecisionRecord => {
      const all = Object.values(rows);
      const fields = all[0]!.length;
      const values = Float64Array.from(
        { length: fields * all.length },
        (_, i) => all[i % all.length]![Math.floor(i / all.length)]!,
      );
      return { timeMs, shape, fields, targets: Object.keys(rows), values };
    };

    test('are read back by target and time, whatever their numbers are and mean', async () => {
      const store = await open();
      const odd = [1, -2.5, Number.POSITIVE_INFINITY, Number.NaN];
      const record = decision(t0, 'four', { a: odd, b: [5, 6, 7, 8] });
      store.appendDecisions(record);
      record.values.fill(0);
      store.appendDecisions(decision(t0 + 1000, 'one', { a: [9] }));
      await store.flush();
      const found = await store.decisions('a', t0, forEver);
      expect(found.map(({ timeMs, shape }) => [timeMs, shape])).toEqual([
        [t0, 'four'],
        [t0 + 1000, 'one'],
      ]);
      expect([...found[0]!.values.subarray(0, 4)]).toEqual(odd);
      expect(found[1]!.values[0]).toBe(9);
      const [b] = await store.decisions('b', 0, forEver);
      expect([...b!.values.subarray(0, 4)]).toEqual([5, 6, 7, 8]);
      expect(await store.decisions('a', t0 + 1, t0 + 1000)).toEqual([]);
      expect(await store.decisions('nobody', 0, forEver)).toEqual([]);
    });

    test('are kept for their retention, an hour unless told otherwise', async () => {
      const store = await open();
      for (let minutes = 0; minutes < 100; minutes++) {
        store.appendDecisions(decision(t0 + minutes * minute, 's', { a: [minutes] }));
        store.appendStep(step(t0 + minutes * minute, { a: 1 }, minute));
      }
      await store.flush();
      await store.compact();
      const kept = (await store.decisions('a', 0, forEver)).map(({ values }) => values[0]);
      expect(kept).toEqual(Array.from({ length: 60 }, (_, i) => 40 + i));
    });

    test('that are malformed are refused and change nothing', async () => {
      const store = await open();
      const good = decision(t0, 's', { a: [1] });
      for (const change of [
        { fields: 0 },
        { fields: 49 },
        { shape: 7 },
        { values: new Float64Array(2) },
        { timeMs: -1 },
      ]) {
        const bad = { ...good, ...change } as typeof good;
        expect(() => store.appendDecisions(bad)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
      }
      expect(await store.decisions('a', 0, forEver)).toEqual([]);
    });
  });

  describe(`${name}: the store`, () => {
    test('refuses everything but closing once it is closed', async () => {
      const store = await open();
      store.appendStep(step(t0, { a: 1 }));
      await store.close();
      await store.close();
      await store[Symbol.asyncDispose]();
      const closed = { code: 'CLOSED' };
      expect(() => store.appendStep(step(t0, { a: 1 }))).toThrow(expect.objectContaining(closed));
      expect(() => store.appendForecasts(forecast(t0, 1, 'x', { a: 1 }))).toThrow(expect.objectContaining(closed));
      await expect(store.flush()).rejects.toMatchObject(closed);
      await expect(store.series('a', 'step', 0, 1)).rejects.toMatchObject(closed);
      await expect(store.recentDemand(1, 1)).rejects.toMatchObject(closed);
      await expect(store.decisions('a', 0, 1)).rejects.toMatchObject(closed);
      await expect(store.compact()).rejects.toMatchObject(closed);
      expect(store.health()).toMatchObject({ up: false, pending: 0, written: 1 });
    });

    test('compacts when there is nothing to compact', async () => {
      const store = await open();
      await store.compact();
      expect(await store.series('a', '1h', 0, forEver)).toEqual([]);
    });

    test('refuses a range that is no numbers', async () => {
      const store = await open();
      await expect(store.series('a', 'step', Number.NaN, 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      await expect(store.forecasts('a', 0, Number.NaN)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    });

    test.each<[HistoryOptions, string]>([
      [{ retentionMs: { step: 0 } }, 'retentionMs.step'],
      [{ retentionMs: { '2m': 5 } as object }, 'retentionMs.2m'],
      [{ maxRows: { '1h': 1.5 } }, 'maxRows.1h'],
      [{ compactEveryMs: Number.NaN }, 'compactEveryMs'],
      [{ retention: {} } as object, 'retention'],
    ])('refuses the options %j and names the wrong one', async (options, named) => {
      await expect(openRaw(options)).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining(`${named} must be`),
      });
    });
  });
}
