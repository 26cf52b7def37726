// `npm run evaluate [-- FOLDER] [--card FILE]`: how much better than simple forecasters, chosen with hindsight, the
// forecasts are on every recorded trace of a folder, as a table; with --card also as a section of a model's card.
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { longRangeFromMs } from '../dist/forecast/long-range.js';
import { evaluate } from '../dist/lab/evaluate.js';
import { readTrace } from '../dist/workload/trace.js';
import { writeSection } from './card-section.js';

function argumentsOf() {
  try {
    return parseArgs({ allowPositionals: true, options: { card: { type: 'string' } } });
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}
const { positionals, values } = argumentsOf();
const folder = positionals[0] ?? fileURLToPath(new URL('../../shared/traces', import.meta.url));
if (values.card !== undefined && !existsSync(values.card)) {
  console.error(`no card in ${values.card}: --card names a file that foretoken train wrote`);
  process.exit(2);
}
const files = existsSync(folder)
  ? readdirSync(folder).filter((name) => name.endsWith('.csv') || name.endsWith('.csv.gz'))
  : [];
if (files.length === 0) {
  console.error(`no traces in ${folder}: name a folder that holds some, as CSV, plain or gzip`);
  process.exit(1);
}

const percent = (value) => (value === null ? '-' : `${(100 * value).toFixed(1)} %`);
const seconds = (ms) => (ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1000} s`);
const lines = [];
const say = (line) => {
  console.log(line);
  lines.push(line);
};
const row = (cells) => say(`| ${cells.join(' | ')} |`);
const head = [
  'trace',
  'step',
  'horizon',
  'gain',
  'of the model alone',
  'of ETS',
  'of Prophet',
  'demand ≤ q90',
  'at least',
];
row([...head, 'CPU s per 1,000', 'CPU s to fit ETS, Prophet']);
row(Array(head.length + 2).fill('---'));
const gains = [];
for (const file of files.sort()) {
  const trace = await readTrace(join(folder, file));
  const name = basename(file).replace(/\.csv(\.gz)?$/, '');
  // Bins are no shorter than a step; five minutes ahead only where there is an hour and more to score.
  const stepMs = Math.max(1000, trace.binMs ?? 0);
  const horizonsMs = trace.binMs ? [stepMs, 6 * stepMs] : [5_000, 30_000];
  if (trace.durationMs >= 7_000_000) horizonsMs.push(300_000);
  const result = await evaluate(trace, { stepMs, horizonsMs }).catch((error) => {
    if (error.code !== 'INVALID_OPTION') throw error;
    // Too short for any of them: the others count all the same.
    console.error(`${file}: ${error.message}`);
  });
  if (!result) continue;
  const {
    engines,
    cpuSecondsPer1000TargetSteps: cpu,
    fittingCpuSeconds: fitting,
    leastCoverage90: least,
    coverage90Error: error,
  } = result;
  horizonsMs.forEach((horizonMs, h) => {
    const { gain, coverage90 } = engines.auto[h];
    if (horizonMs < 300_000) gains.push(gain ?? 0);
    const alone = ['lstm', 'ets', 'prophet'].map((engine) => percent(engines[engine]?.[h].gain ?? null));
    // Below two minutes ETS and Prophet leave it to others.
    const isFitted = horizonMs >= longRangeFromMs;
    const fitted = isFitted ? [fitting.ets, fitting.prophet].map((s) => s?.toPrecision(2) ?? '-').join(', ') : '-';
    row([
      name,
      seconds(stepMs),
      seconds(horizonMs),
      percent(gain),
      ...alone,
      error[h] === null ? percent(coverage90) : `${percent(coverage90)} ± ${(100 * error[h]).toFixed(1)}`,
      percent(least[h]),
      cpu.toPrecision(2),
      fitted,
    ]);
  });
}
if (gains.length === 0) process.exit(1);
say(
  `\nbelow 5 min: mean gain ${percent(gains.reduce((a, b) => a + b, 0) / gains.length)}, least ${percent(Math.min(...gains))}`,
);
if (values.card !== undefined) {
  const text = `
The second half of each trace, refinement on, by \`npm run evaluate -- FOLDER --card FILE\`. Gain over the best q50 and
q90 of moving averages, last value and one period ago, each times fixed factors, chosen with hindsight per trace and
horizon; how often the demand of busy targets was at most the 0.9 quantile, with its standard error over spans that do
not overlap, and how often it must be even if that quantile is right: where a target is silent for more than nine tenths of
all horizons, no quantile covers less than that.

${lines.join('\n')}`;
  writeSection(values.card, 'Scores within the mixture', text);
}
