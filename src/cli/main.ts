import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../paths.js';

/** What each command does; its code is loaded only when it is asked for. */
const commands = {
  demo: 'a generated workload in real time, and how much Foretoken saves on it',
  replay: 'play a recorded trace to Foretoken and to its rivals',
  evaluate: 'score the forecasts on a recorded trace',
  train: 'train the forecasting model',
  explain: 'why a target had the tokens it had, from the history',
  regions: 'list and remove tables that processes share by name',
} as const;

const help = `foretoken COMMAND [options]

${Object.entries(commands)
  .map(([name, purpose]) => `  ${name.padEnd(10)}${purpose}`)
  .join('\n')}

  foretoken COMMAND --help says more; --version tells the version.`;

type Command = (argv: string[]) => Promise<number>;

/** The `foretoken` command. @returns exit code */
export async function main(argv: string[]): Promise<number> {
  // A reader that has seen enough (`| head`) is no failure; a result that is lost, on a full disk, is one. Either way
  // the command goes on to its own end: leaving in the middle of a forecast would abort the process.
  let lost = false;
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE' || lost) return;
      lost = true;
      // It may come after the code has been returned.
      process.exitCode = 1;
      if (stream === process.stdout) console.error(`foretoken: standard output cannot be written: ${error.message}`);
    });
  const code = await run(argv);
  return lost ? 1 : code;
}

async function run([name, ...rest]: string[]): Promise<number> {
  if (name === '--help' || name === '-h' || name === 'help') {
    console.log(help);
    return 0;
  }
  if (name === '--version' || name === '-v') {
    const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
    console.log(version);
    return 0;
  }
  if (name === undefined || !Object.hasOwn(commands, name)) {
    const expected = `${Object.keys(commands).join(', ')}, --help or --version`;
    console.error(`foretoken: expected ${expected}, got ${name === undefined ? 'nothing' : name}`);
    return 2;
  }
  if (!existsSync(new URL(`./${name}.js`, import.meta.url))) {
    console.error(`foretoken: this build has no ${name} command; build it anew with \`npm run build\``);
    return 1;
  }
  const module = (await import(`./${name}.js`)) as Record<string, Command>;
  return await module[`${name}Command`]!(rest);
}
