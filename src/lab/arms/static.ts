import type { Arm } from './arm.js';

/** Equal rates and bursts for ever: what every stage begins with. */
export const staticArm = (): Arm => ({ name: 'static' });
