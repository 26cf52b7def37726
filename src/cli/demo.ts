import { join, resolve } from 'node:path';
import { type DemoResult, runDemo } from '../lab/demo.js';
import { WholeFile, writableFolder } from '../lab/whole-file.js';
import { renderReport } from '../report/report.js';
import { command, seed, text, type Values, whole } from './command.js';

const help = `foretoken demo: one table, several threads, a bursty multi-tenant workload; the controller learns,
forecasts and allocates while they run.

  --seconds N   how long to offer load, 10 to 50 (default 40)
  --targets N   tenants, 2 to 200 (default 12)
  --threads N   threads that offer load, 1 to 8 (default 2)
  --seed N      of the workload (default 1)
  --out DIR     where history and report go (default foretoken-demo)`;

const flags = {
  seconds: whole(10, 50),
  targets: whole(2, 200),
  threads: whole(1, 8),
  seed,
  out: text,
} as const;

/** `foretoken demo`; exit code 1 also when the law was broken. */
export const demoCommand = command({ name: 'demo', help, flags, takesOperands: false, run });

async function run(values: Values<typeof flags>): Promise<number> {
  const { seconds = 40, targets = 12, threads = 2, seed = 1, out = 'foretoken-demo' } = values;
  const options = { seconds, targets, threads, seed, out: resolve(out) };
  writableFolder('out', options.out);
  const reportFile = join(options.out, 'report.html');
  const page = await WholeFile.at('out', reportFile);
  process.stdout.write(
    `${options.targets} tenants, ${options.threads} threads, ${options.seconds} s. Everything is real: one shared table, a\n` +
      `controller in its own thread, forecasts by the LSTM and its rivals, history in DuckDB.\n\n` +
      `   time   demand  admitted  denied   forecast q50..q90   util  deposits  corrections\n`,
  );
  const result = await runDemo(options, {
    onStep: (report, atS) => {
      const denied = report.demandTokens - report.admittedTokens;
      process.stdout.write(
        `${atS.toFixed(0).padStart(5)} s ${cell(report.demandTokens, 8)} ${cell(report.admittedTokens, 9)} ${cell(denied, 7)}` +
          `   ${cell(report.forecastQ50PerSec, 8)}..${cell(report.forecastQ90PerSec, 8).trim().padEnd(8)}` +
          ` ${cell(report.utilization * 100, 4)} % ${cell(report.depositedTokens, 8)} ${cell(report.corrections, 12)}\n`,
      );
    },
    onEvent: (event) => process.stdout.write(`         ${event.kind}: ${event.message}\n`),
  });
  await page.write(renderReport(result.report));
  print(result, reportFile);
  return result.report.law.violations === 0 ? 0 : 1;
}

const cell = (value: number, width: number): string => Math.round(value).toLocaleString('en-US').padStart(width);

function print({ report, scoredFromS }: DemoResult, path: string): void {
  const part = (fraction: number, width: number) => `${(fraction * 100).toFixed(2)} %`.padStart(width);
  process.stdout.write(
    `\nThe same requests from ${scoredFromS.toFixed(0)} s on (static and reactive replayed, reactive the best of 15 in hindsight):\n\n` +
      '  arm                    offered  admitted  throttled  worst target  utilization\n',
  );
  for (const arm of report.arms) {
    const name = arm.variant ? `${arm.name} (${arm.variant})` : arm.name;
    process.stdout.write(
      `  ${name.padEnd(20)} ${cell(arm.offered, 9)} ${cell(arm.admitted, 9)} ${part(arm.throttledFraction, 10)} ` +
        `${part(arm.worstTargetThrottledFraction, 13)} ${part(arm.utilization, 12)}\n`,
    );
  }
  const { law, shadows } = report;
  if (shadows && shadows.askedTokens > 0) {
    const denied = (tokens: number) => part(tokens / shadows.askedTokens, 0);
    const each = shadows.shadows.map(
      ({ engine, allocator, deniedTokens }) => `  ${`${engine}, ${allocator}`.padEnd(20)} ${denied(deniedTokens)}\n`,
    );
    process.stdout.write(
      `\nOf all that was asked for, live ${denied(shadows.deniedTokens)} was denied; as shadows saw it, under\n\n${each.join('')}`,
    );
  }
  process.stdout.write(
    `\nResource law: ${law.violations === 0 ? 'held' : `BROKEN ${law.violations} times`} over ${(law.admissions ?? 0).toLocaleString('en-US')} admissions.\n` +
      `History: ${report.history}\nReport:  ${path}\n`,
  );
}
