import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { evaluateCommand } from '../../src/cli/evaluate.js';
import { shippedModelPath } from '../../src/forecast/lstm.js';
import { Periods } from '../../src/forecast/period.js';
import { baselineNames } from '../../src/lab/baselines.js';
import { evaluate } from '../../src/lab/evaluate.js';
import { HorizonScore } from '../../src/lab/forecast-score.js';
import { Random } from '../../src/learn/random.js';
import { readTrace, type Trace } from '../../src/workload/trace.js';
import { ownModel } from './own-model.js';

const folder = mkdtempSync(join(tmpdir(), 'foretoken-evaluate-'));
afterAll(() => rmSync(folder, { recursive: true }));

let output = '';
let errors = '';
beforeEach(() => {
  output = '';
  errors = '';
  vi.spyOn(console, 'log').mockImplementation((text) => {
    output += `${text}\n`;
  });
  vi.spyOn(console, 'error').mockImplementation((text) => {
    errors += `${text}\n`;
  });
});

/** Three targets, one of them seldom heard, one with a rhythm of 7 s; times have fractions and ties. */
function smallTrace(): string {
  const random = new Random(5);
  const rows: [number, string][] = [];
  for (let second = 0; second < 120; second++) {
    for (let i = random.poisson(2); i > 0; i--) rows.push([second * 1000 + random.between(0, 1000), 'a']);
    if (second % 7 === 0) for (let i = 0; i < 5; i++) rows.push([second * 1000, 'b']);
    if (second % 25 === 24) rows.push([second * 1000 + 999.999, 'seldom']);
  }
  const lines = rows
    .sort((x, y) => x[0] - y[0])
    .map(([timeMs, target]) => `${Number(timeMs.toFixed(3))},${target},r,4096`);
  return ['time_ms,target,op,bytes', ...lines, ''].join('\n');
}

const file = join(folder, 'small.csv');
writeFileSync(file, smallTrace());

const loss = (tau: number, actual: number, value: number): number =>
  Math.max(tau * (actual - value), (tau - 1) * (actual - value));
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Tokens of each target from `fromMs` on and before `toMs`, straight from the requests. */
function tokensBetween(trace: Trace, fromMs: number, toMs: number): number[] {
  return trace.names.map((_, target) => {
    let sum = 0;
    for (let i = 0; i < trace.requests; i++)
      if (trace.target[i] === target && trace.timesMs[i]! >= fromMs && trace.timesMs[i]! < toMs) sum += trace.cost[i]!;
    return sum;
  });
}

interface Truth {
  timeMs: number;
  target: number;
  actual: number;
}

function truthOf(trace: Trace, stepMs: number, horizonMs: number, fromMs: number): Truth[] {
  const truth: Truth[] = [];
  for (let timeMs = stepMs; timeMs + horizonMs <= trace.durationMs; timeMs += stepMs)
    if (timeMs >= fromMs)
      tokensBetween(trace, timeMs, timeMs + horizonMs).forEach((tokens, target) => {
        truth.push({ timeMs, target, actual: tokens / (horizonMs / 1000) });
      });
  return truth;
}

/** Every baseline's value for a target at a time, each by its definition over the whole past. */
function baselineValues(trace: Trace, stepMs: number, horizonMs: number): Map<string, (truth: Truth) => number> {
  const rates: number[][] = [];
  for (let timeMs = 0; timeMs + stepMs <= trace.durationMs; timeMs += stepMs)
    rates.push(tokensBetween(trace, timeMs, timeMs + stepMs).map((tokens) => tokens / (stepMs / 1000)));
  const past = ({ timeMs, target }: Truth): number[] => rates.slice(0, timeMs / stepMs).map((step) => step[target]!);
  const values = new Map<string, (truth: Truth) => number>();
  values.set('last', (truth) => past(truth).at(-1)!);
  for (const span of [5, 10, 30, 60, 300])
    values.set(`ewma-${span}`, (truth) => {
      const all = past(truth);
      const weights = all.map((_, i) => (1 - 2 / (span + 1)) ** (all.length - 1 - i));
      return weights.reduce((sum, weight, i) => sum + weight * all[i]!, 0) / weights.reduce((a, b) => a + b, 0);
    });
  const steps = Math.max(1, Math.round(horizonMs / stepMs));
  values.set('period', (truth) => {
    const periods = new Periods();
    for (const step of rates.slice(0, truth.timeMs / stepMs)) periods.observe(step, step.length);
    const back = periods.periodOf(truth.target) * Math.ceil(steps / Math.max(1, periods.periodOf(truth.target)));
    const all = past(truth);
    return back === 0 || back > all.length ? all.at(-1)! : mean(all.slice(-back).slice(0, steps));
  });
  return values;
}

