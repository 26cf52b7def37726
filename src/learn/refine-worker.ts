import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { Pace } from './pace.js';
import { type RefineRequest, type RefineResult, refine } from './refine.js';
import { RunGuard } from './run-guard.js';
import { guardRuns, paceRuns } from './session.js';

export interface RefineTask extends RefineRequest {
  guard: SharedArrayBuffer;
  /** Part of one core this thread may use; undefined: as much as it takes. */
  cpuPart: number | undefined;
}

/** One refinement. An error comes back as a value, because structured clone would drop its code. */
export default async function run({
  guard,
  cpuPart,
  ...request
}: RefineTask): Promise<RefineResult | { failure: ErrorRecord }> {
  try {
    guardRuns(new RunGuard(guard));
    paceRuns(cpuPart === undefined ? undefined : new Pace(cpuPart));
    return await refine(request);
  } catch (error) {
    return { failure: toErrorRecord(error, 'WORKER_FAILED') };
  }
}
