import { basename } from 'node:path';
import { allocatorNames } from '../allocate/allocator.js';
import { ForetokenError } from '../errors.js';
import { engineChoices } from '../forecast/names.js';
import { replay } from '../lab/replay.js';
import { curvesOf, ReplayReport } from '../lab/replay-report.js';
import { replayJson, replayTable } from '../lab/report.js';
import { armNames } from '../lab/settings.js';
import { DecisionFile } from '../lab/stream.js';
import { everySink } from '../lab/tally.js';
import { parseDurationMs, parseRate, parseSwitch } from '../lab/units.js';
import { WholeFile } from '../lab/whole-file.js';
import { curvesPicture } from '../report/curves.js';
import { renderReport } from '../report/report.js';
import { readTrace } from '../workload/trace.js';
import { checkOutputs, choice, command, list, number, oneTrace, seed, text, type Values, whole } from './command.js';
import { checkModel, modelFiles } from './own-model.js';
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
  --engine NAME               what Foretoken forecasts with: ${engineChoices.join(', ')} (default: ${engineChoices[0]})
  --model FILE                a model of your own, as foretoken train writes it (default: the shipped one)
  --refine on|off             refine the model on the trace as it goes (default: on)
  --seed N                    (default: 1)
  --stream FILE               every scored decision as CSV, gzip if the name ends in .gz
  --pareto                    sweep every arm's head-room too: what it throttles against what it withholds
  --html FILE                 a report to look at, in one file: curves, one target over time, every target
  --target NAME               whose timeline the report shows first (default: the one denied most)
  --svg FILE                  the curves of --pareto as a picture
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
  engine: choice(engineChoices),
  model: text,
  refine: parseSwitch,
  seed,
  stream: text,
  pareto: 'switch',
  html: text,
  target: text,
  svg: text,
  json: 'switch',
} as const;

/** `foretoken replay`: the result on standard output, progress and errors on standard error. */
export const replayCommand = command({ name: 'replay', help, flags, takesOperands: true, run });

async function run(values: Values<typeof flags>, operands: string[], argv: readonly string[]): Promise<number> {
  const { stream, html, svg, target, json, burst, step, ...others } = values;
  const options = {
    ...others,
    ...(burst !== undefined && { burstMs: burst }),
    ...(step !== undefined && { stepMs: step }),
  };
  const file = oneTrace(operands);
  if (svg !== undefined && !options.pareto) throw unfit('--svg', '--pareto, whose curves it draws');
  if (target !== undefined && html === undefined) throw unfit('--target', '--html, which shows it');
  checkOutputs({ 'the trace itself': file, ...modelFiles(options.model) }, { stream, html, svg });
  if (options.model !== undefined) await checkModel(options.model, options.engine);
  const page = html === undefined ? undefined : await WholeFile.at('html', html);
  const picture = svg === undefined ? undefined : await WholeFile.at('svg', svg);
  const trace = await readTrace(file, options.cost ? { cost: options.cost } : {});
  const report = page && new ReplayReport(trace, options, target);
  const decisions = stream === undefined ? undefined : await DecisionFile.open(stream);
  const sinks = [decisions, report?.tally].filter((sink) => sink !== undefined);
  try {
    using bar = new ProgressBar();
    const told = new Set<string>();
    const result = await replay(trace, options, {
      ...(sinks.length > 0 ? { sink: everySink(sinks) } : {}),
      progress: (done, label) => bar.update(done, label),
      // A lost rung changes what the figures mean. Every curve's forecaster may lose it anew.
      onEvent: ({ kind, message }) => {
        if (kind !== 'engine' || told.has(message)) return;
        told.add(message);
        report?.note(`${message}.`);
        bar.clear();
        console.error(`foretoken replay: ${message}`);
      },
      ...(report ? { onStep: (step) => report.onStep(step) } : {}),
    });
    bar[Symbol.dispose]();
    if (report) await page.write(renderReport(report.data(result, ['foretoken replay', ...argv].join(' '))));
    if (picture) {
      const { arms, title } = curvesOf(result.pareto!, basename(trace.file));
      await picture.write(curvesPicture(arms, title));
    }
    console.log(json ? JSON.stringify(replayJson(result), null, 2) : replayTable(result));
    return 0;
  } finally {
    await decisions?.close();
  }
}

const unfit = (option: string, needs: string): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `${option}: expected together with ${needs}, got it alone`);
