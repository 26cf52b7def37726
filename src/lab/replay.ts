import type { StepReport } from '../control/loop.js';
import type { EngineEvent } from '../forecast/engine.js';
import type { Trace } from '../workload/trace.js';
import type { Arm } from './arms/arm.js';
import { foretokenArm } from './arms/foretoken.js';
import { oracleArm } from './arms/oracle.js';
import { poolArm } from './arms/pool.js';
import { reactiveArms } from './arms/reactive.js';
import { sharedArm } from './arms/shared.js';
import { staticArm } from './arms/static.js';
import { runArm } from './run.js';
import { pooled, type Scene, sceneOf } from './scene.js';
import type { ArmScore, DecisionSink } from './score.js';
import type { ArmName, ReplayOptions, ReplaySettings } from './settings.js';
import { type Pareto, sweep } from './sweep.js';

export interface ReplayResult {
  trace: { file: string; requests: number; targets: number; durationS: number; meanRate: number };
  settings: ReplaySettings;
  arms: Partial<Record<ArmName, ArmScore>>;
  /** Part of what foresight would save over reacting that the forecast saves; null when there is little to save. */
  capture: number | null;
  /** With `pareto`: what each arm throttles against what it withholds. */
  pareto?: Pareto;
}

export interface ReplayHooks {
  sink?: DecisionSink;
  /** @param done from 0 to 1 */
  progress?: (done: number, label: string) => void;
  /** Told of every step that Foretoken controls, with its targets. */
  onStep?: (report: StepReport) => void;
  /** Told of what happens to Foretoken's forecasters; with `pareto` of each curve's again. */
  onEvent?: (event: EngineEvent) => void;
}

/** Who plays for each name, and on which stage. Where there are several, the one that throttles least is reported. */
const contestants: Record<
  ArmName,
  (scene: Scene, hooks: ReplayHooks) => { scene: Scene; open: (() => Arm | Promise<Arm>)[] }
> = {
  static: (scene) => ({ scene, open: [staticArm] }),
  reactive: (scene) => ({ scene, open: reactiveArms(scene) }),
  foretoken: (scene, { onStep, onEvent }) => ({
    scene,
    open: [() => foretokenArm(scene, { ...(onStep && { onStep }), ...(onEvent && { onEvent }) })],
  }),
  oracle: (scene) => ({ scene, open: [() => oracleArm(scene)] }),
  pool: (scene) => ({ scene: pooled(scene), open: [poolArm] }),
  shared: (scene) => ({ scene, open: [() => sharedArm(scene)] }),
};

/**
 * Plays a trace to every arm and scores them; see `ArmScore`. The same trace and options give the same
 * figures and decisions.
 * @throws ForetokenError INVALID_OPTION, and what the forecasting engine throws
 */
export async function replay(trace: Trace, options: ReplayOptions, hooks: ReplayHooks = {}): Promise<ReplayResult> {
  const scene = sceneOf(trace, options);
  const { settings, demand } = scene;
  const arms: Partial<Record<ArmName, ArmScore>> = {};
  const parts = settings.arms.map((name) => ({ name, ...contestants[name](scene, hooks) }));
  const runs = parts.reduce((sum, { open }) => sum + open.length, 0);
  let runsDone = 0;
  for (const { name, scene: stage, open } of parts) {
    const play = async (opener: () => Arm | Promise<Arm>, sink?: DecisionSink): Promise<ArmScore> => {
      const arm = await opener();
      let requests = 0;
      try {
        return await runArm(stage, arm, {
          ...(sink ? { sink } : {}),
          progress: (more) => {
            requests += more;
            hooks.progress?.((runsDone + requests / trace.requests) / runs, name);
          },
        });
      } finally {
        await arm.close?.();
      }
    };
    let best: { score: ArmScore; opener: () => Arm | Promise<Arm> } | undefined;
    for (const opener of open) {
      const score = await play(opener, open.length === 1 ? hooks.sink : undefined);
      if (!best || score.throttled < best.score.throttled) best = { score, opener };
      runsDone += 1;
    }
    // Only now is it known whose decisions are the arm's.
    if (hooks.sink && open.length > 1) {
      runsDone -= 1;
      await play(best!.opener, hooks.sink);
      runsDone += 1;
    }
    arms[name] = best!.score;
  }
  const pareto = options.pareto
    ? await sweep(scene, (done, arm) => hooks.progress?.(done, `curve of ${arm}`), hooks.onEvent)
    : undefined;
  return {
    trace: {
      file: trace.file,
      requests: trace.requests,
      targets: trace.names.length,
      durationS: trace.durationMs / 1000,
      meanRate: demand.meanRate,
    },
    settings,
    arms,
    capture: captureOf(arms),
    ...(pareto && { pareto }),
  };
}

/** Below this part of the offered tokens, what foresight could save is chance. */
const leastToSave = 0.005;

export function captureOf({ reactive, foretoken, oracle }: Partial<Record<ArmName, ArmScore>>): number | null {
  if (!reactive || !foretoken || !oracle) return null;
  const toSave = reactive.throttled - oracle.throttled;
  if (!(toSave > 0 && toSave >= leastToSave * reactive.offered)) return null;
  return (reactive.throttled - foretoken.throttled) / toSave;
}