/** The figures of one horizon, recomputed by their definitions from a dump. */
function recompute(trace: Trace, stepMs: number, horizonMs: number, warmup: number, dump: string) {
  const fromMs = warmup * trace.durationMs;
  const truth = truthOf(trace, stepMs, horizonMs, fromMs);
  const forecasts = new Map(
    dump
      .trim()
      .split('\n')
      .slice(1)
      .map((row) => row.split(','))
      .filter((fields) => Number(fields[2]) === horizonMs)
      .map((fields) => [`${fields[0]},${fields[1]}`, { q50: Number(fields[3]), q90: Number(fields[4]) }]),
  );
  const at = ({ timeMs, target }: Truth) => forecasts.get(`${timeMs},${trace.names[target]}`) ?? { q50: 0, q90: 0 };
  const total = mean(truth.map((row) => loss(0.5, row.actual, at(row).q50) + loss(0.9, row.actual, at(row).q90)));
  let bestLow = Number.POSITIVE_INFINITY;
  let bestHigh = Number.POSITIVE_INFINITY;
  for (const value of baselineValues(trace, stepMs, horizonMs).values()) {
    const values = truth.map(value);
    for (const k of [0.5, 1])
      bestLow = Math.min(bestLow, mean(truth.map((row, i) => loss(0.5, row.actual, k * values[i]!))));
    for (const k of [1, 1.5, 2, 3])
      bestHigh = Math.min(bestHigh, mean(truth.map((row, i) => loss(0.9, row.actual, k * values[i]!))));
  }
  const scoredMs = trace.durationMs - fromMs;
  const scored = tokensBetween(trace, fromMs, Number.POSITIVE_INFINITY);
  const rate = mean(scored) / (scoredMs / 1000);
  const watched = truth.filter((row) => scored[row.target]! >= scoredMs / stepMs / 10);
  const busy = [...new Set(watched.map((row) => row.target))].map((target) =>
    watched.filter((row) => row.target === target),
  );
  const moments = [...new Set(watched.map((row) => row.timeMs))].sort((a, b) => a - b);
  const length = Math.max(1, Math.round(horizonMs / stepMs));
  const spans = Array.from({ length: Math.floor(moments.length / length) }, (_, i) => {
    const within = new Set(moments.slice(i * length, (i + 1) * length));
    return mean(watched.filter((row) => within.has(row.timeMs)).map((row) => (row.actual <= at(row).q90 ? 1 : 0)));
  });
  const variance = mean(spans.map((part) => (part - mean(spans)) ** 2));
  return {
    least: mean(busy.map((rows) => Math.max(0.9, mean(rows.map((row) => (row.actual === 0 ? 1 : 0)))))),
    error: Math.sqrt(variance / (spans.length - 1)),
    rows: forecasts.size,
    score: total / rate,
    gain: 1 - total / (bestLow + bestHigh),
    best: (bestLow + bestHigh) / rate,
    coverage90: mean(watched.map((row) => (row.actual <= at(row).q90 ? 1 : 0))),
  };
}

interface Json {
  engines: Record<string, Record<string, { score: number; gain: number; coverage90: number }>>;
  baselines: Record<string, { q50: string; q90: string; score: number }>;
  leastCoverage90: Record<string, number>;
  coverage90Error: Record<string, number>;
  scoredSteps: Record<string, number>;
  cpuSecondsPer1000TargetSteps: number;
}

it('knows that nothing covers less of a silent target than its silence', () => {
  const [silent, steady, rare] = [0, 1, 2];
  const score = new HorizonScore(1, Uint8Array.from([1, 1, 0]), 1);
  for (let moment = 0; moment < 20; moment++) {
    const came = new Float64Array(3);
    came[silent] = moment === 7 ? 5 : 0;
    came[steady] = 1;
    came[rare] = 0;
    score.add(came, [new Float64Array(6)], new Float64Array(3 * baselineNames.length));
  }
  expect(score.leastCoverage90()).toBeCloseTo((19 + 0.9 * 20) / 40, 9);
  expect(new HorizonScore(1, Uint8Array.from([0]), 1).leastCoverage90()).toBeNull();
});

