import type { Scene } from '../scene.js';
import type { Arm } from './arm.js';
import { DemandFed } from './demand-fed.js';

/** Equal rates and bursts for ever: what every stage begins with. */
export function staticArm(): Arm;
/** Equal rates for ever, of so many times the mean demand together, where what nobody wants is kept. */
export function staticArm(scene: Scene, factor: number): Arm;
export function staticArm(scene?: Scene, factor = 1): Arm {
  if (!scene) return { name: 'static' };
  const fed = new DemandFed(scene);
  const equal = new Float64Array(scene.buckets).fill((factor * scene.demand.meanRate) / scene.buckets);
  return {
    name: 'static',
    variant: `x${factor}`,
    plan: ({ stage }) => fed.allocate(stage, equal),
    replan: (stage, extraPerSec) => fed.allocateMore(stage, extraPerSec),
  };
}
