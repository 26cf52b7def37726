import type { Scene } from '../scene.js';
import type { Arm } from './arm.js';

/** No allocation beyond the floors: everything else lies in the reservoir and is borrowed, by weight. */
export function sharedArm(scene: Scene): Arm {
  const rates = new Float64Array(scene.buckets).fill(scene.floorRate);
  const bursts = new Float64Array(scene.buckets).fill(scene.floorBurst);
  let isSet = false;
  return {
    name: 'shared',
    adjusts: false,
    plan({ stage }) {
      if (isSet) return;
      isSet = true;
      stage.allocate(rates, bursts);
    },
  };
}
