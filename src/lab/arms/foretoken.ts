import { ControlLoop } from '../../control/loop.js';
import { ForecastEngine } from '../../forecast/engine.js';
import { openMemoryHistory } from '../../history/memory.js';
import { type Scene, tickMs } from '../scene.js';
import type { Arm } from './arm.js';

/** The product on the stage: its control loop over the stage's table, on the virtual clock. */
export async function foretokenArm(scene: Scene): Promise<Arm> {
  const { settings, buckets } = scene;
  const { ratePerSec, burst, borrow, adjust, allocator, stepMs } = settings;
  const engine = await ForecastEngine.open({
    rows: buckets + 1,
    stepMs,
    horizonsMs: [stepMs],
    refine: settings.refine,
    seed: settings.seed,
    deterministic: true,
  });
  const history = await openMemoryHistory();
  let loop: ControlLoop | undefined;
  return {
    name: 'foretoken',
    enter(stage) {
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
      await loop!.step(timeMs);
    },
    async close() {
      await engine.close();
      await history.close();
    },
  };
}
