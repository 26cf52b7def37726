import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { ForetokenError } from '../errors.js';
import { featureCount } from '../forecast/features.js';
import { shippedModelPath, weightsPathOf } from '../forecast/lstm.js';
import { modelCard } from '../learn/card.js';
import { generatedLessons, type Lesson, traceLessons } from '../learn/curriculum.js';
import { inferenceModel } from '../learn/inference-graph.js';
import { encodeWeights, modelShape } from '../learn/model.js';
import { scoreUnseen } from '../learn/report.js';
import { train } from '../learn/train.js';
import { readTrace } from '../workload/trace.js';

const help = `foretoken train [TRACE...] [options]

Trains the forecasting model on generated workloads and on the traces given, and writes it.

  --out FILE       the model; weights and card are written beside it (default: the shipped model)
  --periods LIST   lengths of step to learn at (default: 1s,2s,5s,10s)
  --part F         part of each trace, by duration from its start, to learn from (default: 0.5);
                   what is left is scored at the end
  --steps N        most training steps; training stops earlier when validation gets no better (default: 3000)
  --hidden N       size of the model's state per target (default: 48)
  --workloads N    generated workloads (default: 60)
  --seed N         the same seed and traces give the same model (default: 1)
  --help`;

interface Options {
  traces: string[];
  out: string;
  periodsMs: number[];
  part: number;
  steps: number;
  hidden: number;
  workloads: number;
  seed: number;
}

/**
 * `foretoken train`: progress on standard error, the scores on unseen steps on standard output.
 * @returns exit code: 0 done, 2 bad input
 */
export async function trainCommand(argv: string[]): Promise<number> {
  try {
    const options = parse(argv);
    if (!options) console.log(help);
    else await run(options);
    return 0;
  } catch (error) {
    if (!(error instanceof ForetokenError)) throw error;
    console.error(`foretoken train: ${error.message}`);
    return 2;
  }
}

async function run(options: Options): Promise<void> {
  const { traces, out, periodsMs, part, steps, hidden, workloads, seed } = options;
  const started = performance.now();
  const say = (text: string) =>
    console.error(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`);
  const lessons: Lesson[] = [];
  for (const path of traces) {
    const name = basename(path).replace(/\.csv(\.gz)?$/, '');
    // Demand in requests and in bytes are two views of one trace; bins have one.
    const views = [await readTrace(path)];
    if (!views[0]!.binMs) views.push(await readTrace(path, { cost: 'bytes' }));
    views.forEach((trace, i) => {
      lessons.push(...traceLessons(trace, i === 0 ? name : `${name} in bytes`, periodsMs, part, seed));
    });
    say(`read ${name}: ${views[0]!.requests} requests of ${views[0]!.names.length} targets`);
  }
  lessons.push(...generatedLessons(workloads, periodsMs, seed));
  if (lessons.length === 0)
    throw new ForetokenError('INVALID_OPTION', 'nothing to learn from: no workloads, and no trace is long enough');
  say(`${lessons.length} series, ${workloads} of them generated`);

  const shape = modelShape(featureCount, hidden);
  const { weights, validation } = await train({
    lessons,
    shape,
    steps,
    seed,
    onProgress: ({ step, loss, validation: now, best }) =>
      say(`step ${step} of ${steps}  loss ${loss.toFixed(4)}  validation ${now.toFixed(4)}${best ? '  best' : ''}`),
  });
  const encoded = encodeWeights(weights);
  await mkdir(dirname(out), { recursive: true });
  await writeFile(out, inferenceModel(shape));
  await writeFile(weightsPathOf(out), encoded);
  say(`wrote ${out}; scoring what was not learnt from`);
  const scores = await scoreUnseen(
    weights,
    lessons.filter((lesson) => lesson.recorded),
  );
  const seconds = Math.round((performance.now() - started) / 1000);
  const card = modelCard({
    ...options,
    traces: traces.map((path) => relative(process.cwd(), path)),
    validation,
    scores,
    bytes: encoded.length,
    seconds,
  });
  await writeFile(cardPathOf(out), card);
  say(`wrote ${cardPathOf(out)}`);
  console.log(scores.map(({ text }) => text).join('\n'));
}

const cardPathOf = (out: string): string =>
  out === shippedModelPath ? `${dirname(out)}/README.md` : `${out.replace(/\.onnx$/, '')}.md`;

/** @throws ForetokenError INVALID_OPTION; returns nothing if help was asked for */
function parse(argv: string[]): Options | undefined {
  const { values, positionals } = parsed(argv);
  if (values.help) return undefined;
  const out = values.out ?? shippedModelPath;
  if (!out.endsWith('.onnx')) throw bad('--out', 'a path that ends in .onnx', out);
  const part = Number(values.part ?? 0.5);
  if (!(part > 0 && part <= 1)) throw bad('--part', 'above 0 and at most 1', values.part);
  return {
    traces: positionals,
    out,
    periodsMs: (values.periods ?? '1s,2s,5s,10s').split(',').map(periodMs),
    part,
    steps: whole('--steps', values.steps ?? '3000', 1, 1_000_000),
    hidden: whole('--hidden', values.hidden ?? '48', 4, 256),
    workloads: whole('--workloads', values.workloads ?? '60', 0, 10_000),
    seed: whole('--seed', values.seed ?? '1', 0, 2 ** 31),
  };
}

function parsed(argv: string[]) {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        out: text,
        periods: text,
        part: text,
        steps: text,
        hidden: text,
        workloads: text,
        seed: text,
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new ForetokenError('INVALID_OPTION', `${error instanceof Error ? error.message : String(error)}. See --help`);
  }
}

function periodMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text.trim());
  const ms = match ? Number(match[1]) * { ms: 1, s: 1_000, m: 60_000 }[match[2] as 'ms' | 's' | 'm'] : 0;
  if (!(ms >= 1)) throw bad('--periods', 'durations such as 1s,5s', text);
  return ms;
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most)
    throw bad(name, `a whole number from ${least} to ${most}`, text);
  return value;
}

const bad = (name: string, expected: string, got: unknown): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `${name} must be ${expected}, got ${String(got)}`);
