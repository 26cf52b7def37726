import type { Arm } from './arms/arm.js';
import { Hogs } from './hogs.js';
import type { Scene } from './scene.js';
import { type ArmScore, type DecisionSink, Score } from './score.js';
import { Stage } from './stage.js';

/** Ticks of the fast loop, ms. */
const tickMs = 100;

export interface RunHooks {
  sink?: DecisionSink;
  /** Told now and then how many more requests are done. */
  progress?: (requests: number) => void;
}

/**
 * Plays the whole trace to one arm. At one moment the order is: the step that ends is accounted and the
 * arm allocates; then the tick; then real requests in the order of the trace; then hogs.
 */
export async function runArm(scene: Scene, arm: Arm, hooks: RunHooks = {}): Promise<ArmScore> {
  const { trace, settings, bucketOf, names, scoredFromMs } = scene;
  const { sink } = hooks;
  using stage = new Stage(scene);
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
  const adjusts = settings.borrow || settings.adjust;
  const ticks = adjusts || arm.tick !== undefined;
  const seen = new Float64Array(scene.buckets);
  const asked = new Float64Array(scene.buckets);
  const watch = (): void => {
    if (!arm.tick) return;
    for (let i = 0; i < asked.length; i++) {
      asked[i] = stage.demand[i]! - seen[i]!;
      seen[i] = stage.demand[i]!;
    }
    arm.tick(asked, tickMs / 1000);
  };
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
    if (isBoundary) {
      stage.account();
      // A tick that ends with the step belongs to the step that ends.
      if (nowMs === tickAtMs) watch();
      const planning = arm.plan?.({ stage, timeMs: nowMs, demand: stage.demand, nextRequest: next });
      if (planning) await planning;
      stage.endStep();
      seen.fill(0);
      if (sink) await sink.drain();
      step += 1;
      boundaryMs = step * settings.stepMs;
    }
    if (nowMs === tickAtMs) {
      if (!isBoundary) {
        stage.account();
        watch();
      }
      if (adjusts) stage.tick(tickMs);
      tick += 1;
      tickAtMs = tick * tickMs;
    }
    const from = next;
    for (; next < trace.requests && trace.timesMs[next] === nowMs; next++)
      request(nowMs, trace.target[next]!, trace.cost[next]!);
    hooks.progress?.(next - from);
    if (hogs.nextMs === nowMs) hogs.ask(request);
  }
  stage.advanceTo(trace.durationMs);
  stage.account();
  return score.result(stage.withheldTokens(), arm.variant);
}
