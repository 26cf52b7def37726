import { parseArgs } from 'node:util';
import { ForetokenError } from '../errors.js';
import { listRegions, type RegionInfo, removeRegion } from '../table/regions.js';

const usage = `foretoken regions: tables that processes of this user share by name.

  foretoken regions              lists them
  foretoken regions rm NAME…     removes them

  --json     the list as JSON
  --stale    (rm) those nobody uses any more, instead of names
  --force    (rm) also those that are in use: processes that have them open go on with what they have, and the next
             to open the name gets a new table
`;

function line(region: RegionInfo): string {
  const { name, state, problem, processes, controller, targets, capacity, ratePerSec, burst } = region;
  const what = problem ?? (state === 'unfinished' ? 'its creator died' : `${targets} of ${capacity} targets`);
  const rates = ratePerSec > 0 ? `, ${ratePerSec} tokens/s, burst ${burst}` : '';
  const who = processes.map((pid) => (pid === controller ? `${pid} (controller)` : `${pid}`)).join(' ');
  return `${name.padEnd(24)} ${state.padEnd(11)} ${what}${rates}${who ? `, processes ${who}` : ''}`;
}

function list(json: boolean): number {
  const regions = listRegions();
  if (json) console.log(JSON.stringify(regions, undefined, 2));
  else if (regions.length === 0) console.log('no regions');
  else for (const region of regions) console.log(line(region));
  return 0;
}

function remove(names: readonly string[], force: boolean): number {
  let failed = 0;
  for (const name of names)
    try {
      removeRegion(name, { force });
      console.log(`removed ${name}`);
    } catch (error) {
      if (!(error instanceof ForetokenError)) throw error;
      console.error(`foretoken regions: ${error.message}`);
      failed = 1;
    }
  return failed;
}

/** @returns the exit code: 0, 1 when something could not be removed, 2 for wrong options */
export async function regionsCommand(argv: string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (error) {
    console.error(`foretoken regions: ${(error as Error).message}`);
    return 2;
  }
  const { values, positionals } = parsed;
  const [action = 'list', ...names] = positionals;
  if (values.help) console.log(usage);
  if (values.help) return 0;
  if (action === 'list' && names.length === 0) return list(values.json);
  if (action !== 'rm' || (names.length === 0) !== values.stale) {
    console.error('foretoken regions: expected nothing, `list`, `rm NAME…` or `rm --stale`');
    return 2;
  }
  const unused = () => listRegions().filter(({ state }) => state === 'stale' || state === 'unfinished');
  return remove(values.stale ? unused().map(({ name }) => name) : names, values.force);
}

const parse = (argv: string[]) =>
  parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      stale: { type: 'boolean', default: false },
      force: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
