import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { ForetokenError, messageOf } from '../errors.js';
import { featureCount } from '../forecast/features.js';
import { LstmForecaster, shippedModelPath, weightsPathOf } from '../forecast/lstm.js';
import { formatDuration, parseDurationMs } from '../lab/units.js';
import { WholeFile, writableFolder } from '../lab/whole-file.js';
import { modelCard } from '../learn/card.js';
import { generatedLessons, type Lesson, minSteps, traceLessons, weighAsOne } from '../learn/curriculum.js';
import { historyLessons } from '../learn/from-history.js';
import { inferenceModel } from '../learn/inference-graph.js';
import { encodeWeights, modelShape, readWeights } from '../learn/model.js';
import { readTrace, type Trace } from '../workload/trace.js';
import { command, list, number, text, type Values, whole } from './command.js';
import { ProgressBar } from './progress.js';

const help = `foretoken train [TRACE...] [options]

Trains the forecasting model on generated workloads, on the traces given and on a history, and writes it.

  --history FILE   learn from a history too (history.duckdb in its folder), starting from the shipped
                   model; no process may have it open
  --out FILE       the model; weights and card are written beside it
                   (default: the shipped model; with --history own-model.onnx beside the history)
  --periods LIST   lengths of step to learn at (default: 250ms,500ms,1s,2s,5s,10s,20s,40s; with --history
                   1s,2s,5s,10s)
  --part F         part of each trace, by duration from its start, to learn from (default: 0.5; of a
                   history 0.8); what is left is scored at the end
  --steps N        most training steps; training stops earlier when validation gets no better
                   (default: 8000; with --history 1500)
  --hidden N       size of the model's state per target (default: 48); not with --history, which keeps that
                   of the shipped model
  --workloads N    generated workloads, about 8 MB of memory each (default: 240; with
                   --history 20)
  --seed N         the same seed and data give the same model (default: 1)
  --help

Then pass the path of your own model as the option modelPath, or as --model to replay and evaluate.`;

interface Options {
  traces: string[];
  history?: string;
  out: string;
  periodsMs: number[];
  part: number;
  steps: number;
  hidden: number;
  workloads: number;
  seed: number;
}

const flags = {
  history: text,
  out: text,
  periods: list(parseDurationMs),
  part: number(0.01, 1),
  steps: whole(1, 1_000_000),
  hidden: whole(4, 256),
  workloads: whole(0, 10_000),
  seed: whole(0, 2 ** 31),
} as const;

/** `foretoken train`: progress on standard error, the scores on unseen steps on standard output. */
export const trainCommand = command({
  name: 'train',
  help,
  flags,
  takesOperands: true,
  run: async (values, traces) => run(await settle(values, traces)),
});