describe('evaluate', () => {
  it.each([
    ['1s', 1000, '2s,10s', [2000, 10_000], '0.5'],
    ['2s', 2000, '3s,2500ms', [3000, 2500], '0.25'],
  ])(
    'gives the figures that follow from its dump and the requests, steps of %s',
    async (step, stepMs, list, horizons, warmup) => {
      const dump = join(folder, `dump-${step}.csv`);
      const argv = [file, '--step', step, '--horizons', list, '--warmup', warmup, '--engine', 'ewma', '--json'];
      expect(await evaluateCommand([...argv, '--dump', dump])).toBe(0);
      const json = JSON.parse(output) as Json;
      const trace = await readTrace(file);
      expect(readFileSync(dump, 'utf8')).toMatch(/^time_ms,target,horizon_ms,q50,q90,engine\n/);
      for (const [h, horizonMs] of horizons.entries()) {
        const name = list.split(',')[h]!;
        const own = recompute(trace, stepMs, horizonMs, Number(warmup), readFileSync(dump, 'utf8'));
        const { score, gain, coverage90 } = json.engines.ewma![name]!;
        expect(score).toBeCloseTo(own.score, 9);
        expect(gain).toBeCloseTo(own.gain, 9);
        expect(coverage90).toBeCloseTo(own.coverage90, 9);
        expect(json.leastCoverage90[name]).toBeCloseTo(own.least, 9);
        expect(json.coverage90Error[name]).toBeCloseTo(own.error, 9);
        expect(json.baselines[name]!.score).toBeCloseTo(own.best, 9);
        expect(json.scoredSteps[name]! * trace.names.length).toBe(
          truthOf(trace, stepMs, horizonMs, Number(warmup) * trace.durationMs).length,
        );
        expect(own.rows).toBeGreaterThanOrEqual(json.scoredSteps[name]! * trace.names.length);
      }
      expect(json.cpuSecondsPer1000TargetSteps).toBeGreaterThan(0);
    },
  );

  it('writes the same dump packed if the name ends in .gz', async () => {
    const argv = [file, '--horizons', '2s', '--engine', 'last', '--dump'];
    expect(await evaluateCommand([...argv, join(folder, 'plain.csv')])).toBe(0);
    expect(await evaluateCommand([...argv, join(folder, 'packed.csv.gz')])).toBe(0);
    const plain = readFileSync(join(folder, 'plain.csv'), 'utf8');
    expect(gunzipSync(readFileSync(join(folder, 'packed.csv.gz'))).toString()).toBe(plain);
    expect(plain.trim().split('\n').length).toBeGreaterThan(3 * 50);
  });

  it('finds the rhythm to be the best baseline where there is nothing else', async () => {
    const lines = Array.from({ length: 120 }, (_, i) => `${i * 5000},x,r,0`);
    const path = join(folder, 'rhythm.csv');
    writeFileSync(path, ['time_ms,target,op,bytes', ...lines].join('\n'));
    const result = await evaluate(await readTrace(path), { horizonsMs: [1000], engine: 'last' });
    expect(result.baselines[0]).toEqual({ q50: 'period × 1', q90: 'period × 1', score: 0 });
    expect(result.engines.last![0]!.gain).toBeNull();
  });

  it('forecasts from nothing that lies ahead', async () => {
    const whole = await readTrace(file);
    const cut = whole.timesMs.findIndex((timeMs) => timeMs >= 90_000);
    const forecasts = async (trace: Trace) => {
      const rows = new Map<number, number[]>();
      await evaluate(
        trace,
        { horizonsMs: [2000], engine: 'ewma', warmup: 0 },
        {
          onForecasts: (timeMs, frame) => {
            rows.set(timeMs, [...frame.quantiles.slice(0, frame.rows * 5)]);
            return undefined;
          },
        },
      );
      return rows;
    };
    const before = await forecasts(whole);
    const changed = { ...whole, cost: whole.cost.map((cost, i) => (i < cut ? cost : 50)) };
    const after = await forecasts(changed);
    for (let timeMs = 1000; timeMs <= 90_000; timeMs += 1000) expect(after.get(timeMs)).toEqual(before.get(timeMs));
    expect(after.get(95_000)).not.toEqual(before.get(95_000));
  });

  it('scores the model alone beside the mixture, the same for the same seed', async () => {
    const run = async () => {
      output = '';
      expect(await evaluateCommand([file, '--horizons', '5s', '--json'])).toBe(0);
      const { cpuSecondsPer1000TargetSteps: _, ...json } = JSON.parse(output) as Json;
      return json;
    };
    const first = await run();
    expect(Object.keys(first.engines)).toEqual(['auto', 'lstm']);
    expect(first.engines.auto!['5s']!.score).not.toBe(first.engines.lstm!['5s']!.score);
    expect(await run()).toEqual(first);
  });

  it('scores a model of its own, in the mixture and alone', async () => {
    const run = async (...argv: string[]) => {
      output = '';
      expect(await evaluateCommand([file, '--horizons', '5s', '--refine', 'off', '--json', ...argv])).toBe(0);
      return JSON.parse(output) as Json & { settings: object };
    };
    const shipped = await run();
    expect(shipped.settings).toMatchObject({ engine: 'auto' });
    const own = await run('--model', ownModel(folder));
    expect(own.settings).toMatchObject({ engine: 'auto', model: join(folder, 'own.onnx') });
    for (const engine of ['auto', 'lstm'])
      expect(own.engines[engine]!['5s']!.score).not.toBe(shipped.engines[engine]!['5s']!.score);
    expect(errors).toBe('');
    output = '';
    const model = join(folder, 'own.onnx');
    expect(await evaluateCommand([file, '--horizons', '5s', '--engine', 'lstm', '--model', model])).toBe(0);
    expect(output).toContain(`\nmodel: ${model}\n`);
  });

  it('scores ETS and Prophet beside the mixture at long horizons, and tells what they cost', async () => {
    const random = new Random(7);
    const lines = Array.from({ length: 200 }, (_, i) => `${i * 10_000},x,${random.poisson(60 + 40 * Math.sin(i / 9))}`);
    const path = join(folder, 'long.csv');
    writeFileSync(path, ['time_ms,target,count', ...lines].join('\n'));
    const argv = [path, '--step', '10s', '--horizons', '10s,2m', '--refine', 'off'];
    expect(await evaluateCommand([...argv, '--json'])).toBe(0);
    const json = JSON.parse(output) as Json & { fittingCpuSeconds: Record<string, number> };
    expect(Object.keys(json.engines)).toEqual(['auto', 'lstm', 'ets', 'prophet']);
    expect(Object.keys(json.fittingCpuSeconds)).toEqual(['ets', 'prophet']);
    // Below two minutes what is said under their names is said by others.
    for (const kind of ['ets', 'prophet'])
      expect(json.engines[kind]!['10s']).toEqual({ score: null, gain: null, coverage90: null });
    const scores = Object.values(json.engines).map((horizons) => horizons['2m']!.score);
    expect(new Set(scores).size).toBe(4);
    for (const seconds of Object.values(json.fittingCpuSeconds)) expect(seconds).toBeGreaterThan(0);
    output = '';
    expect(await evaluateCommand([...argv, '--engine', 'prophet'])).toBe(0);
    // Who asks for it has what it says, whoever stands in.
    expect(output).toMatch(/^10s +prophet +\d\.\d{4}/m);
    expect(output).toMatch(/^2m +prophet +\d\.\d{4}/m);
    expect(output).toMatch(/^\d+\.?\d* s of processor time to fit prophet, in a thread of its own$/m);
  });

  it('leaves empty what was never fitted', async () => {
    const path = join(folder, 'ten-minutes.csv');
    const argv = [path, '--horizons', '1s,2m', '--warmup', '0', '--refine', 'off'];
    const lines = Array.from({ length: 600 }, (_, i) => `${i * 1000},x${i % 2},r,1`);
    writeFileSync(path, ['time_ms,target,op,bytes', ...lines].join('\n'));
    expect(await evaluateCommand([...argv, '--json'])).toBe(0);
    const json = JSON.parse(output) as Json;
    for (const horizon of ['1s', '2m']) {
      expect(json.engines.ets![horizon]).toEqual({ score: null, gain: null, coverage90: null });
      expect(json.scoredSteps[horizon]).toBeGreaterThan(400);
      expect(json.engines.auto![horizon]!.score).toBeGreaterThan(0);
    }
    output = '';
    expect(await evaluateCommand(argv)).toBe(0);
    expect(output).toMatch(/^2m +ets +- +- +-$/m);
    expect(output).not.toMatch(/to fit ets/);
  });

  it('leaves empty what a horizon longer than the scored part cannot tell', async () => {
    expect(await evaluateCommand([file, '--horizons', '1s,10m', '--engine', 'last', '--json'])).toBe(0);
    const json = JSON.parse(output) as Json;
    expect(json.engines.last!['10m']).toEqual({ score: null, gain: null, coverage90: null });
    expect(json.engines.last!['1s']!.score).toBeGreaterThan(0);
  });

  it('looks no less far ahead than a step unless told otherwise', async () => {
    expect(await evaluateCommand([file, '--step', '20s', '--engine', 'last', '--json'])).toBe(0);
    expect(Object.keys((JSON.parse(output) as Json).baselines)).toEqual(['20s', '30s', '5m']);
  });

  it('prints a table with engines and the names of the best baselines', async () => {
    expect(await evaluateCommand([file, '--horizons', '5s', '--engine', 'last'])).toBe(0);
    expect(output).toMatch(/^horizon +engine +score +gain +coverage90$/m);
    expect(output).toMatch(/^5s +last +\d\.\d{4} +-?\d+\.\d % +\d+\.\d %$/m);
    expect(output).toMatch(/^5s +\S+ × \S+; \S+ × \S+ +\d\.\d{4}$/m);
  });

  it.each([
    [['--step', '5'], '--step: expected a duration above 0 such as 500ms, 5s, 2m or 1h, got "5"'],
    [['--horizons', '5s,,1s'], '--horizons: expected a duration above 0 such as 500ms, 5s, 2m or 1h, got ""'],
    [['--horizons', '60s,1m'], '--horizons: expected different durations, got "60s,1m"'],
    [['--horizons', '11m'], '--horizons: expected durations from 1s up to 10m, got 11m'],
    [['--horizons', '5s,4s', '--step', '5s'], '--horizons: expected durations from 5s up to 10m, got 4s'],
    [['--horizons', '1s,2s,3s,4s,5s,6s,7s,8s,9s'], '--horizons: expected 1 to 8 durations, got 9'],
    [['--horizons', '2m,10m'], '--horizons: expected one of at most 59'],
    [['--engine', 'crystal'], '--engine: expected auto or lstm or ets or prophet or ewma or last, got "crystal"'],
    [
      ['--engine', 'lstm', '--model', join(folder, 'none.onnx')],
      `--model: expected a model that foretoken train wrote, got "${folder}`,
    ],
    [['--engine', 'lstm', '--model', file], `--model: expected a model that foretoken train wrote, got "${file}": `],
    [['--model', shippedModelPath], '--model: expected together with --engine auto or lstm, got last'],
    [
      ['--model', join(folder, 'x.onnx'), '--dump', join(folder, 'x.weights.bin')],
      '--dump: expected a file of its own, got',
    ],
    [['--refine', 'yes'], '--refine: expected on or off, got "yes"'],
    [['--warmup', '1'], '--warmup: expected a number from 0 to 0.99, got "1"'],
    [['--step', '1h'], '--step: expected a period that fits into the scored part'],
    [['--dump', join(folder, 'none', 'x.csv')], '--dump: expected a file that can be written, got '],
    [['--speed', '3'], "Unknown option '--speed'"],
    [['second.csv'], 'expected one trace, a file or -, got '],
  ])('refuses %j with the option, what was expected and what it got', async (argv, message) => {
    expect(await evaluateCommand([file, '--engine', 'last', ...argv])).toBe(2);
    expect(errors).toContain(message);
    expect(output).toBe('');
  });

  it('says that a trace of one moment lasts no time', async () => {
    const path = join(folder, 'moment.csv');
    writeFileSync(path, 'time_ms,target,op,bytes\n0,a,r,1\n');
    expect(await evaluateCommand([path, '--engine', 'last'])).toBe(2);
    expect(errors).toContain('--step: expected a period that fits into the scored part of 0s, got 1s');
  });

  it('reports a malformed trace with file and line', async () => {
    const path = join(folder, 'broken.csv');
    writeFileSync(path, 'time_ms,target,op,bytes\n5,a,r,1\n4,a,r,1\n');
    expect(await evaluateCommand([path, '--engine', 'last'])).toBe(1);
    expect(errors).toContain(`${path}:3: expected time_ms not to go back from 5`);
  });
});
