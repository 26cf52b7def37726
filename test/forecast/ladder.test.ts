import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Piscina } from 'piscina';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type EngineEvent, type EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { featureCount, featureVersion } from '../../src/forecast/features.js';
import { lookMs, mostLooks } from '../../src/forecast/inference-worker.js';
import { shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { encodeWeights, modelShape, parameterCount } from '../../src/learn/model.js';
import { Refiner } from '../../src/learn/refiner.js';
import { installWithout } from './install.js';
import { sabotage } from './sabotage.js';
import { flawOf, kinds, poisson } from './series.js';

const series = poisson(30, 4, 12, kinds.periodic!);

async function openWith(options: Partial<EngineOptions> = {}) {
  const events: EngineEvent[] = [];
  const engine = await ForecastEngine.open({
    rows: 8,
    stepMs: 1000,
    horizonsMs: [1000, 5000],
    refine: false,
    deterministic: true,
    onEvent: (event) => events.push(event),
    ...options,
  });
  onTestFinished(() => engine.close());
  return { engine, events };
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'foretoken-ladder-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function stepsOf(engine: ForecastEngine, steps: number[][]): Promise<void> {
  for (const demand of steps) expect(flawOf(await engine.step(Float64Array.from(demand), 4))).toBeUndefined();
}

describe('a rung of the ladder that breaks', () => {
  it.each([
    [
      'a graph that is none, beside good weights',
      (path: string) => {
        writeFileSync(path, 'no graph');
        writeFileSync(weightsPathOf(path), readFileSync(weightsPathOf(shippedModelPath)));
      },
    ],
    [
      'weights for other features',
      (path: string) => {
        const shape = modelShape(featureCount + 3, 48);
        writeFileSync(path, readFileSync(shippedModelPath));
        writeFileSync(
          weightsPathOf(path),
          encodeWeights({ shape, values: new Float32Array(parameterCount(shape)), featureVersion }),
        );
      },
    ],
    [
      'weights of another size than the graph is made for',
      (path: string) => {
        const shape = modelShape(featureCount, 20);
        writeFileSync(path, readFileSync(shippedModelPath));
        writeFileSync(
          weightsPathOf(path),
          encodeWeights({ shape, values: new Float32Array(parameterCount(shape)), featureVersion }),
        );
      },
    ],
  ])('(%s) is one event that names the file, and the next rung forecasts', async (_, write) => {
    const modelPath = join(folder(), 'model.onnx');
    write(modelPath);
    const { engine, events } = await openWith({ modelPath });
    const told = [
      { kind: 'engine', message: expect.stringContaining(`no model, classical forecasters instead: ${modelPath}: `) },
    ];
    expect(events).toMatchObject(told);
    await stepsOf(engine, series);
    expect(events).toMatchObject(told);
    expect((await engine.step(Float64Array.of(9, 9, 9, 9), 4)).quantiles[0]).toBeGreaterThan(0);
  });

  it('(an inference runtime that cannot be loaded) is one event, and the next rung forecasts', async () => {
    const place = folder();
    installWithout('onnxruntime-node', place);
    const script = `
      import { ForecastEngine } from './dist/forecast/engine.js';
      const events = [];
      const engine = await ForecastEngine.open({
        rows: 2, stepMs: 1000, horizonsMs: [1000], onEvent: ({ message }) => events.push(message),
      });
      let frame;
      for (let i = 0; i < 5; i++) frame = await engine.step(Float64Array.of(7, 0), 2);
      console.log(JSON.stringify({ events, median: frame.quantiles[0] }));
      await engine.close();`;
    writeFileSync(join(place, 'run.mjs'), script);
    const { stdout } = await promisify(execFile)(process.execPath, [join(place, 'run.mjs')], { cwd: place });
    const { events, median } = JSON.parse(stdout) as { events: string[]; median: number };
    expect(events).toEqual([expect.stringContaining('classical forecasters for now')]);
    expect(median).toBeGreaterThan(1);
  });

  it('(a worker that dies) is replaced, and the model forecasts as if it had not', async () => {
    const { runs } = sabotage();
    const { engine: other } = await openWith();
    const { engine, events } = await openWith();
    await stepsOf(engine, series.slice(0, 20));
    const { threads } = runs.mock.contexts.at(-1) as Piscina;
    await threads[0]!.terminate();
    await stepsOf(engine, series.slice(20));
    await stepsOf(other, series);
    const demand = Float64Array.of(3, 3, 3, 3);
    const [after, never] = [await engine.step(demand, 4), await other.step(demand, 4)];
    // The step that met the dead worker may have gone to the next rung; the ones after it did not.
    expect(events.length).toBeLessThanOrEqual(2);
    expect(after.engine.some((engine) => engine > 0)).toBe(never.engine.some((engine) => engine > 0));
    after.quantiles.slice(0, 40).forEach((value, i) => {
      expect(value).toBeGreaterThan(0.5 * never.quantiles[i]! - 1);
      expect(value).toBeLessThan(2 * never.quantiles[i]! + 1);
    });
  });

  it('(a worker that fails to open the model) is one event, and another when the model forecasts at last', async () => {
    const { harm, heal, runs } = sabotage();
    const refining = vi.spyOn(Refiner.prototype, 'run');
    const { engine: other } = await openWith();
    harm('throw', true);
    runs.mockClear();
    const { engine, events } = await openWith({ deterministic: false, refine: true });
    const told = [{ kind: 'engine', message: expect.stringContaining('classical forecasters for now: ') }];
    expect(events).toMatchObject(told);
    for (let i = 0; i < 10; i++) await stepsOf(engine, series);
    expect(events).toMatchObject(told);
    expect(engine.modelFrame()).toBeUndefined();
    // Once to open it and once more; to train a model that nobody hears is of no use.
    expect(runs).toHaveBeenCalledTimes(2);
    expect(refining).not.toHaveBeenCalled();
    // What it knows can be kept and put back, be the model there or not.
    expect(engine.save(Int32Array.of(0))).toBeDefined();
    expect(engine.likeness).toBe(other.likeness);
    heal('throw');
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + 10_000);
    for (let i = 0; i < 100 && !engine.modelFrame(); i++) await stepsOf(engine, series.slice(0, 1));
    expect(events).toMatchObject([...told, { kind: 'engine', message: 'the model forecasts again' }]);
    expect(engine.modelFrame()!.quantiles[0]).toBeGreaterThan(0);
  });

  it('(a worker that fails to open the model of a run to be repeated) is one event, and no other follows', async () => {
    const { harm, runs } = sabotage();
    harm('throw');
    const { engine, events } = await openWith();
    await stepsOf(engine, series);
    expect(events).toMatchObject([{ message: expect.stringContaining('no model, classical forecasters instead: ') }]);
    expect(runs).toHaveBeenCalledTimes(1);
  });

  it('(a worker that hangs) is one event, and another when it was replaced', async () => {
    const { harm, suffered } = sabotage();
    const { engine, events } = await openWith({ stepMs: 100, deterministic: false });
    await stepsOf(engine, series.slice(0, 5));
    harm('hang');
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    await stepsOf(engine, series.slice(5, 6));
    await suffered();
    for (let i = 0; i <= mostLooks; i++) await vi.advanceTimersByTimeAsync(lookMs);
    for (let i = 0; i < 100 && events.length < 2; i++) await stepsOf(engine, series.slice(6, 7));
    expect(events).toMatchObject([
      { kind: 'engine', message: expect.stringContaining('classical forecasters for now') },
      { kind: 'engine', message: 'the model forecasts again' },
    ]);
  });

  it('(a worker that is late) is one event, and another when it answers again', async () => {
    const { engine, events } = await openWith({ stepMs: 100, deterministic: false });
    await stepsOf(engine, series.slice(0, 5));
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const late = stepsOf(engine, series.slice(5, 6));
    // The deadline of a step; the model has had no turn to answer.
    vi.advanceTimersByTime(50);
    await late;
    expect(events).toMatchObject([
      { kind: 'engine', message: expect.stringContaining('classical forecasters for now') },
    ]);
    await stepsOf(engine, series.slice(6, 7));
    expect(events).toHaveLength(2);
    expect(events[1]).toMatchObject({ kind: 'engine', message: 'the model forecasts again' });
    // On a busy machine it goes on like that: once is enough to tell of it.
    for (let step = 7; step < 27; step += 2) {
      const relapse = stepsOf(engine, series.slice(step, step + 1));
      vi.advanceTimersByTime(50);
      await relapse;
      await stepsOf(engine, series.slice(step + 1, step + 2));
    }
    expect(events).toHaveLength(2);
  });

  it('(a worker that only just begins) is no event while forecasters are warmed, and nobody waits', async () => {
    const { engine, events } = await openWith({ stepMs: 100, deterministic: false });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const data = Float32Array.from(series.slice(0, 3).flat());
    const targets = ['a', 'b', 'c', 'd'];
    const warming = engine.warm({ timeMs: 0, stepMs: 100, steps: 3, targets, data }, (name) => targets.indexOf(name));
    vi.advanceTimersByTime(1900);
    expect(await warming).toBe(3);
    expect(events).toEqual([]);
    const late = stepsOf(engine, series.slice(3, 4));
    vi.advanceTimersByTime(50);
    await late;
    expect(events).toHaveLength(1);
  });
});
