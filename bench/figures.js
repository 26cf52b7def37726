// What a forecast is worth on recorded traffic: `npm run figures -- FOLDER [holders|partitioned|noisy|pareto]...`, where
// FOLDER holds traces as `foretoken replay` reads them. One line per trace; each says the command it sums up.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const bin = fileURLToPath(new URL('../bin/foretoken.js', import.meta.url));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const part = (value) => value.toFixed(3).padStart(7);

async function replay(trace, options) {
  const { stdout } = await promisify(execFile)(process.execPath, [bin, 'replay', trace, ...options, '--json'], {
    maxBuffer: 1 << 26,
  });
  return JSON.parse(stdout);
}

const violations = (runs) =>
  runs.flatMap((arms) => Object.values(arms)).reduce((sum, { lawViolations }) => sum + lawViolations, 0);

const figures = {
  /** Throttled against the better of static and reactive, mean of five ways to spread targets over holders. */
  async holders(trace) {
    const options = ['--holders', '8', '--step', '5s', '--rate', '4x', '--arms', 'static,reactive,foretoken'];
    const runs = [];
    for (let seed = 1; seed <= 5; seed++) runs.push((await replay(trace, [...options, '--seed', `${seed}`])).arms);
    const ratios = runs.map(
      ({ static: fixed, reactive, foretoken }) => foretoken.throttled / Math.min(fixed.throttled, reactive.throttled),
    );
    return { figure: `throttled ${part(mean(ratios))} of the better of static and reactive`, runs, options };
  },

  /** Part of what foresight saves over the best reactive arm, gains and denominators added up over two rates. */
  async partitioned(trace) {
    const options = ['--borrow', 'off', '--step', '5s', '--arms', 'static,reactive,foretoken,oracle'];
    const runs = [];
    for (const rate of ['2x', '4x']) runs.push((await replay(trace, [...options, '--rate', rate])).arms);
    let gained = 0;
    let possible = 0;
    for (const { reactive, foretoken, oracle } of runs) {
      gained += reactive.throttled - foretoken.throttled;
      possible += reactive.throttled - oracle.throttled;
    }
    return { figure: `capture   ${part(gained / possible)} over rates 2x and 4x`, runs, options };
  },

  /** Throttled against the better of reactive and shared beside two greedy targets, and what these get. */
  async noisy(trace) {
    const options = ['--borrow', 'on', '--hogs', '2', '--step', '1s', '--arms', 'reactive,foretoken,shared'];
    const runs = [];
    const lines = [];
    for (const rate of ['2x', '4x']) {
      const { arms } = await replay(trace, [...options, '--rate', rate]);
      const { reactive, foretoken, shared } = arms;
      const better = Math.min(reactive.throttledFraction, shared.throttledFraction);
      const throttled =
        better >= 0.005
          ? `throttled ${part(foretoken.throttledFraction / better)} of the better of reactive and shared`
          : `throttled ${part(foretoken.throttledFraction)}, less than 0.005 under the better of reactive and shared`;
      lines.push(`${rate}: ${throttled}, hogs ${part(foretoken.hogAdmitted / reactive.hogAdmitted)} of reactive's`);
      runs.push(arms);
    }
    return { figure: lines.join('; '), runs, options };
  },

  /** Throttled at the same capacity withheld, half the mean demand and all of it, over a sweep of each arm's head-room. */
  async pareto(trace) {
    const options = ['--step', '5s', '--pareto', '--arms', 'reactive,foretoken,oracle'];
    const { arms, pareto } = await replay(trace, options);
    const figure = ['0.5', '1'].map((withheld) => {
      const at = ['reactive', 'foretoken', 'oracle'].map((arm) => {
        const fraction = pareto[arm].throttledAtWithheld[withheld];
        return `${arm} ${fraction === null ? '      –' : part(fraction)}`;
      });
      return `throttled at ${withheld} withheld: ${at.join(', ')}`;
    });
    return { figure: figure.join('; '), runs: [arms, pareto], options };
  },
};

const [folder, ...wanted] = process.argv.slice(2);
const names = wanted.length > 0 ? wanted : Object.keys(figures);
if (!folder || names.some((name) => !Object.hasOwn(figures, name))) {
  console.error(`usage: npm run figures -- FOLDER [${Object.keys(figures).join('|')}]...`);
  process.exit(2);
}
const traces = existsSync(folder) ? readdirSync(folder).filter((file) => /\.csv(\.gz)?$/.test(file)) : [];
if (traces.length === 0) {
  console.error(`no traces in ${folder}: name a folder that holds some, as CSV, plain or gzip`);
  process.exit(1);
}
for (const name of names) {
  for (const [i, file] of traces.entries()) {
    const { figure, runs, options } = await figures[name](join(folder, file));
    if (i === 0) console.log(`\n${name}: foretoken replay TRACE ${options.join(' ')}`);
    const broken = violations(runs);
    console.log(`${basename(file).padEnd(22)} ${figure}; law broken ${broken} times`);
    if (broken > 0) process.exitCode = 1;
  }
}
