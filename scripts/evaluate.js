// `npm run evaluate [-- FOLDER]`: how much better than simple forecasters, chosen with hindsight, the forecasts are
// on every recorded trace of a folder, as a table.
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { longRangeFromMs } from '../dist/forecast/long-range.js';
import { evaluate } from '../dist/lab/evaluate.js';
import { readTrace } from '../dist/workload/trace.js';

const folder = process.argv[2] ?? fileURLToPath(new URL('../../shared/traces', import.meta.url));
const files = existsSync(folder)
  ? readdirSync(folder).filter((name) => name.endsWith('.csv') || name.endsWith('.csv.gz'))
  : [];
if (files.length === 0) {
  console.error(`no traces in ${folder}: name a folder that holds some, as CSV, plain or gzip`);
  process.exit(1);
}

const percent = (value) => (value === null ? '-' : `${(100 * value).toFixed(1)} %`);
const seconds = (ms) => (ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1000} s`);
const row = (cells) => console.log(`| ${cells.join(' | ')} |`);
const head = ['trace', 'step', 'horizon', 'gain', 'of the model alone', 'of ETS', 'of Prophet', 'demand ≤ q90'];
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
  const {
    engines,
    cpuSecondsPer1000TargetSteps: cpu,
    fittingCpuSeconds: fitting,
  } = await evaluate(trace, { stepMs, horizonsMs });
  horizonsMs.forEach((horizonMs, h) => {
    const { gain, coverage90 } = engines.auto[h];
    if (horizonMs < 300_000) gains.push(gain ?? 0);
    // Below two minutes ETS and Prophet leave it to others.
    const isFitted = horizonMs >= longRangeFromMs;
    const alone = ['lstm', 'ets', 'prophet'].map((engine) =>
      engines[engine] && (engine === 'lstm' || isFitted) ? percent(engines[engine][h].gain) : '-',
    );
    const fitted = isFitted ? [fitting.ets, fitting.prophet].map((s) => s?.toPrecision(2) ?? '-').join(', ') : '-';
    row([
      name,
      seconds(stepMs),
      seconds(horizonMs),
      percent(gain),
      ...alone,
      percent(coverage90),
      cpu.toPrecision(2),
      fitted,
    ]);
  });
}
console.log(
  `\nbelow 5 min: mean gain ${percent(gains.reduce((a, b) => a + b, 0) / gains.length)}, least ${percent(Math.min(...gains))}`,
);