async function run(options: Options): Promise<number> {
  const { out, steps, hidden, seed } = options;
  const started = performance.now();
  const say = (text: string) =>
    console.error(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`);
  // Found out now: training takes minutes.
  writableFolder('out', dirname(out));
  const [model, weightsFile, cardFile] = await Promise.all(
    [out, weightsPathOf(out), cardPathOf(out)].map((file) => WholeFile.at('out', file)),
  );
  const { train, scoreUnseen } = await loadTraining();
  const { lessons, scored, sources } = await gather(options, say);
  if (lessons.length === 0)
    throw new ForetokenError(
      'INVALID_OPTION',
      'nothing to learn from: expected workloads, a trace or a history, got none',
    );
  say(`${lessons.length} series to learn from`);

  const initial = options.history === undefined ? undefined : await readWeights(weightsPathOf(shippedModelPath));
  const shape = initial?.shape ?? modelShape(featureCount, hidden);
  using bar = new ProgressBar();
  const { weights, validation, curve } = await train({
    lessons,
    shape,
    steps,
    seed,
    ...(initial ? { initial, rate: 2e-3 } : {}),
    onStep: (step) => bar.update(step / steps, `step ${step} of ${steps}`),
    onProgress: ({ step, loss, validation: now, best }) => {
      bar.clear();
      say(`step ${step} of ${steps}  loss ${loss.toFixed(4)}  validation ${now.toFixed(4)}${best ? '  best' : ''}`);
    },
  });
  bar.clear();
  const encoded = encodeWeights(weights);
  await model!.write(inferenceModel(shape));
  await weightsFile!.write(encoded);
  say(`wrote ${out}; scoring what was not learnt from`);
  const scores = await scoreUnseen(weights, scored);
  const card = modelCard({
    ...options,
    command: commandOf(options),
    traces: sources,
    periodsMs: options.periodsMs.filter((ms) => periodsOf(lessons).includes(ms)),
    hidden: shape.hidden,
    validation,
    curve,
    scores,
    bytes: encoded.length,
    seconds: Math.round((performance.now() - started) / 1000),
    cpuMsPer1000: await cpuMsPer1000(out),
  });
  await cardFile!.write(card);
  say(`wrote ${cardPathOf(out)}`);
  console.log(scores.map(({ text }) => text).join('\n'));
  return 0;
}

/**
 * What computes. The runtime it needs may not load on this system.
 * @throws ForetokenError NATIVE_UNAVAILABLE
 */
async function loadTraining() {
  try {
    // Not by `import`: Node 20 ends the process when a CommonJS module throws under it, whoever catches that.
    createRequire(import.meta.url)('onnxruntime-node');
  } catch (cause) {
    const reason = messageOf(cause).split('\n')[0]!;
    throw new ForetokenError('NATIVE_UNAVAILABLE', `the inference runtime cannot be loaded: ${reason}`, { cause });
  }
  const [{ train }, { scoreUnseen }] = await Promise.all([import('../learn/train.js'), import('../learn/report.js')]);
  return { train, scoreUnseen };
}

const periodsOf = (lessons: readonly Lesson[]): number[] => [
  ...new Set(lessons.map(({ prepared }) => prepared.series.stepMs)),
];

/** Of several lengths of step the one to score at: the first from a second on, which is used unless it is set otherwise. */
const usual = <T>(of: readonly T[], stepMsOf: (one: T) => number): T | undefined =>
  of.find((one) => stepMsOf(one) >= 1000) ?? of[0];

/**
 * What is learnt from, and what is scored at the end.
 * @throws ForetokenError INVALID_OPTION when a trace or the history is too short to learn from at any length of step
 */
async function gather(
  { traces, history, periodsMs, part, workloads, seed }: Options,
  say: (text: string) => void,
): Promise<{ lessons: Lesson[]; scored: Lesson[]; sources: { file: string; periodsMs: number[] }[] }> {
  const lessons: Lesson[] = [];
  const sources: { file: string; periodsMs: number[] }[] = [];
  const scored: Lesson[] = [];
  const add = (file: string, of: Lesson[]): string => {
    const learntAt = periodsOf(of);
    sources.push({ file, periodsMs: learntAt });
    lessons.push(...weighAsOne(of));
    // The first of a length of step is the series as it was recorded.
    const asRecorded = usual(of, ({ prepared }) => prepared.series.stepMs);
    if (asRecorded) scored.push(asRecorded);
    const left = periodsMs.filter((ms) => !learntAt.includes(ms));
    return left.length > 0 ? `, not for steps of ${left.map(formatDuration).join(',')}` : '';
  };
  for (const path of traces) {
    const name = basename(path).replace(/\.csv(\.gz)?$/, '');
    // Demand in requests and in bytes are two views of one trace; bins have one.
    const views = [await readTrace(path)];
    if (!views[0]!.binMs) views.push(await readTrace(path, { cost: 'bytes' }));
    const own = views.flatMap((trace, i) =>
      traceLessons(trace, i === 0 ? name : `${name} in bytes`, periodsMs, part, seed),
    );
    if (own.length === 0) throw tooShort(path, views[0]!, periodsMs, part);
    const unfit = add(path, own);
    say(`read ${name}: ${views[0]!.requests} requests of ${views[0]!.names.length} targets${unfit}`);
  }
  if (history !== undefined) {
    const own = await historyLessons(history, periodsMs, part, seed);
    if (own.length === 0)
      throw new ForetokenError('INVALID_OPTION', `--history ${history}: it holds too little, an hour is a good start`);
    const unfit = add(history, own);
    say(`read ${history}: ${own[0]!.prepared.series.steps} steps of ${own[0]!.prepared.series.rows} targets${unfit}`);
  }
  lessons.push(...generatedLessons(workloads, periodsMs, seed));
  if (workloads > 0)
    scored.push(
      ...generatedLessons(Math.min(3, workloads), [usual(periodsMs, (ms) => ms)!], seed + 1_000_003, 800).map(
        (lesson) => ({
          ...lesson,
          name: `${lesson.name}, another seed`,
          validateEnd: Math.floor(lesson.prepared.series.steps / 2),
        }),
      ),
    );
  return { lessons, scored, sources };
}

function tooShort(file: string, trace: Trace, periodsMs: readonly number[], part: number): ForetokenError {
  const { binMs = 0, durationMs } = trace;
  const fitting = periodsMs.filter((ms) => ms >= binMs);
  const shortestMs = Math.min(...fitting);
  const steps = Math.floor(Math.floor(durationMs / shortestMs) * part);
  const reason =
    fitting.length > 0
      ? `expected at least ${minSteps} steps in the part learnt from, got ${steps} of ${formatDuration(shortestMs)}`
      : `expected in --periods one of at least ${formatDuration(binMs)}, as its bins are, got ${formatDuration(Math.max(...periodsMs))}`;
  return new ForetokenError('INVALID_OPTION', `${file}: ${reason}`);
}

/** How the command would be typed in the project's folder. */
function commandOf({ traces, history, out, periodsMs, part, steps, hidden, workloads, seed }: Options): string {
  const path = (file: string) => quoted(relative(process.cwd(), file) || file);
  return [
    'npm run train --',
    ...traces.map(path),
    ...(history === undefined ? [] : ['--history', path(history)]),
    `--periods ${periodsMs.map((ms) => `${ms / 1000}s`).join(',')} --part ${part} --steps ${steps}`,
    // The shape is the shipped model's where that is trained further.
    ...(history === undefined ? [`--hidden ${hidden}`] : []),
    `--workloads ${workloads} --seed ${seed}`,
    ...(out === defaultOut(history) ? [] : ['--out', path(out)]),
  ].join(' ');
}

/** As a shell takes it for one word. */
const quoted = (word: string): string => (/^[\w./@%+=:,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

const defaultOut = (history: string | undefined): string =>
  history === undefined ? shippedModelPath : join(dirname(history), 'own-model.onnx');

/** Processor time of streaming inference over 1,000 rows, ms a step, all threads together. */
async function cpuMsPer1000(modelPath: string): Promise<number> {
  const rows = 1000;
  const steps = 50;
  const deadlineMs = Number.POSITIVE_INFINITY;
  await using forecaster = await LstmForecaster.open({ rows, stepMs: 1000, horizonsMs: [5000], modelPath, deadlineMs });
  const demand = Float64Array.from({ length: rows }, (_, row) => row % 7);
  for (let step = 0; step < 10; step++) await forecaster.step(demand, rows);
  const before = process.cpuUsage();
  for (let step = 0; step < steps; step++) await forecaster.step(demand, rows);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / steps;
}

const cardPathOf = (out: string): string =>
  out === shippedModelPath ? `${dirname(out)}/README.md` : `${out.replace(/\.onnx$/, '')}.md`;

/** @throws ForetokenError INVALID_OPTION */
async function settle(values: Values<typeof flags>, traces: string[]): Promise<Options> {
  const { history, part, periods, steps, hidden, workloads, seed } = values;
  const own = history !== undefined;
  // Opening a history makes it where there is none.
  if (own && !(await stat(history).catch(() => undefined))?.isFile())
    throw bad('history', 'the file of a history', history);
  if (own && hidden !== undefined)
    throw bad('hidden', 'none with --history, which trains the shipped model further and keeps its shape', `${hidden}`);
  const out = values.out ?? defaultOut(history);
  if (!out.endsWith('.onnx')) throw bad('out', 'a path that ends in .onnx', out);
  return {
    traces,
    ...(own ? { history } : {}),
    out,
    periodsMs: periods ?? (own ? [1000, 2000, 5000, 10_000] : [250, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000]),
    part: part ?? (own ? 0.8 : 0.5),
    steps: steps ?? (own ? 1500 : 8000),
    hidden: hidden ?? 48,
    workloads: workloads ?? (own ? 20 : 240),
    seed: seed ?? 1,
  };
}

const bad = (option: string, expected: string, got: string): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `--${option}: expected ${expected}, got ${JSON.stringify(got)}`);
