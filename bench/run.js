// `npm run bench`: what a request costs beside its peers, and what a control step costs. All arms of a table
// run interleaved in one process, so compare within one run. `--json` prints the figures as JSON.
import { acquireBench, print } from './acquire.js';
import { printStep, stepBench } from './step.js';

//
// `npm run bench -- --step 100000`: only the control step, for so many targets.
const json = process.argv.includes('--json');
const only = process.argv.indexOf('--step');
if (only > 0) {
  const step = await stepBench(Number(process.argv[only + 1] ?? 10_000));
  if (json) console.log(JSON.stringify({ step }));
  else printStep(step);
  process.exit(0);
}
const acquire = await acquireBench();
const step = await stepBench();
if (json) console.log(JSON.stringify({ acquire, step }));
else {
  print(acquire);
  printStep(step);
}
