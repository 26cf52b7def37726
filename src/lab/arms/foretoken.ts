import { ControlLoop, type StepReport } from '../../control/loop.js';
import { type EngineEvent, ForecastEngine } from '../../forecast/engine.js';
import type { Forecaster } from '../../forecast/forecaster.js';
import { LongRange, longRangeFromMs } from '../../forecast/long-range.js';
import { isFittedKind } from '../../forecast/names.js';
import { openMemoryHistory } from '../../history/memory.js';
import { type Scene, tickMs } from '../scene.js';
import { formatDuration } from '../units.js';
import type { Arm } from './arm.js';

export interface ForetokenSetting {
  /** Default: one of its own, as `openForecasts` opens it. Closed with the arm. */
  forecaster?: Forecaster;
  /** Probability with which each target's demand is covered, above 0 and below 1. Default: the product's. */
  coverage?: number;
  /** Told of every step with its targets. */
  onStep?: (report: StepReport) => void;
  /** Told of what happens to the forecaster of its own. */
  onEvent?: (event: EngineEvent) => void;
}

/** Half a minute ahead, as users have it by default, is of use where tokens are lent. */
const farMs = 30_000;

const horizonsFor = ({ stepMs, borrow }: Scene['settings']): number[] =>
  borrow && stepMs < farMs ? [stepMs, farMs] : [stepMs];

/** What the product forecasts with, so that it comes out the same again. */
export function openForecasts(
  { settings, buckets }: Scene,
  onEvent?: (event: EngineEvent) => void,
): Promise<Forecaster> {
  const { stepMs, engine, model, refine, seed } = settings;
  const horizonsMs = horizonsFor(settings);
  if (isFittedKind(engine) && !LongRange.appliesTo(horizonsMs)) {
    const far = horizonsMs.map(formatDuration).join(' and ');
    const message = `${engine} forecasts from ${formatDuration(longRangeFromMs)} ahead on, not ${far}: classical forecasters instead`;
    onEvent?.({ kind: 'engine', message });
  }
  return ForecastEngine.open({
    rows: buckets + 1,
    stepMs,
    horizonsMs,
    engine,
    ...(model !== undefined && { modelPath: model }),
    refine,
    seed,
    deterministic: true,
    ...(onEvent && { onEvent }),
  });
}

/** The product on the stage: its control loop over the stage's table, on the virtual clock. */
export async function foretokenArm(scene: Scene, setting: ForetokenSetting = {}): Promise<Arm> {
  const { ratePerSec, burst, borrow, adjust, allocator, stepMs } = scene.settings;
  const { coverage, onStep, onEvent } = setting;
  const engine = setting.forecaster ?? (await openForecasts(scene, onEvent));
  const history = await openMemoryHistory();
  let loop: ControlLoop | undefined;
  return {
    name: 'foretoken',
    ...(coverage !== undefined && { variant: `q${coverage}` }),
    enter(stage) {
      if (coverage !== undefined) stage.roster.throttlingCost.fill(coverage / (1 - coverage));
      loop = new ControlLoop({
        table: stage.ledger,
        options: {
          ratePerSec,
          burst,
          borrow,
          adjust,
          allocator,
          stepMs,
          tickMs,
          failSafeMs: 2 * stepMs,
          leastBurst: scene.floorBurst,
          keepsSurplus: scene.keepsSurplus,
        },
        history,
        engine,
        roster: stage.roster,
        onEvent: () => {},
      });
    },
    tick(timeMs) {
      loop!.tick(timeMs);
    },
    async plan({ timeMs }) {
      const report = await loop!.step(timeMs, 1, onStep !== undefined);
      if (report) onStep?.(report);
    },
    async close() {
      await engine.close();
      await history.close();
    },
  };
}
