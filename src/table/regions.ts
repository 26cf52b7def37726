import { type ErrorCode, ForetokenError } from '../errors.js';
import { addon, type NativeConstants, type NativeRefusal } from './native.js';

/** A region of shared memory that was opened by name. */
export interface RegionInfo {
  name: string;
  /** Its size; pages that were never used take no memory. */
  bytes: number;
  /**
   * `live`: at least one process uses it. `stale`: everyone who used it is gone, and the next to open it goes on with
   * it or, where the options differ, makes it anew. `unfinished`: whoever was making it died before it was ready.
   * `unreadable`: see `problem`.
   */
  state: 'live' | 'stale' | 'unfinished' | 'unreadable';
  /** What keeps this process from reading it. */
  problem?: string;
  processes: number[];
  /** Process that holds the controller role, 0 if none does. */
  controller: number;
  targets: number;
  capacity: number;
  ratePerSec: number;
  burst: number;
}

export const isRegionName = (name: unknown): name is string =>
  typeof name === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(name);

type Refusal = keyof NativeConstants['refusal'];

const refusals: Record<Exclude<Refusal, 'none'>, readonly [ErrorCode, string]> = {
  system: ['REGION_UNAVAILABLE', 'the system refuses it'],
  notOne: ['REGION_MAGIC', 'the file of that name is no region of this library'],
  abi: ['REGION_ABI', 'it is used by another version of the library, which lays it out differently'],
  size: ['REGION_SIZE', 'its size is not what its header says'],
  clock: ['REGION_CLOCK', "its clock does not run as this process's does"],
  owner: ['REGION_OWNER', 'it belongs to another user, or others may read or write it'],
  notReady: ['REGION_NOT_READY', 'whoever is making it has not finished in time'],
  options: ['REGION_OPTIONS', 'it is in use with another ratePerSec, burst or capacity'],
  crowded: ['REGION_CROWDED', 'as many processes as there is room for have it open'],
  pidSpace: ['REGION_PROCESSES', 'it is used from another PID namespace, where this process cannot be told alive'],
  inUse: ['REGION_IN_USE', 'a process has it open'],
  missing: ['REGION_MISSING', 'there is none of that name'],
};

const reasonOf = (refusal: number): Exclude<Refusal, 'none'> | undefined => {
  const found = Object.entries(addon().constants.refusal).find(([, code]) => code === refusal)?.[0] as Refusal;
  return found === 'none' ? undefined : found;
};

export function refusalError({ refusal, reason }: NativeRefusal, name: string): ForetokenError {
  const [code, message] = refusals[reasonOf(refusal) ?? 'system'];
  return new ForetokenError(
    code,
    `region ${typeof name === 'string' ? name : typeof name}: ${message}${reason ? ` (${reason})` : ''}`,
  );
}

/** The regions of this user. */
export function listRegions(): RegionInfo[] {
  return addon()
    .listRegions()
    .map(({ refusal, inUse, ...region }) => {
      const problem = reasonOf(refusal);
      if (problem === undefined) return { ...region, state: inUse ? ('live' as const) : ('stale' as const) };
      return problem === 'notReady'
        ? { ...region, state: 'unfinished' as const }
        : { ...region, state: 'unreadable' as const, problem: refusals[problem][1] };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * Removes a region. Processes that have it open go on with what they have; so that is refused unless forced.
 * @throws REGION_MISSING, REGION_IN_USE, REGION_OWNER, REGION_UNAVAILABLE
 */
export function removeRegion(name: string, options: { force?: boolean } = {}): void {
  const answer = addon().removeRegion(name, options.force === true);
  if (answer.refusal !== addon().constants.refusal.none) throw refusalError(answer, name);
}
