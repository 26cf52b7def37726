// `npm run refinement -- FOLDER|TRACE… [MODEL.onnx] [--card FILE] [--seed N]`: what refinement on a trace's own past saves
// of the loss of the LSTM alone, without the mixture. The same walk scores the model refined and as it is, on the second
// half. With --card also as a section of a model's card, on traces that MODEL.onnx has never seen.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { ForecastEngine } from '../dist/forecast/engine.js';
import { walk } from '../dist/lab/evaluate.js';
import { readTrace } from '../dist/workload/trace.js';
import { writeSection } from './card-section.js';

const isTrace = (name) => name.endsWith('.csv') || name.endsWith('.csv.gz');

function argumentsOf() {
  try {
    return parseArgs({ allowPositionals: true, options: { card: { type: 'string' }, seed: { type: 'string' } } });
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}
const { positionals: given, values } = argumentsOf();
const seed = Number(values.seed ?? 1);
if (!Number.isInteger(seed) || seed < 0) {
  console.error(`--seed: expected a whole number, got ${values.seed}`);
  process.exit(2);
}
if (values.card !== undefined && !existsSync(values.card)) {
  console.error(`no card in ${values.card}: --card names a file that foretoken train wrote`);
  process.exit(2);
}
const modelPath = given.find((name) => name.endsWith('.onnx'));
const files = given.filter((name) => name !== modelPath).flatMap(listed);
if (files.length === 0) {
  console.error(
    'name traces or a folder that holds some, as CSV, plain or gzip; and a model (.onnx), if not the shipped one',
  );
  process.exit(1);
}

function listed(path) {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return [];
  if (!found.isDirectory()) return [path];
  return readdirSync(path)
    .filter(isTrace)
    .sort()
    .map((name) => join(path, name));
}

const percent = (value) => (value === null ? '-' : `${(100 * value).toFixed(1)} %`);
const lines = [];
const row = (cells) => {
  lines.push(`| ${cells.join(' | ')} |`);
  console.log(lines.at(-1));
};
row(['trace', 'horizon', 'score as it is', 'score refined', 'saved', 'promoted', 'refused']);
row(Array(7).fill('---'));
for (const file of files) {
  const trace = await readTrace(file);
  const stepMs = Math.max(1000, trace.binMs ?? 0);
  const horizonsMs = trace.binMs ? [stepMs, 6 * stepMs] : [5_000, 30_000];
  const settings = { cost: 'requests', stepMs, horizonsMs, engine: 'lstm', refine: true, warmup: 0.5, seed };
  let promoted = 0;
  let refused = 0;
  const onEvent = ({ message }) => {
    if (message.startsWith('challenger promoted')) promoted++;
    if (message.startsWith('challenger refused')) refused++;
  };
  const open = (refine) =>
    ForecastEngine.open({
      rows: trace.names.length,
      stepMs,
      horizonsMs,
      engine: 'lstm',
      refine,
      seed,
      deterministic: true,
      onEvent,
      ...(modelPath ? { modelPath } : {}),
    });
  const engines = { refined: await open(true), plain: await open(false) };
  const result = await walk(trace, settings, new Map(Object.entries(engines)));
  for (const engine of Object.values(engines)) await engine.close();
  horizonsMs.forEach((horizonMs, h) => {
    const [refined, plain] = ['refined', 'plain'].map((name) => result.engines[name][h].score);
    const saved = plain > 0 ? 1 - refined / plain : null;
    const name = basename(file).replace(/\.csv(\.gz)?$/, '');
    row([name, `${horizonMs / 1000} s`, plain.toFixed(4), refined.toFixed(4), percent(saved), promoted, refused]);
  });
}
if (values.card !== undefined) {
  const text = `
What refinement saves of the loss of the LSTM alone where the model had never seen the trace: trained as above, but
without the traces below (and with \`--out OTHER.onnx\`). Second halves, by
\`npm run refinement -- TRACE… OTHER.onnx --card FILE\`.

${lines.join('\n')}`;
  writeSection(values.card, 'Refinement on traces never seen', text);
}
