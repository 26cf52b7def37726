import { basename } from 'node:path';
import { featureMeanings, featureVersion } from '../forecast/features.js';
import { quantileLevels } from '../forecast/forecaster.js';
import { generatedRows } from './curriculum.js';
import { horizonGrid } from './model.js';
import type { UnseenScore } from './report.js';

export interface CardFacts {
  /** The command that trained it, as seen from where it ran. */
  command: string;
  /** Files learnt from, and the lengths of step at which each was. */
  traces: readonly { file: string; periodsMs: readonly number[] }[];
  /** All lengths of step learnt at. */
  periodsMs: readonly number[];
  part: number;
  hidden: number;
  workloads: number;
  seed: number;
  validation: number;
  curve: readonly { step: number; loss: number; validation: number }[];
  scores: readonly UnseenScore[];
  /** Size of the weights, bytes. */
  bytes: number;
  seconds: number;
  /** Processor time of 1,000 targets for one step. */
  cpuMsPer1000: number;
}

const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;

const seconds = (periodsMs: readonly number[]): string => periodsMs.map((ms) => `${ms / 1000} s`).join(', ');

/** What a reader must know of a model before using it, as Markdown. */
export function modelCard(facts: CardFacts): string {
  const { traces, periodsMs, part, hidden, workloads, seed, validation, curve, bytes } = facts;
  const names = traces.map(({ file, periodsMs: own }) =>
    own.length < periodsMs.length ? `${basename(file)} (steps of ${seconds(own)})` : basename(file),
  );
  const data = [
    workloads > 0 ? `${workloads} generated workloads of ${generatedRows} targets (\`src/workload/generator.ts\`)` : '',
    traces.length > 0
      ? `${names.join(', ')}: the first ${percent(part)} of each by duration, in requests and, where known, in bytes; the last fifth of that only to know when to stop`
      : '',
  ];
  return `# The forecasting model

Written by \`foretoken train\`; do not edit.

| | |
|---|---|
| what | one LSTM for all targets, hidden ${hidden}, streaming; quantiles ${quantileLevels.join(', ')} of the mean demand over the next ${horizonGrid.join(', ')} steps, over a target's own scale; horizons in between are interpolated, and beyond the longest that one holds |
| files | the graph of one step (\`.onnx\`, weights are its inputs) and the weights (\`.weights.bin\`, ${Math.ceil(bytes / 1024)} KiB) |
| data | ${data.filter(Boolean).join('; ')} |
| steps | of ${seconds(periodsMs)} |
| seed | ${seed}: the same command gives the same weights |
| loss | pinball, summed over quantiles and horizons; backpropagation through 64 steps, Adam |
| validation | ${validation.toFixed(4)}: pinball loss over that of the best fixed EWMA on the watched steps, mean over series and horizons |
| trained in | ${facts.seconds} s |
| cost | ${facts.cpuMsPer1000.toFixed(2)} ms of one core for 1,000 targets and one step, on the machine that trained it |

\`\`\`
${facts.command}
\`\`\`
${scoreTable(facts.scores)}
## What it does not know
It has seen few systems. On a workload unlike these it may be worse than an EWMA, most of all in its first minutes
and at horizons beyond a minute; that is why it works within a mixture and is refined on the user's own history.
It sees demand alone: no calendar, no names, no kinds of request.

## How training went
| step | loss | validation |
|---|---|---|
${curve.map(({ step, loss, validation: now }) => `| ${step} | ${loss.toFixed(4)} | ${now.toFixed(4)} |`).join('\n')}

## What it sees
Version ${featureVersion}, ${featureMeanings.length} numbers per target and step. A target's scale is its EWMA of span 300, or a
fiftieth of that of span 1000 if that is more.

${featureMeanings.map((meaning, i) => `${i + 1}. ${meaning}`).join('\n')}
`;
}

function scoreTable(scores: readonly UnseenScore[]): string {
  if (scores.length === 0) return '';
  const rows = scores.map(
    ({ name, horizonMs, score, baseline, coverage90 }) =>
      `| ${name} | ${horizonMs / 1000} s | ${score.toFixed(3)} | ${baseline.toFixed(3)} | ${percent(1 - score / baseline)} | ${coverage90.toFixed(2)} |`,
  );
  return `
## Scores on what it has not seen
The rest of each trace, and workloads generated with another seed. Score: pinball loss at 0.5 plus at 0.9, mean over
targets and steps, over the mean demand of a target. Baseline: the best of last value, EWMAs (spans 5 to 300) and the
value one period earlier, times 0.5 to 3, chosen with hindsight for each level, series and horizon. The model alone:
without refinement and without the mixture.

| series | horizon | score | baseline | gain | coverage of q90 |
|---|---|---|---|---|---|
${rows.join('\n')}
`;
}
