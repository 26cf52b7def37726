import { allocatorNames } from '../allocate/allocator.js';
import { replay } from '../lab/replay.js';
import { replayJson, replayTable } from '../lab/report.js';
import { armNames } from '../lab/settings.js';
import { DecisionFile } from '../lab/stream.js';
import { parseDurationMs, parseRate, parseSwitch } from '../lab/units.js';
import { readTrace } from '../workload/trace.js';
import { choice, command, list, number, oneTrace, seed, text, type Values, whole } from './command.js';
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
  --pareto                    sweep every arm's head-room too: what it throttles against what it withholds
  --json                      one JSON object on standard output
  --help`;

const flags = {
  cost: choice(['requests', 'bytes']),
  rate: parseRate,
  burst: parseDurationMs,
  step: parseDurationMs,
  adjust: parseSwitch,
  borrow: parseSwitch,
  allocator: choice(allocatorNames),
  arms: list(choice(armNames)),
  hogs: whole(0, 10_000),
  holders: whole(0, 10_000),
  warmup: number(0, 0.99),
  refine: parseSwitch,
  seed,
  stream: text,
  pareto: 'switch',
  json: 'switch',
} as const;

/** `foretoken replay`: the result on standard output, progress and errors on standard error. */
export const replayCommand = command({ name: 'replay', help, flags, takesOperands: true, run });

async function run(values: Values<typeof flags>, operands: string[]): Promise<number> {
  const { stream, json, burst, step, ...others } = values;
  const options = {
    ...others,
    ...(burst !== undefined && { burstMs: burst }),
    ...(step !== undefined && { stepMs: step }),
  };
  const trace = await readTrace(oneTrace(operands), options.cost ? { cost: options.cost } : {});
  const sink = stream === undefined ? undefined : await DecisionFile.open(stream);
  try {
    using bar = new ProgressBar();
    const result = await replay(trace, options, {
      ...(sink ? { sink } : {}),
      progress: (done, arm) => bar.update(done, arm),
    });
    bar[Symbol.dispose]();
    console.log(json ? JSON.stringify(replayJson(result), null, 2) : replayTable(result));
    return 0;
  } finally {
    await sink?.close();
  }
}
