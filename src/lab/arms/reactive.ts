import type { Scene } from '../scene.js';
import type { Arm } from './arm.js';
import { DemandFed } from './demand-fed.js';

/** Spans of the moving averages, steps; 1 is the last step alone. */
const spans = [1, 2, 5, 10, 30] as const;
const usualHeadRooms = [1, 2, 4] as const;

/** The allocator fed with an exponential moving average of past rates, times a head-room. */
function reactiveArm(scene: Scene, span: number, headRoom: number): Arm {
  const fed = new DemandFed(scene);
  const average = new Float64Array(scene.buckets);
  const expected = new Float64Array(scene.buckets);
  const stepS = scene.settings.stepMs / 1000;
  const gain = 2 / (span + 1);
  let isFirst = true;
  return {
    name: 'reactive',
    variant: `${span === 1 ? 'last' : `ewma${span}`} x${headRoom}`,
    plan({ stage, demand }) {
      for (let i = 0; i < average.length; i++) {
        const rate = demand[i]! / stepS;
        // An average that began at zero would need a span to catch up with the first step.
        average[i]! += (isFirst ? 1 : gain) * (rate - average[i]!);
        expected[i] = average[i]! * headRoom;
      }
      isFirst = false;
      fed.allocate(stage, expected);
    },
    replan: (stage, extraPerSec) => fed.allocateMore(stage, extraPerSec),
  };
}

/** Every way to follow the past that a replay tries; the best in hindsight is reported. */
export const reactiveArms = (scene: Scene, headRooms: readonly number[] = usualHeadRooms): (() => Arm)[] =>
  spans.flatMap((span) => headRooms.map((headRoom) => () => reactiveArm(scene, span, headRoom)));
