import { AllocationRules } from '../../allocate/rules.js';
import { learnsRules, plan } from '../../control/plan.js';
import { ForecastEngine } from '../../forecast/engine.js';
import type { Scene } from '../scene.js';
import type { Arm } from './arm.js';

/** The product on the stage: the forecasting engine and the plan that its controller runs. */
export async function foretokenArm(scene: Scene): Promise<Arm> {
  const { settings, buckets } = scene;
  const slots = buckets + 1;
  const engine = await ForecastEngine.open({
    rows: slots,
    stepMs: settings.stepMs,
    horizonsMs: [settings.stepMs],
    refine: settings.refine,
    seed: settings.seed,
    deterministic: true,
  });
  const demandBySlot = new Float64Array(slots);
  const tickDemand = new Float64Array(slots);
  const rules = new AllocationRules();
  const level = new Float64Array(slots);
  const live = new Uint8Array(slots).fill(1, 1);
  const floorPerSec = new Float64Array(slots).fill(scene.floorRate, 1);
  const weight = new Float64Array(slots).fill(1, 1);
  const limitPerSec = new Float64Array(slots).fill(Number.POSITIVE_INFINITY);
  return {
    name: 'foretoken',
    ...(learnsRules(settings) && {
      tick(asked: Float64Array, seconds: number) {
        tickDemand.set(asked, 1);
        rules.tick(tickDemand, seconds);
      },
    }),
    async plan({ stage, demand }) {
      demandBySlot.set(demand, 1);
      const frame = await engine.step(demandBySlot, slots);
      const deposited = stage.deposited();
      level.set(stage.levels(), 1);
      level[0] = stage.reservoirTokens();
      rules.endStep();
      const planned = plan({
        slots,
        live,
        floorPerSec,
        weight,
        limitPerSec,
        leastBurst: scene.floorBurst,
        frame,
        level,
        ratePerSec: settings.ratePerSec,
        burst: settings.burst,
        deposited,
        stepMs: settings.stepMs,
        borrow: settings.borrow,
        allocator: settings.allocator,
        rules,
      });
      const rates = new Float64Array(buckets);
      const bursts = new Float64Array(buckets);
      for (let i = 0; i < buckets; i++) {
        rates[i] = planned.pairs[(i + 1) * 2]!;
        bursts[i] = planned.pairs[(i + 1) * 2 + 1]!;
      }
      stage.allocate(rates, bursts);
      for (const { slot, tokens, forMs } of planned.deposits) stage.deposit(slot - 1, tokens, forMs);
    },
    close: () => engine.close(),
  };
}
