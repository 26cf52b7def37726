import type { Arm } from './arms/arm.js';
import { Hogs } from './hogs.js';
import { type Scene, tickMs } from './scene.js';
import { type ArmScore, type DecisionSink, Score } from './score.js';
import { Stage } from './stage.js';

export interface RunHooks {
  sink?: DecisionSink;
  /** Told now and then how many more requests are done. */
  progress?: (requests: number) => void;
}

/**
 * Plays the whole trace to one arm. At one moment the order is: the tick that ends; then the step that ends, and
 * the arm allocates; then real requests in the order of the trace; then hogs.
 */
export async function runArm(scene: Scene, arm: Arm, hooks: RunHooks = {}): Promise<ArmScore> {
  const { trace, settings, bucketOf, names, scoredFromMs } = scene;
  const { sink } = hooks;
  using stage = new Stage(scene, arm.adjusts ?? true);
  arm.enter?.(stage);
  const score = new Score(scene);
  const hogs = new Hogs(scene);

  const request = (timeMs: number, target: number, cost: number): boolean => {
    const isAdmitted = stage.acquire(bucketOf[target]!, cost);
    score.record(timeMs, target, cost, isAdmitted);
    if (sink && timeMs >= scoredFromMs) sink.decide(arm.name, timeMs, names[target]!, cost, isAdmitted);
    return isAdmitted;
  };

  let next = 0;
  let step = 1;
  let accountAtMs = scoredFromMs;
  let boundaryMs = settings.stepMs;
  const ticks = settings.borrow || settings.adjust || arm.tick !== undefined;
  let tick = 1;
  let tickAtMs = ticks ? tickMs : Number.POSITIVE_INFINITY;
  for (;;) {
    const requestMs = next < trace.requests ? trace.timesMs[next]! : Number.POSITIVE_INFINITY;
    const nowMs = Math.min(requestMs, boundaryMs, accountAtMs, tickAtMs, hogs.nextMs);
    if (nowMs > trace.durationMs || nowMs === Number.POSITIVE_INFINITY) break;
    stage.advanceTo(nowMs);
    if (nowMs === accountAtMs) {
      stage.account();
      accountAtMs = Number.POSITIVE_INFINITY;
    }
    const isBoundary = nowMs === boundaryMs;
    if (isBoundary || nowMs === tickAtMs) stage.account();
    // The product's controller ticks before every step too.
    if (ticks && (isBoundary || nowMs === tickAtMs)) {
      if (arm.tick) arm.tick(nowMs);
      else {
        const extraPerSec = stage.tick();
        if (extraPerSec && !isBoundary) arm.replan?.(stage, extraPerSec);
      }
    }
    if (nowMs === tickAtMs) {
      tick += 1;
      tickAtMs = tick * tickMs;
    }
    if (isBoundary) {
      const planning = arm.plan?.({ stage, timeMs: nowMs, demand: stage.demand, nextRequest: next });
      if (planning) await planning;
      stage.endStep();
      if (sink) await sink.drain();
      step += 1;
      boundaryMs = step * settings.stepMs;
    }
    const from = next;
    for (; next < trace.requests && trace.timesMs[next] === nowMs; next++)
      request(nowMs, trace.target[next]!, trace.cost[next]!);
    hooks.progress?.(next - from);
    if (hogs.nextMs === nowMs) hogs.ask(request);
  }
  stage.advanceTo(trace.durationMs);
  stage.account();
  return score.result(stage.ledger.withheldTokens, arm.variant);
}
