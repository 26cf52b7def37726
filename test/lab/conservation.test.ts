import { describe, expect, it } from 'vitest';
import type { Arm } from '../../src/lab/arms/arm.js';
import { foretokenArm } from '../../src/lab/arms/foretoken.js';
import { reactiveArms } from '../../src/lab/arms/reactive.js';
import { sharedArm } from '../../src/lab/arms/shared.js';
import { runArm } from '../../src/lab/run.js';
import { type Scene, sceneOf } from '../../src/lab/scene.js';
import type { ArmScore } from '../../src/lab/score.js';
import { bursty } from './bursty.js';

const contestants: Record<string, (scene: Scene) => Arm | Promise<Arm>> = {
  shared: sharedArm,
  reactive: (scene) => reactiveArms(scene)[5]!(),
  foretoken: (scene) => foretokenArm(scene),
};

const trace = bursty(120);

interface Played {
  score: ArmScore;
  ratePerSec: number;
  /** Most that was idle in any time while the greedy were denied, tokens. */
  idleTokens: number;
}

/** Two greedy targets ask every 10 ms and are denied each time, so whatever is not admitted is idle while somebody is denied. */
async function play(name: string, timesMean: number, burstMs = 1000): Promise<Played> {
  const scene = sceneOf(trace, { borrow: true, hogs: 2, rate: { timesMean }, burstMs, refine: false });
  const { ratePerSec } = scene.settings;
  const arm = await contestants[name]!(scene);
  let admitted = 0;
  let least = 0;
  let idleTokens = 0;
  try {
    const score = await runArm(scene, arm, {
      sink: {
        decide(_arm, timeMs, _target, cost, isAdmitted) {
          // What the resource could have served so far and did not, above the least it was: tokens that lie there.
          const idle = (ratePerSec * (timeMs - scene.scoredFromMs)) / 1000 - admitted;
          least = Math.min(least, idle);
          idleTokens = Math.max(idleTokens, idle - least);
          if (isAdmitted) admitted += cost;
        },
        drain: async () => {},
      },
    });
    return { score, ratePerSec, idleTokens };
  } finally {
    await arm.close?.();
  }
}

describe.each(Object.keys(contestants))('beside greedy targets, %s', (name) => {
  it.each([2, 4])('leaves nothing idle while somebody is denied, at %d times the mean demand', async (times) => {
    const { score, ratePerSec, idleTokens } = await play(name, times);
    expect(score.lawViolations).toBe(0);
    expect(score.utilization).toBeGreaterThan(0.99);
    expect(score.minMaxRatio).toBeGreaterThan(0.95);
    // What is kept for bursts is not idle: it is at most a burst, one second's worth; a tick's worth may lie beside it.
    expect(idleTokens).toBeLessThan(1.1 * ratePerSec + 2);
  });

  it('leaves next to nothing idle where the burst is hardly more than the least buckets', async () => {
    const { score } = await play(name, 4, 150);
    expect(score.lawViolations).toBe(0);
    // A reservoir that is smaller than what flows in a tick is full at times, and so are the buckets of those who are idle.
    expect(score.utilization).toBeGreaterThan(0.95);
  });
});
