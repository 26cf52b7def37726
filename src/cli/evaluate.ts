import { ForetokenError } from '../errors.js';
import { longRangeFromMs } from '../forecast/long-range.js';
import { engineChoices } from '../forecast/names.js';
import { CsvFile } from '../lab/csv-file.js';
import { type EvaluateHooks, evaluate } from '../lab/evaluate.js';
import { dumpHeader, dumpRows, evaluationJson, evaluationTable } from '../lab/evaluation-report.js';
import { formatDuration, parseDurationMs, parseSwitch } from '../lab/units.js';
import { defaultHorizonsMs, longestHorizonMs, mostHorizons } from '../options.js';
import { readTrace } from '../workload/trace.js';
import { checkOutputs, choice, command, list, number, oneTrace, seed, text, type Values } from './command.js';
import { checkModel, modelFiles } from './own-model.js';
import { ProgressBar } from './progress.js';

const help = `foretoken evaluate TRACE [options]

Walks a recorded trace once, forecasts from what lies before each moment, and scores the forecasts against
what came and against simple forecasters chosen with hindsight. TRACE is a file, plain or gzip, or - for
standard input.

  --cost requests|bytes       1 token a request (default), or its bytes
  --step TIME                 period of forecasting (default: 1s)
  --horizons LIST             how far ahead, up to ${mostHorizons} from the step to ${formatDuration(longestHorizonMs)}
                              (default: ${defaultHorizonsMs.map(formatDuration).join(',')})
  --engine NAME               ${engineChoices.join(', ')} (default: ${engineChoices[0]})
  --model FILE                a model of your own, as foretoken train writes it (default: the shipped one)
  --refine on|off             refine the model on the trace as it goes (default: on)
  --warmup F                  part of the duration that is learnt from and not scored (default: 0.5)
  --seed N                    (default: 1)
  --dump FILE                 every scored forecast as CSV, gzip if the name ends in .gz
  --json                      one JSON object on standard output
  --help

A score is the pinball loss at 0.5 plus that at 0.9, averaged over targets and steps, over the mean demand
rate of a target in the scored part. The gain is 1 - score / (best q50 + best q90 of the simple ones).
Beside auto, ETS and Prophet have no score (-, null) at horizons below ${formatDuration(longRangeFromMs)}, or where the trace is too short to fit them.`;

const flags = {
  cost: choice(['requests', 'bytes']),
  step: parseDurationMs,
  horizons: parseHorizons,
  engine: choice(engineChoices),
  model: text,
  refine: parseSwitch,
  warmup: number(0, 0.99),
  seed,
  dump: text,
  json: 'switch',
} as const;

/** `foretoken evaluate`: the result on standard output, progress, events and errors on standard error. */
export const evaluateCommand = command({ name: 'evaluate', help, flags, takesOperands: true, run });

async function run(values: Values<typeof flags>, operands: string[]): Promise<number> {
  const { dump, json, step, horizons, ...others } = values;
  const options = {
    ...others,
    ...(step !== undefined && { stepMs: step }),
    ...(horizons !== undefined && { horizonsMs: horizons }),
  };
  if (horizons !== undefined) checkHorizons(horizons, step ?? 1000);
  const file = oneTrace(operands);
  checkOutputs({ 'the trace itself': file, ...modelFiles(options.model) }, { dump });
  if (options.model !== undefined) await checkModel(options.model, options.engine);
  const trace = await readTrace(file, options.cost ? { cost: options.cost } : {});
  const csv = dump === undefined ? undefined : await CsvFile.open('dump', dump, dumpHeader);
  try {
    using bar = new ProgressBar();
    const hooks: EvaluateHooks = {
      progress: (done) => bar.update(done, 'forecasting'),
      // Refinements are the engine's daily business; a lost rung changes what the scores mean.
      onEvent: ({ kind, message }) => {
        if (kind !== 'engine') return;
        bar.clear();
        console.error(`foretoken evaluate: ${message}`);
      },
    };
    if (csv)
      hooks.onForecasts = (timeMs, frame) => {
        for (const row of dumpRows(timeMs, frame, trace.names, options.engine ?? 'auto')) csv.write(row);
        return csv.drain();
      };
    const result = await evaluate(trace, options, hooks);
    bar[Symbol.dispose]();
    console.log(json ? JSON.stringify(evaluationJson(result), null, 2) : evaluationTable(result));
    return 0;
  } finally {
    await csv?.close();
  }
}

function parseHorizons(option: string, given: string): number[] {
  const horizonsMs = list(parseDurationMs)(option, given);
  if (horizonsMs.length > mostHorizons) throw unfit(`1 to ${mostHorizons} durations`, String(horizonsMs.length));
  if (new Set(horizonsMs).size < horizonsMs.length) throw unfit('different durations', JSON.stringify(given));
  return horizonsMs;
}

/** They are bounded as those of a controller. */
function checkHorizons(horizonsMs: readonly number[], stepMs: number): void {
  const mostMs = Math.max(stepMs, longestHorizonMs);
  for (const horizonMs of horizonsMs)
    if (horizonMs < stepMs || horizonMs > mostMs)
      throw unfit(
        `durations from ${formatDuration(stepMs)} up to ${formatDuration(mostMs)}`,
        formatDuration(horizonMs),
      );
}

const unfit = (expected: string, got: string): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `--horizons: expected ${expected}, got ${got}`);
