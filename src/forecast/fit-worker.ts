import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { Pace } from '../learn/pace.js';
import { type FitRequest, type Fitter, loadFitter } from './augurs.js';
import type { Fit } from './fitted-path.js';
import type { FittedKind } from './names.js';

/** Forecasters to be fitted to series. */
export interface FitRound extends Omit<FitRequest, 'demand'> {
  kinds: readonly FittedKind[];
  /** Demand of each series, tokens a bin. */
  series: readonly Float64Array[];
  /** Part of one core this thread may use; undefined: as much as it takes. */
  cpuPart: number | undefined;
}

export interface FitResult {
  /** Per kind asked for and series; undefined where there is none. */
  fits: (Fit | undefined)[][];
  /** Why a kind could not be fitted to any series, per kind. */
  failures: (ErrorRecord | undefined)[];
  /** Processor time of each kind, loading included, ms. */
  cpuMs: number[];
}

// The modules print what they throw as well; nobody asked for it on the terminal of whoever uses this package.
console.error = () => {};
process.stdout.write = process.stderr.write = () => true;

const fitters = new Map<FittedKind, Fitter>();

async function fitterOf(kind: FittedKind): Promise<Fitter> {
  const fitter = fitters.get(kind) ?? (await loadFitter(kind));
  fitters.set(kind, fitter);
  return fitter;
}

/** One round. A failure of one kind, or for one series, leaves the others. */
export default async function fitAll({ kinds, series, cpuPart, ...request }: FitRound): Promise<FitResult> {
  const result: FitResult = { fits: [], failures: [], cpuMs: [] };
  const pace = new Pace(cpuPart ?? 1);
  for (const kind of kinds) {
    const beganMs = pace.usedMs;
    const fits: (Fit | undefined)[] = [];
    let failure: ErrorRecord | undefined;
    try {
      const fitOne = await fitterOf(kind);
      for (const demand of series) {
        try {
          fits.push(fitOne({ demand, ...request }));
        } catch (error) {
          failure = toErrorRecord(error, 'WORKER_FAILED');
          fits.push(undefined);
        }
        await pace.rest();
      }
    } catch (error) {
      failure = toErrorRecord(error, 'WORKER_FAILED');
    }
    result.fits.push(fits);
    result.failures.push(fits.some((fit) => fit) ? undefined : failure);
    result.cpuMs.push(pace.usedMs - beganMs);
  }
  return result;
}
