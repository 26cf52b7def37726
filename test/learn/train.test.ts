import { execFile } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { trainCommand } from '../../src/cli/train.js';
import { featureCount, featureMeanings } from '../../src/forecast/features.js';
import { LstmForecaster, shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { openDuckDbHistory } from '../../src/history/duckdb.js';
import { readWeights } from '../../src/learn/model.js';
import { Random } from '../../src/learn/random.js';
import { step } from '../history/records.js';

let folder: string;
let trace: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'foretoken-train-'));
  trace = join(folder, 'jobs.csv');
  const lines = ['time_ms,target,op,bytes'];
  const random = new Random(3);
  for (let s = 0; s < 400; s++)
    for (let target = 0; target < 8; target++)
      if ((s + target) % 10 < 3 && random.uniform() < 0.8) lines.push(`${s * 1000 + target},t${target},r,4096`);
  await writeFile(trace, `${lines.join('\n')}\n`);
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** Runs the command with its output caught. */
async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((text: string) => void out.push(text));
  vi.spyOn(console, 'error').mockImplementation((text: string) => void err.push(text));
  const code = await trainCommand(argv);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

const quick = ['--steps', '60', '--workloads', '2', '--hidden', '8', '--periods', '1s'];

describe('foretoken train', () => {
  it('writes a model that forecasts, its card and its scores', async () => {
    const path = join(folder, 'own.onnx');
    const { code, out, err } = await run(trace, ...quick, '--out', path);
    expect(code).toBe(0);
    expect(err).toMatch(/step 60 of 60 {2}loss .* validation/);
    expect(out).toMatch(/jobs at 1 s +5 s {2}pinball/);
    const card = await readFile(join(folder, 'own.md'), 'utf8');
    // Repeated, the command writes the same files.
    expect(card).toMatch(/^npm run train -- .*--hidden 8 --workloads 2 --seed 1 --out \S*own\.onnx$/m);
    expect(card).toContain('of 16 targets (`src/workload/generator.ts`); jobs.csv: the first 50.0 % of each');
    expect(card).toMatch(/\| jobs at 1 s \| 30 s \| [\d.]+ \|/);
    expect(card).toMatch(/\| generated 0 at 1 s, another seed \| 5 s \|/);
    expect(card).toContain(`${featureCount}. ${featureMeanings.at(-1)}`);
    expect(card).toMatch(/[\d.]+ ms of one core for 1,000 targets/);
    await using forecaster = await LstmForecaster.open({ rows: 1, stepMs: 1000, horizonsMs: [5000], modelPath: path });
    expect((await forecaster.step(Float64Array.of(3), 1)).quantiles[0]).toBeGreaterThan(0);
  });

  it('names in the card what it has learnt from, and tells what it could not learn from', async () => {
    const path = join(folder, "own's.onnx");
    const argv = ['--steps', '60', '--workloads', '1', '--hidden', '8', '--periods', '1s,2s,5s,10s'];
    const { code, err } = await run(trace, ...argv, '--out', path);
    expect(err).toMatch(/read jobs: \d+ requests of 8 targets, not for steps of 5s,10s$/m);
    expect(code).toBe(0);
    const card = await readFile(join(folder, "own's.md"), 'utf8');
    expect(card).toContain('| steps | of 1 s, 2 s |');
    expect(card).toContain('; jobs.csv: the first');
    expect(card).toMatch(/ --out '\S*own'\\''s\.onnx'$/m);
    const more = await run(trace, ...argv, '--workloads', '3', '--out', path);
    expect(more.code).toBe(0);
    const further = await readFile(join(folder, "own's.md"), 'utf8');
    expect(further).toContain('| steps | of 1 s, 2 s, 5 s |');
    expect(further).toContain('; jobs.csv (steps of 1 s, 2 s): the first');
  });

  it('refuses a trace that is too short to learn from, or whose bins are too long', async () => {
    const of = (...periods: string[]) => run(trace, '--workloads', '1', '--out', join(folder, 'x.onnx'), ...periods);
    expect(await of('--periods', '5s,10s')).toMatchObject({
      code: 2,
      err: expect.stringContaining(`${trace}: expected at least 60 steps in the part learnt from, got 39 of 5s`),
    });
    const bins = join(folder, 'bins.csv');
    await writeFile(
      bins,
      ['time_ms,target,count', ...Array.from({ length: 200 }, (_, i) => `${i * 10_000},a,3`)].join('\n'),
    );
    expect(await run(bins, '--workloads', '1', '--out', join(folder, 'x.onnx'), '--periods', '1s,5s')).toMatchObject({
      code: 2,
      err: expect.stringContaining(`${bins}: expected in --periods one of at least 10s, as its bins are, got 5s`),
    });
  });

  it('writes the same weights for the same seed and others for another', async () => {
    const weights = async (name: string, seed: string) => {
      await run(...quick, '--seed', seed, '--out', join(folder, `${name}.onnx`));
      return readFile(join(folder, `${name}.weights.bin`));
    };
    const first = await weights('first', '7');
    expect(await weights('again', '7')).toEqual(first);
    expect(await weights('other', '8')).not.toEqual(first);
  });

  it('trains the shipped model further on a history, beside it, and changes nothing in it', async () => {
    const path = join(folder, 'history.duckdb');
    const random = new Random(5);
    const demand = (at: number) => ({ a: at % 7 === 0 ? 40 : 1, b: random.poisson(3), c: random.poisson(1) });
    {
      await using history = await openDuckDbHistory({ path });
      for (let at = 0; at < 300; at++) history.appendStep(step(1_700_000_000_000 + at * 1000, demand(at)));
      await history.flush();
    }
    const { code, out, err } = await run('--history', path, '--steps', '20', '--workloads', '2', '--periods', '1s,5s');
    expect(err).toMatch(/read .*history.duckdb: 300 steps of 3 targets/);
    expect(code).toBe(0);
    expect(out).toMatch(/history at 1 s +5 s {2}pinball/);
    const card = await readFile(join(folder, 'own-model.md'), 'utf8');
    expect(card).toMatch(
      /^npm run train -- --history \S+ --periods 1s,5s --part 0\.8 --steps 20 --workloads 2 --seed 1$/m,
    );
    expect(card).toContain('; history.duckdb (steps of 1 s): the first');
    const own = await readWeights(join(folder, 'own-model.weights.bin'));
    const shipped = await readWeights(weightsPathOf(shippedModelPath));
    expect(own.shape).toEqual(shipped.shape);
    expect(own.values).not.toEqual(shipped.values);
    await using history = await openDuckDbHistory({ path });
    expect((await history.recentDemand(1000, 1000)).steps).toBe(300);
  });

  it.each([
    [['--steps', 'many'], /--steps: expected a whole number/],
    [['--part', '2'], /--part: expected a number/],
    [['--periods', '5q'], /--periods: expected a duration/],
    [['--out', 'model.bin'], /--out: expected a path that ends in .onnx/],
    [['--nonsense'], /--nonsense/],
    [['--history', 'no-such-history'], /--history: expected the file of a history, got "no-such-history"/],
    [['--workloads', '0'], /nothing to learn from/],
    [['--history', fileURLToPath(import.meta.url), '--hidden', '8'], /--hidden: expected none with --history.*got "8"/],
  ])('refuses %j and says why', async (argv, reason) => {
    const { code, err } = await run(...argv);
    expect(code).toBe(2);
    expect(err).toMatch(reason);
  });

  it('fails as other commands do where a trace cannot be read', async () => {
    const { code, err } = await run('no-such-trace.csv');
    expect(err).toMatch(/no-such-trace\.csv.*expected a file that can be read/);
    expect(code).toBe(1);
  });

  it('explains itself', async () => {
    expect(await run('--help')).toMatchObject({ code: 0, out: expect.stringContaining('--periods LIST') });
  });
});

describe('a process that forecasts', () => {
  it('can exit in the middle of a run without being aborted', async () => {
    const script = `
      import { LstmForecaster } from ${JSON.stringify(new URL('../../dist/forecast/lstm.js', import.meta.url).href)};
      const rows = 20000;
      const forecaster = await LstmForecaster.open({ rows, stepMs: 1000, horizonsMs: [5000] });
      const demand = new Float64Array(rows).fill(3);
      setTimeout(() => process.exit(7), 300);
      for (;;) await forecaster.step(demand, rows);`;
    const child = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
    await expect(child).rejects.toMatchObject({ code: 7 });
  });
});
