import { parseArgs } from 'node:util';
import { ForetokenError } from '../errors.js';
import { CsvFile } from '../lab/csv-file.js';
import {
  defaultHorizonsMs,
  type EvaluateHooks,
  type EvaluateOptions,
  evaluate,
  evaluatedEngines,
} from '../lab/evaluate.js';
import { dumpHeader, dumpRows, evaluationJson, evaluationTable } from '../lab/evaluation-report.js';
import { formatDuration, parseChoice, parseDurationMs, parseNumber, parseSwitch } from '../lab/units.js';
import { readTrace } from '../workload/trace.js';
import { ProgressBar } from './progress.js';

const help = `foretoken evaluate TRACE [options]

Walks a recorded trace once, forecasts from what lies before each moment, and scores the forecasts against
what came and against simple forecasters chosen with hindsight. TRACE is a file, plain or gzip, or - for
standard input.

  --cost requests|bytes       1 token a request (default), or its bytes
  --step TIME                 period of forecasting (default: 1s)
  --horizons LIST             how far ahead (default: ${defaultHorizonsMs.map(formatDuration).join(',')})
  --engine NAME               ${evaluatedEngines.join(', ')} (default: ${evaluatedEngines[0]})
  --refine on|off             refine the model on the trace as it goes (default: on)
  --warmup F                  part of the duration that is learnt from and not scored (default: 0.5)
  --seed N                    (default: 1)
  --dump FILE                 every scored forecast as CSV, gzip if the name ends in .gz
  --json                      one JSON object on standard output
  --help

A score is the pinball loss at 0.5 plus that at 0.9, averaged over targets and steps, over the mean demand
rate of a target in the scored part. The gain is 1 - score / (best q50 + best q90 of the simple ones).`;

const flags = {
  cost: { type: 'string' },
  step: { type: 'string' },
  horizons: { type: 'string' },
  engine: { type: 'string' },
  refine: { type: 'string' },
  warmup: { type: 'string' },
  seed: { type: 'string' },
  dump: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

interface Command {
  file: string;
  options: EvaluateOptions;
  dump?: string;
  json: boolean;
}

/**
 * `foretoken evaluate`: the result on standard output, progress, events and errors on standard error.
 * @returns exit code: 0 done, 1 the trace or the machine failed, 2 bad options
 */
export async function evaluateCommand(argv: string[]): Promise<number> {
  try {
    const command = parse(argv);
    if (!command) console.log(help);
    else await run(command);
    return 0;
  } catch (error) {
    if (!(error instanceof ForetokenError)) throw error;
    console.error(`foretoken evaluate: ${error.message}`);
    return error.code === 'INVALID_OPTION' || error.code === 'INVALID_ARGUMENT' ? 2 : 1;
  }
}

async function run({ file, options, dump, json }: Command): Promise<void> {
  const trace = await readTrace(file, options.cost ? { cost: options.cost } : {});
  const csv = dump === undefined ? undefined : await CsvFile.open('dump', dump, dumpHeader);
  try {
    using bar = new ProgressBar();
    const hooks: EvaluateHooks = {
      progress: (done) => bar.update(done, 'forecasting'),
      // Refinements are the engine's daily business; a lost rung changes what the scores mean.
      onEvent: ({ kind, message }) => {
        if (kind === 'engine') console.error(`foretoken evaluate: ${message}`);
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
  } finally {
    await csv?.close();
  }
}

/** @returns undefined when help is wanted */
function parse(argv: string[]): Command | undefined {
  const { values, positionals } = parseFlags(argv);
  if (values.help) return undefined;
  if (positionals.length !== 1)
    throw new ForetokenError(
      'INVALID_OPTION',
      `expected one trace, a file or -, got ${positionals.length === 0 ? 'none' : positionals.join(' ')}; see --help`,
    );
  const options: EvaluateOptions = {};
  const { cost, step, horizons, engine, refine, warmup, seed } = values;
  if (cost !== undefined) options.cost = parseChoice('cost', cost, ['requests', 'bytes']);
  if (step !== undefined) options.stepMs = parseDurationMs('step', step);
  if (horizons !== undefined) options.horizonsMs = parseHorizons(horizons);
  if (engine !== undefined) options.engine = parseChoice('engine', engine, evaluatedEngines);
  if (refine !== undefined) options.refine = parseSwitch('refine', refine);
  if (warmup !== undefined) options.warmup = parseNumber('warmup', warmup, 0, 0.99, false);
  if (seed !== undefined) options.seed = parseNumber('seed', seed, 0, 2 ** 32 - 1, true);
  return {
    file: positionals[0]!,
    options,
    ...(values.dump === undefined ? {} : { dump: values.dump }),
    json: values.json ?? false,
  };
}

function parseHorizons(text: string): number[] {
  const horizonsMs = text.split(',').map((horizon) => parseDurationMs('horizons', horizon));
  if (new Set(horizonsMs).size < horizonsMs.length)
    throw new ForetokenError('INVALID_OPTION', `--horizons: expected different durations, got ${JSON.stringify(text)}`);
  return horizonsMs;
}

function parseFlags(argv: string[]) {
  try {
    return parseArgs({ args: argv, options: flags, allowPositionals: true });
  } catch (error) {
    // parseArgs names the option and what is wrong with it, then how to escape it, which helps nobody here.
    throw new ForetokenError('INVALID_OPTION', `${(error as Error).message.split('\n')[0]}; see --help`, {
      cause: error,
    });
  }
}
