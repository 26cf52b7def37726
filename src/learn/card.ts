import { basename } from 'node:path';
import { featureCount, featureVersion } from '../forecast/features.js';
import { quantileLevels } from '../forecast/forecaster.js';
import { horizonGrid } from './model.js';
import type { UnseenScore } from './report.js';

export interface CardFacts {
  /** Paths as seen from where the command ran. */
  traces: readonly string[];
  periodsMs: readonly number[];
  part: number;
  steps: number;
  hidden: number;
  workloads: number;
  seed: number;
  validation: number;
  scores: readonly UnseenScore[];
  /** Size of the weights, bytes. */
  bytes: number;
  seconds: number;
}

/** What a reader must know of a model before using it, as Markdown. */
export function modelCard(facts: CardFacts): string {
  const { traces, periodsMs, part, steps, hidden, workloads, seed, validation, scores, bytes, seconds } = facts;
  const periods = periodsMs.map((ms) => `${ms / 1000} s`).join(', ');
  const options = `--periods ${periodsMs.map((ms) => `${ms / 1000}s`).join(',')} --part ${part} --steps ${steps} --hidden ${hidden} --workloads ${workloads} --seed ${seed}`;
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const rows = scores.map(
    ({ name, horizonMs, score, baseline, coverage90 }) =>
      `| ${name} | ${horizonMs / 1000} s | ${score.toFixed(3)} | ${baseline.toFixed(3)} | ${percent(1 - score / baseline)} | ${coverage90.toFixed(2)} |`,
  );
  return `# The forecasting model

Written by \`foretoken train\`; do not edit.

| | |
|---|---|
| what | one LSTM for all targets, hidden ${hidden}, streaming; quantiles ${quantileLevels.join(', ')} of the mean demand over the next ${horizonGrid.join(', ')} steps, over a target's own scale |
| files | the graph of one step (\`.onnx\`, weights are its inputs) and the weights (\`.weights.bin\`, ${Math.ceil(bytes / 1024)} KiB) |
| features | ${featureCount} per target, version ${featureVersion}, free of scale: see \`src/forecast/features.ts\` |
| data | ${workloads} generated workloads${traces.length > 0 ? `; ${traces.map((trace) => basename(trace)).join(', ')}: the first ${percent(part)} of each by duration, in requests and in bytes, the last fifth of that to know when to stop` : ''} |
| steps | of ${periods} |
| seed | ${seed} |
| validation | ${validation.toFixed(4)}: mean pinball loss over that of the best fixed EWMA on the watched steps |
| trained in | ${seconds} s |

\`\`\`
npm run train -- ${[...traces, options].join(' ')}
\`\`\`

## What it does not know
It has seen few systems. On a workload unlike these it may be worse than an EWMA, most of all at horizons beyond
a minute; that is why it works within a mixture and is refined on the user's own history.
${
  scores.length === 0
    ? ''
    : `
## Scores on what it has not seen
The rest of each trace. Score: pinball loss at 0.5 plus at 0.9, mean over targets and steps, over the mean demand of a
target. Baseline: the best of last value and EWMAs (spans 5 to 300, times 0.5 to 3), chosen with hindsight for each
level, trace and horizon. Without refinement and without the mixture.

| series | horizon | score | baseline | gain | coverage of q90 |
|---|---|---|---|---|---|
${rows.join('\n')}
`
}`;
}
