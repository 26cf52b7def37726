import { parseArgs } from 'node:util';
import { allocatorNames } from '../allocate/allocator.js';
import { ForetokenError } from '../errors.js';
import { replay } from '../lab/replay.js';
import { replayJson, replayTable } from '../lab/report.js';
import { type ArmName, armNames, type ReplayOptions } from '../lab/settings.js';
import { DecisionFile } from '../lab/stream.js';
import { parseChoice, parseDurationMs, parseNumber, parseRate, parseSwitch } from '../lab/units.js';
import { readTrace } from '../workload/trace.js';
import { ProgressBar } from './progress.js';

const help = `foretoken replay TRACE [options]

Plays a recorded trace through the token buckets on a virtual clock and compares ways to divide the
resource. TRACE is a file, plain or gzip, or - for standard input.

  --cost requests|bytes       1 token a request (default), or its bytes
  --rate N|4x                 tokens/s, or a multiple of the trace's mean demand (default: 4x)
  --burst TIME                resource burst, as a time at its rate (default: 1s)
  --step TIME                 period of collecting, forecasting and allocating (default: 1s)
  --borrow on|off             weighted borrowing from what others leave (default: off)
  --adjust on|off             the fast loop between steps (default: on with borrowing)
  --allocator NAME            ${allocatorNames.join(' or ')} (default: ${allocatorNames[0]})
  --arms LIST                 some of ${armNames.join(',')} (default: all that apply)
  --hogs K                    add K targets that are always backlogged (default: 0)
  --holders H                 spread the targets over H holders of leases (default: 0, none)
  --warmup F                  part of the duration that is learnt from and not scored (default: 0.5)
  --refine on|off             refine the model on the trace as it goes (default: on)
  --seed N                    (default: 1)
  --stream FILE               every scored decision as CSV, gzip if the name ends in .gz
  --json                      one JSON object on standard output
  --help`;

const flags = {
  cost: { type: 'string' },
  rate: { type: 'string' },
  burst: { type: 'string' },
  step: { type: 'string' },
  adjust: { type: 'string' },
  borrow: { type: 'string' },
  allocator: { type: 'string' },
  arms: { type: 'string' },
  hogs: { type: 'string' },
  holders: { type: 'string' },
  warmup: { type: 'string' },
  refine: { type: 'string' },
  seed: { type: 'string' },
  stream: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

interface Command {
  file: string;
  options: ReplayOptions;
  stream?: string;
  json: boolean;
}

/**
 * `foretoken replay`: the result on standard output, progress and errors on standard error.
 * @returns exit code: 0 done, 1 the trace or the machine failed, 2 bad options
 */
export async function replayCommand(argv: string[]): Promise<number> {
  try {
    const command = parse(argv);
    if (!command) console.log(help);
    else await run(command);
    return 0;
  } catch (error) {
    if (!(error instanceof ForetokenError)) throw error;
    console.error(`foretoken replay: ${error.message}`);
    return error.code === 'INVALID_OPTION' || error.code === 'INVALID_ARGUMENT' ? 2 : 1;
  }
}

async function run({ file, options, stream, json }: Command): Promise<void> {
  const trace = await readTrace(file, options.cost ? { cost: options.cost } : {});
  const sink = stream === undefined ? undefined : await DecisionFile.open(stream);
  try {
    using bar = new ProgressBar();
    const result = await replay(trace, options, {
      ...(sink ? { sink } : {}),
      progress: (done, arm) => bar.update(done, arm),
    });
    bar[Symbol.dispose]();
    console.log(json ? JSON.stringify(replayJson(result), null, 2) : replayTable(result));
  } finally {
    await sink?.close();
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
  const options: ReplayOptions = {};
  const { cost, rate, burst, step, adjust, borrow, allocator, arms, hogs, holders, warmup, refine, seed } = values;
  if (cost !== undefined) options.cost = parseChoice('cost', cost, ['requests', 'bytes']);
  if (rate !== undefined) options.rate = parseRate('rate', rate);
  if (burst !== undefined) options.burstMs = parseDurationMs('burst', burst);
  if (step !== undefined) options.stepMs = parseDurationMs('step', step);
  if (adjust !== undefined) options.adjust = parseSwitch('adjust', adjust);
  if (borrow !== undefined) options.borrow = parseSwitch('borrow', borrow);
  if (allocator !== undefined) options.allocator = parseChoice('allocator', allocator, allocatorNames);
  if (arms !== undefined) options.arms = arms.split(',').map((arm): ArmName => parseChoice('arms', arm, armNames));
  if (hogs !== undefined) options.hogs = parseNumber('hogs', hogs, 0, 10_000, true);
  if (holders !== undefined) options.holders = parseNumber('holders', holders, 0, 10_000, true);
  if (warmup !== undefined) options.warmup = parseNumber('warmup', warmup, 0, 0.99, false);
  if (refine !== undefined) options.refine = parseSwitch('refine', refine);
  if (seed !== undefined) options.seed = parseNumber('seed', seed, 0, 2 ** 32 - 1, true);
  return {
    file: positionals[0]!,
    options,
    ...(values.stream === undefined ? {} : { stream: values.stream }),
    json: values.json ?? false,
  };
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
