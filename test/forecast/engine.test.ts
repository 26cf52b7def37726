import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { EngineEvent, EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { Mixture } from '../../src/forecast/mixture.js';
import { engineChoices } from '../../src/forecast/names.js';
import type { DemandMatrix } from '../../src/history/store.js';
import { Lineage } from '../../src/learn/lineage.js';
import { type LstmWeights, readWeights } from '../../src/learn/model.js';
import { Random } from '../../src/learn/random.js';
import { Refiner } from '../../src/learn/refiner.js';
import { openEngine, run } from './engines.js';
import { kinds, poisson, type Series } from './series.js';

const openWith = (options: Partial<EngineOptions> = {}) =>
  openEngine({ rows: 8, horizonsMs: [1000, 5000], ...options });

const series = poisson(80, 4, 12, kinds.periodic!);

describe('a model that cannot be used', () => {
  const folder = () => {
    const path = mkdtempSync(join(tmpdir(), 'foretoken-engine-'));
    onTestFinished(() => rmSync(path, { recursive: true, force: true }));
    return path;
  };
  it.each([
    ['missing', () => join(folder(), 'none.onnx')],
    [
      'corrupt',
      () => {
        const path = join(folder(), 'bad.onnx');
        writeFileSync(path, 'no graph');
        writeFileSync(path.replace('.onnx', '.weights.bin'), 'no weights');
        return path;
      },
    ],
  ])('(%s) is one event, and classical forecasters go on', async (_, place) => {
    for (const name of ['auto', 'lstm'] as const) {
      const { engine, events } = await openWith({ engine: name, modelPath: place() });
      const frames = await run(engine, series);
      expect(events).toMatchObject([{ kind: 'engine', message: expect.stringContaining('classical') }]);
      expect(frames.at(-1)!.some((value) => value > 1)).toBe(true);
      await engine.close();
    }
  });
});

describe('the engine', () => {
  it.each(engineChoices)('repeats itself for the same demand (%s)', async (name) => {
    const first = await run((await openWith({ engine: name })).engine, series);
    const second = await run((await openWith({ engine: name })).engine, series);
    expect(second).toEqual(first);
    expect(first.at(-1)!.some((value) => value > 1)).toBe(true);
  });

  it('takes what is no demand for none, and does not remember it', async () => {
    const { engine } = await openWith({ engine: 'auto' });
    const odd = [Number.NaN, -5, Number.POSITIVE_INFINITY, 3];
    await run(engine, [...series.slice(0, 5), odd, ...series.slice(5, 20)]);
    const { engine: other } = await openWith({ engine: 'auto' });
    const [frames, clean] = [
      await run(engine, series.slice(20, 30)),
      await run(other, [...series.slice(0, 5), [0, 0, 1e15, 3], ...series.slice(5, 30)]),
    ];
    expect(frames.at(-1)).toEqual(clean.at(-1));
  });

  it('names the last value as what carried its forecasts, where that is what it is', async () => {
    const { engine } = await openWith({ engine: 'last' });
    const { engines, engine: carried } = await engine.step(Float64Array.of(3, 1), 2);
    expect(engines[carried[0]!]).toBe('last');
  });

  it('refuses rows it has no room for, and everything once closed', async () => {
    const { engine } = await openWith({ engine: 'ewma' });
    for (const rows of [9, -1, 1.5, Number.NaN])
      await expect(engine.step(new Float64Array(20), rows)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(engine.step(new Float64Array(2), 3)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await engine.close();
    await engine.close();
    await expect(engine.step(new Float64Array(2), 2)).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('closes while a step is under way', async () => {
    const { engine } = await openWith({ engine: 'auto' });
    const step = engine.step(Float64Array.of(1, 2, 3), 3).then(
      () => 'done',
      (error: { code: string }) => error.code,
    );
    await engine.close();
    expect(['done', 'CLOSED', 'WORKER_FAILED']).toContain(await step);
  });
});

describe('warming', () => {
  const past = poisson(320, 3, 31, (step, row) => ((step + row) % 16 < 3 ? 80 : 4));
  const matrix: DemandMatrix = {
    timeMs: 0,
    stepMs: 1000,
    steps: 300,
    targets: ['a', 'b', 'gone', 'c'],
    data: Float32Array.from(past.slice(0, 300).flatMap(([a, b, c]) => [a!, b!, 1000, c!])),
  };
  const rowOf = (name: string) => ({ a: 0, b: 1, c: 2 })[name];

  it('brings classical forecasts to exactly where they would be had the engine never stopped', async () => {
    const { engine: never } = await openWith({ engine: 'ewma' });
    const { engine: warmed } = await openWith({ engine: 'ewma' });
    await run(never, past.slice(0, 300));
    expect(await warmed.warm(matrix, rowOf)).toBe(300);
    expect(await run(warmed, past.slice(300))).toEqual(await run(never, past.slice(300)));
  });

  it('brings the whole mixture, model and weights, to exactly where they would be', async () => {
    const { engine: never } = await openWith();
    const { engine: warmed } = await openWith();
    await run(never, past.slice(0, 300));
    await warmed.warm(matrix, rowOf);
    expect(await run(warmed, past.slice(300))).toEqual(await run(never, past.slice(300)));
  });

  it('of a large table makes forecasts of the latest steps alone, and takes in the others', async () => {
    const rows = 2000;
    const names = Array.from({ length: rows }, (_, row) => `t${row}`);
    const demands = Array.from({ length: 131 }, (_, step) =>
      Array.from({ length: rows }, (_, row) => ((step + row) % 16 < 3 ? 80 : (step * row) % 5)),
    );
    // As many that are gone cost nothing, and do not count.
    const gone = names.map((name) => `gone ${name}`);
    const data = Float32Array.from(demands.slice(0, 130).flatMap((demand) => [...demand, ...demand]));
    const large = { ...matrix, steps: 130, targets: [...names, ...gone], data };
    const places = new Map(names.map((name, row) => [name, row]));
    const predicting = vi.spyOn(Mixture.prototype, 'predict');
    onTestFinished(() => predicting.mockRestore());
    const { engine: warmed } = await openWith({ engine: 'lstm', rows });
    await warmed.warm(large, (name) => places.get(name));
    expect(predicting).toHaveBeenCalledTimes(75);
    const { engine: never } = await openWith({ engine: 'lstm', rows });
    await run(never, demands.slice(0, 130));
    expect(await run(warmed, demands.slice(130))).toEqual(await run(never, demands.slice(130)));
  });

  it('takes in nothing more for a row that is given to another meanwhile', async () => {
    // Every step lets others have a turn.
    let timeMs = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => (timeMs += 20));
    onTestFinished(() => void vi.restoreAllMocks());
    const { engine } = await openWith({ engine: 'ewma' });
    const warming = engine.warm(matrix, rowOf);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(engine.knows(1)).toBe(true);
    engine.reset(1);
    expect(await warming).toBe(300);
    expect([0, 1, 2].map((row) => engine.knows(row))).toEqual([true, false, true]);
  });

  it('brings a target that is added while steps go on to where it would be had it been there', async () => {
    // A third row with a rhythm; the engine runs without it and is told of its past later.
    for (const name of ['auto', 'ewma'] as const) {
      const [{ engine: never }, { engine: late }, { engine: cold }] = [
        await openWith({ engine: name }),
        await openWith({ engine: name }),
        await openWith({ engine: name }),
      ];
      const without = past.slice(0, 300).map(([a, b]) => [a!, b!, 0]);
      await run(never, past.slice(0, 300));
      for (const engine of [late, cold]) await run(engine, without);
      const warming = late.warmLate(matrix, (target) => (target === 'c' ? 2 : undefined));
      // Steps without any demand of the row go on meanwhile, until it has been taken over.
      let warmed = 0;
      void warming.then((targets) => {
        warmed = targets;
      });
      for (let step = 0; step < 100 && warmed === 0; step++) {
        for (const engine of [never, late, cold]) await run(engine, [[4, 4, 0]]);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      expect(warmed).toBe(1);
      const miss = async (engine: ForecastEngine) => {
        const frames = await run(engine, past.slice(300));
        return frames.map((frame) => frame.slice(2 * 2 * quantileCount));
      };
      const [expected, got, begun] = [await miss(never), await miss(late), await miss(cold)];
      const distance = (frames: Float32Array[]) =>
        frames.reduce(
          (sum, frame, i) => sum + frame.reduce((d, value, j) => d + Math.abs(value - expected[i]![j]!), 0),
          0,
        );
      expect(distance(got)).toBeLessThan(0.35 * distance(begun));
    }
  });

  it('of a row that was given to another target meanwhile is dropped', async () => {
    const { engine } = await openWith({ engine: 'ewma' });
    const { engine: fresh } = await openWith({ engine: 'ewma' });
    const warming = engine.warmLate(matrix, (target) => (target === 'c' ? 2 : undefined));
    await new Promise((resolve) => setTimeout(resolve, 500));
    engine.reset(2);
    fresh.reset(2);
    expect(await run(engine, series)).toEqual(await run(fresh, series));
    await warming;
  });

  it('from steps of another length, or from targets that are gone, changes nothing', async () => {
    const { engine } = await openWith({ engine: 'ewma' });
    expect(await engine.warm({ ...matrix, stepMs: 500 }, rowOf)).toBe(0);
    expect(await engine.warm(matrix, () => undefined)).toBe(0);
    const { engine: fresh } = await openWith({ engine: 'ewma' });
    expect(await run(engine, series)).toEqual(await run(fresh, series));
  });

  it('lets the thread do other things, and ends when it is told to', async () => {
    const { engine } = await openWith({ engine: 'ewma', rows: 2000 });
    const targets = Array.from({ length: 2000 }, (_, i) => `${i}`);
    const large = { ...matrix, steps: 300, targets, data: new Float32Array(300 * 2000).fill(3) };
    const stop = new AbortController();
    let turns = 0;
    const timer = setInterval(() => {
      if (++turns === 3) stop.abort();
    }, 1);
    const steps = await engine.warm(large, Number, { signal: stop.signal });
    clearInterval(timer);
    expect(turns).toBeGreaterThanOrEqual(3);
    expect(steps).toBeGreaterThan(0);
    expect(steps).toBeLessThan(300);
  });
});

/** A folder as a run leaves it that has promoted these weights. */
const folderWith = async (weights: LstmWeights) => {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-refined-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  const lineage = await Lineage.open(path, await shipped());
  await lineage.promote(weights);
  return path;
};
const shipped = () => readWeights(weightsPathOf(shippedModelPath));

describe('a refined model from an earlier run', () => {
  const long = poisson(240, 4, 12, kinds.periodic!);

  it('is used again after a restart', async () => {
    const refinedFolder = await folderWith(await shipped());
    const { engine } = await openWith({ engine: 'lstm', refine: true, refinedFolder });
    const frame = await engine.step(Float64Array.of(3, 1), 2);
    expect(frame.engines[frame.engine[0]!]).toBe('lstm-refined');
  });

  it('is withdrawn when it is of no use, and hardly heard meanwhile', async () => {
    const { shape, values, featureVersion } = await shipped();
    const refinedFolder = await folderWith({ shape, values: values.map((value) => -0.5 * value), featureVersion });
    const { engine, events } = await openWith({ engine: 'lstm', refine: true, refinedFolder });
    const served = await run(engine, long);
    const withdrawn = events.filter(({ message }) => message.startsWith('refined model withdrawn'));
    expect(withdrawn).toHaveLength(1);
    const { engine: plain } = await openWith({ engine: 'lstm' });
    const shippedAlone = await run(plain, long);
    served.slice(100).forEach((quantiles, i) => {
      const expected = shippedAlone[100 + i]!;
      quantiles.forEach((value, at) => void expect(Math.abs(value - expected[at]!)).toBeLessThan(0.01 * expected[at]!));
    });
    expect(served.slice(200)).toEqual(shippedAlone.slice(200));
    await engine.close();
    expect(readdirSync(refinedFolder)).toEqual([]);
  });
});

describe('the budget of refinement', () => {
  it('is a part of one core: of the training steps, and of the thread that does them', async () => {
    const refining = vi.spyOn(Refiner.prototype, 'run').mockRejectedValue(new Error('not now'));
    onTestFinished(() => refining.mockRestore());
    const { engine } = await openWith({ engine: 'lstm', refine: true, refineCpuPart: 0.001, deterministic: false });
    await run(engine, poisson(201, 4, 12, kinds.periodic!));
    // A thousandth of 200 s at 6 ms a training step.
    expect(refining.mock.calls.map(([{ trainingSteps }, cpuPart]) => [trainingSteps, cpuPart])).toEqual([[33, 0.001]]);
  });
});

describe('what was before an engine', () => {
  const rowOf = (name: string) => ({ a: 0, b: 1 })[name];
  const past = (steps: number, stepMs = 1000): DemandMatrix => ({
    timeMs: 0,
    stepMs,
    steps,
    targets: ['b', 'gone', 'a'],
    data: Float32Array.from({ length: 3 * steps }, (_, i) => 1000 + i),
  });
  const refined = () => {
    const refining = vi.spyOn(Refiner.prototype, 'run').mockRejectedValue(new Error('not now'));
    onTestFinished(() => refining.mockRestore());
    return () => refining.mock.calls.map(([{ demand }]) => demand);
  };
  const some = (steps: number) => poisson(steps, 3, 12, () => 5);

  it('is what it is refined on, where that is more than it has seen', async () => {
    const demands = refined();
    const { engine } = await openWith({ engine: 'lstm', refine: true });
    const asked = vi.fn(async () => ({ matrix: past(250), rowOf }));
    engine.learnFrom(asked);
    await run(engine, some(200));
    expect(asked.mock.calls).toEqual([[8192, [0, 1, 2]]]);
    expect(demands()).toMatchObject([{ rows: 2, steps: 250, places: [0, 1] }]);
    expect([...demands()[0]!.data.subarray(0, 4)]).toEqual([1002, 1000, 1005, 1003]);
    await run(engine, some(100));
    expect(demands()[1]).toMatchObject({ rows: 3, steps: 300 });
  });

  it('is cut where nobody asked for long, as nobody may have been there', async () => {
    const demands = refined();
    const { engine } = await openWith({ engine: 'lstm', refine: true });
    const matrix = past(2000);
    // Who is gone asked all the time.
    for (let step = 300; step < 1700; step++) matrix.data[3 * step] = matrix.data[3 * step + 2] = 0;
    engine.learnFrom(async () => ({ matrix, rowOf }));
    await run(engine, some(200));
    const { steps, data } = demands()[0]!;
    expect([steps, data.length]).toEqual([300 + 100 + 300, 2 * 700]);
    expect([2 * 299, 2 * 300, 2 * 399, 2 * 400, 2 * 699].map((at) => data[at])).toEqual([1899, 0, 0, 6102, 6999]);
  });

  it('is done without while it cannot be had, and where it is of other steps', async () => {
    const demands = refined();
    const { engine, events } = await openWith({ engine: 'lstm', refine: true });
    const told = () => events.filter(({ message }) => message.includes('history')).map(({ message }) => message);
    engine.learnFrom(() => Promise.reject(new Error('no disk')));
    await run(engine, some(300));
    expect(demands().map(({ steps }) => steps)).toEqual([200, 300]);
    expect(told()).toEqual(['refined without the history for now: no disk']);
    engine.learnFrom(async () => ({ matrix: past(900, 500), rowOf }));
    await run(engine, some(150));
    engine.learnFrom(() => Promise.reject(new Error('no disk again')));
    await run(engine, some(225));
    expect(demands().map(({ steps }) => steps)).toEqual([200, 300, 450, 675]);
    expect(told()).toHaveLength(2);
  });

  it('is not waited for by who closes, nor asked for where nobody has asked', async () => {
    const demands = refined();
    const { engine } = await openWith({ engine: 'lstm', refine: true, deterministic: false });
    const asked = vi.fn(() => new Promise<never>(() => {}));
    engine.learnFrom(asked);
    await run(engine, new Array(250).fill([0, 0, 0]));
    expect(asked).not.toHaveBeenCalled();
    await run(engine, some(60));
    expect(asked).toHaveBeenCalledTimes(1);
    await engine.close();
    expect(demands()).toEqual([]);
  });
});

describe('a challenger', () => {
  /** A rhythm for so many steps that refinement begins, then what follows until the next challenger comes. */
  function relay(then: (step: number, row: number) => boolean): Series {
    const random = new Random(5);
    return Array.from({ length: 302 }, (_, step) =>
      Array.from({ length: 6 }, (__, row) => {
        const shift = step + 3 * row;
        const isOn = step < 202 ? shift % 37 < 3 || shift % 23 === 0 : then(step, row);
        return random.poisson(isOn ? 40 : 0.2) * (row + 1);
      }),
    );
  }
  const models = (events: EngineEvent[]) => events.filter(({ kind }) => kind === 'model').map(({ message }) => message);

  it.each([
    [
      'promoted where what it learnt holds',
      /^challenger promoted: saves \d/,
      (at: number) => at % 37 < 3 || at % 23 === 0,
    ],
    ['refused where it no longer does', /^challenger refused: saves [-0]/, (at: number) => (at * 7919) % 101 < 50],
  ])('is not heard on its trial, and then %s', async (_, outcome, isOn) => {
    const folder = mkdtempSync(join(tmpdir(), 'foretoken-trial-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const series = relay((step, row) => isOn(step + 3 * row));
    const { engine, events } = await openWith({ engine: 'lstm', refine: true, refinedFolder: folder });
    const { engine: plain } = await openWith({ engine: 'lstm' });
    expect(await run(engine, series.slice(0, 259))).toEqual(await run(plain, series.slice(0, 259)));
    expect(models(events)).toEqual([expect.stringMatching(/^challenger on trial/)]);
    await run(engine, series.slice(259));
    expect(models(events)[1]).toMatch(outcome);
    const isPromoted = outcome.source.includes('promoted');
    const next = await engine.step(Float64Array.from(series[0]!), 6);
    expect(next.engines[next.engine[0]!]).toBe(isPromoted ? 'lstm-refined' : 'lstm');
    await engine.close();
    expect(readdirSync(folder)).toHaveLength(isPromoted ? 1 : 0);
  });

  it('goes on from the refined model that serves', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'foretoken-chain-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const refining = vi.spyOn(Refiner.prototype, 'run');
    onTestFinished(() => refining.mockRestore());
    const { engine } = await openWith({ engine: 'lstm', refine: true, refinedFolder: folder });
    await run(
      engine,
      relay((step, row) => (step + 3 * row) % 37 < 3 || (step + 3 * row) % 23 === 0),
    );
    await engine.close();
    const promoted = await readWeights(join(folder, readdirSync(folder)[0]!));
    const [first, second] = refining.mock.calls.map(([{ weights }]) => weights.values);
    expect(first).toEqual((await readWeights(weightsPathOf(shippedModelPath))).values);
    expect(second).toEqual(promoted.values);
  });
});
