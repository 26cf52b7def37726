// `npm run bench`: what a request costs beside its peers, and what a control step costs. All arms of a table
// run interleaved in one process, so compare within one run. `--json` prints the figures as JSON.
import { parseArgs } from 'node:util';
import { acquireBench, print } from './acquire.js';
import { printShadow, shadowBench } from './shadow.js';
import { printStep, stepBench } from './step.js';
import { printWarm, warmBench } from './warm.js';

// `npm run bench -- --step 100000`: only the control step, for so many targets; with `--idle 0.99` that part of them asked
// once, long ago. `--warm 10000`: only how long forecasters take to go on after a restart;
// `--shadow 10000`: only what a shadow costs.
let values;
try {
  ({ values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      step: { type: 'string' },
      idle: { type: 'string' },
      shadow: { type: 'string' },
      warm: { type: 'string' },
    },
  }));
  for (const option of ['step', 'shadow', 'warm']) {
    const targets = Number(values[option] ?? 1);
    if (!(Number.isInteger(targets) && targets >= 1 && targets <= 1_000_000))
      throw new Error(`--${option}: expected a whole number from 1 to 1000000, got ${JSON.stringify(values[option])}`);
  }
  const idle = Number(values.idle ?? 0);
  if (!(idle >= 0 && idle < 1))
    throw new Error(`--idle: expected a part from 0 to below 1, got ${JSON.stringify(values.idle)}`);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exit(2);
}
if (values.step !== undefined) {
  const step = await stepBench(Number(values.step), Number(values.idle ?? 0));
  if (values.json) console.log(JSON.stringify({ step }));
  else printStep(step);
  process.exit(0);
}
if (values.shadow !== undefined) {
  const shadow = await shadowBench(Number(values.shadow));
  if (values.json) console.log(JSON.stringify({ shadow }));
  else printShadow(shadow);
  process.exit(0);
}
if (values.warm !== undefined) {
  const warm = await warmBench(Number(values.warm));
  if (values.json) console.log(JSON.stringify({ warm }));
  else printWarm(warm);
  process.exit(0);
}
const acquire = await acquireBench();
const step = await stepBench();
if (values.json) console.log(JSON.stringify({ acquire, step }));
else {
  print(acquire);
  printStep(step);
}
