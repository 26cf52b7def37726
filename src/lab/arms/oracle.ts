import type { Scene } from '../scene.js';
import type { Arm } from './arm.js';
import { DemandFed } from './demand-fed.js';

/**
 * The allocator fed with what will be asked for in the step that begins. What hogs ask for depends on what
 * they get, so nobody can know it beforehand: for them it is what they asked for in the step that ended.
 * @param headRoom what that is multiplied by
 */
export function oracleArm(scene: Scene, headRoom = 1): Arm {
  const { trace, settings, bucketOf, targets, names } = scene;
  const fed = new DemandFed(scene);
  const coming = new Float64Array(scene.buckets);
  const stepS = settings.stepMs / 1000;
  const hogBuckets = new Set(bucketOf.subarray(targets, names.length));
  return {
    name: 'oracle',
    ...(scene.keepsSurplus && { variant: `x${headRoom}` }),
    plan({ stage, timeMs, demand, nextRequest }) {
      coming.fill(0);
      for (const bucket of hogBuckets) coming[bucket] = demand[bucket]! / stepS;
      for (let i = nextRequest; i < trace.requests && trace.timesMs[i]! < timeMs + settings.stepMs; i++) {
        const bucket = bucketOf[trace.target[i]!]!;
        if (!hogBuckets.has(bucket)) coming[bucket]! += trace.cost[i]! / stepS;
      }
      fed.allocate(
        stage,
        coming.map((perSec) => perSec * headRoom),
      );
    },
    replan: (stage, extraPerSec) => fed.allocateMore(stage, extraPerSec),
  };
}
