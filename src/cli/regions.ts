import { ForetokenError } from '../errors.js';
import { listRegions, type RegionInfo, removeRegion } from '../table/regions.js';
import { command, type Values } from './command.js';

const help = `foretoken regions: tables that processes of this user share by name.

  foretoken regions              lists them
  foretoken regions rm NAME…     removes them

  --json     (list) as JSON
  --stale    (rm) those nobody uses any more, instead of names
  --force    (rm) also those that are in use: processes that have them open go on with what they have, and the next
             to open the name gets a new table`;

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

const flags = { json: 'switch', stale: 'switch', force: 'switch' } as const;

/** `foretoken regions`; exit code 1 also when something could not be removed. */
export const regionsCommand = command({ name: 'regions', help, flags, takesOperands: true, run });

function run({ json, stale, force }: Values<typeof flags>, [action = 'list', ...names]: string[]): number {
  if (action === 'list' && names.length === 0 && !stale && !force) return list(json);
  if (action !== 'rm' || (names.length === 0) !== stale || json)
    throw new ForetokenError(
      'INVALID_OPTION',
      'expected nothing, `list`, both also with --json, `rm NAME…` or `rm --stale`, both also with --force; see --help',
    );
  const unused = () => listRegions().filter(({ state }) => state === 'stale' || state === 'unfinished');
  return remove(stale ? unused().map(({ name }) => name) : names, force);
}
