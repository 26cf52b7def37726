import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { type RefineRequest, type RefineResult, refine } from './refine.js';
import { RunGuard } from './run-guard.js';
import { guardRuns } from './session.js';

export interface RefineTask extends RefineRequest {
  guard: SharedArrayBuffer;
}

/** One refinement. An error comes back as a value, because structured clone would drop its code. */
export default async function run({ guard, ...request }: RefineTask): Promise<RefineResult | { failure: ErrorRecord }> {
  try {
    guardRuns(new RunGuard(guard));
    return await refine(request);
  } catch (error) {
    return { failure: toErrorRecord(error, 'WORKER_FAILED') };
  }
}
