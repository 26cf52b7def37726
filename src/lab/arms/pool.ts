import type { Arm } from './arm.js';

/** One bucket for all, first come; plays in a `pooled` scene, whose one bucket has everything. */
export const poolArm = (): Arm => ({ name: 'pool' });
