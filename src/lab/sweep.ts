import type { EngineEvent } from '../forecast/engine.js';
import type { Arm } from './arms/arm.js';
import { foretokenArm, openForecasts } from './arms/foretoken.js';
import { oracleArm } from './arms/oracle.js';
import { reactiveArms } from './arms/reactive.js';
import { sharedArm } from './arms/shared.js';
import { staticArm } from './arms/static.js';
import { type ParetoCurve, paretoCurve, paretoPoint } from './pareto.js';
import { runArm } from './run.js';
import type { Scene } from './scene.js';
import type { ArmScore } from './score.js';
import type { ArmName } from './settings.js';
import { SharedForecasts } from './shared-forecasts.js';

/** What estimates are multiplied by. */
const factors = [1, 1.5, 2, 3, 4, 6, 8] as const;
/** Probabilities with which Foretoken covers each target's demand of a step. */
const quantiles = [0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999] as const;

/** Told how many more of all the requests of a curve are done. */
type Progress = (requests: number) => void;

/** A pool withholds from nobody, so it has no head-room. */
export type SweptArm = Exclude<ArmName, 'pool'>;

interface Sweep {
  /** How often the trace is played. */
  runs: number;
  play: (progress: Progress) => Promise<ArmScore[]>;
}

/**
 * Plays the trace to each setting of an arm's head-room. Without borrowing only what an arm wants is given: the rest
 * stays free, and that is what an arm saves by a smaller head-room.
 */
function sweepOf(arm: SweptArm, scene: Scene, onEvent?: (event: EngineEvent) => void): Sweep {
  const eachAlone = (open: (() => Arm)[]): Sweep => ({
    runs: open.length,
    async play(progress) {
      const scores: ArmScore[] = [];
      for (const opener of open) scores.push(await runArm(scene, opener(), { progress }));
      return scores;
    },
  });
  switch (arm) {
    case 'static':
      return eachAlone(factors.map((factor) => () => staticArm(scene, factor)));
    case 'reactive':
      return eachAlone(reactiveArms(scene, factors));
    case 'oracle':
      return eachAlone(factors.map((factor) => () => oracleArm(scene, factor)));
    case 'shared':
      return eachAlone([() => sharedArm(scene)]);
    case 'foretoken':
      return { runs: quantiles.length, play: (progress) => playForetoken(scene, progress, onEvent) };
  }
}

async function playForetoken(
  scene: Scene,
  progress: Progress,
  onEvent?: (event: EngineEvent) => void,
): Promise<ArmScore[]> {
  // What hogs ask for depends on what they got, so with them demand is not the same at every quantile.
  const groups = scene.settings.hogs > 0 ? quantiles.map((quantile) => [quantile]) : [quantiles];
  const scores: ArmScore[] = [];
  for (const group of groups) {
    const forecasts = new SharedForecasts(await openForecasts(scene, onEvent), group.length);
    const runs = group.map(async (coverage) => {
      const arm = await foretokenArm(scene, { forecaster: forecasts.part(), coverage });
      try {
        return await runArm(scene, arm, { progress });
      } finally {
        await arm.close?.();
      }
    });
    scores.push(...(await Promise.all(runs)));
  }
  return scores;
}

export type Pareto = Partial<Record<SweptArm, ParetoCurve>>;

/**
 * The curve of every arm: throttled fraction against withheld capacity.
 * @param progress told from 0 to 1
 * @param onEvent told of what happens to each forecaster of Foretoken's
 */
export async function sweep(
  scene: Scene,
  progress?: (done: number, arm: ArmName) => void,
  onEvent?: (event: EngineEvent) => void,
): Promise<Pareto> {
  const { settings, trace, demand } = scene;
  const kept: Scene = { ...scene, keepsSurplus: true };
  const parts = settings.arms
    .filter((name): name is SweptArm => name !== 'pool')
    .map((name) => ({ name, ...sweepOf(name, kept, onEvent) }));
  const requests = trace.requests * parts.reduce((sum, { runs }) => sum + runs, 0);
  let done = 0;
  const pareto: Pareto = {};
  for (const { name, play } of parts) {
    const scores = await play((more) => {
      done += more;
      progress?.(done / requests, name);
    });
    pareto[name] = paretoCurve(scores.map((score) => paretoPoint(score, settings.ratePerSec / demand.meanRate)));
  }
  return pareto;
}
