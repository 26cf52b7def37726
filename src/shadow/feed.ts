import type { Onlooker } from '../control/loop.js';
import type { RosterEntry } from '../control/roster.js';
import type { ForecastFrame } from '../forecast/forecaster.js';
import { quantileCount } from '../forecast/forecaster.js';
import type { DemandMatrix } from '../history/store.js';
import type { NativeConstants } from '../table/native.js';
import type { Activity } from '../table/table.js';
import type { ToShadows } from './protocol.js';
import { trafficOf } from './traffic.js';

export interface FeedOptions {
  collect: NativeConstants['collect'];
  /** Whether any shadow goes by what the live engine forecasts, and any by what its model alone does. */
  wantsLive: boolean;
  wantsModel: boolean;
  modelFrame: () => ForecastFrame | undefined;
}

/**
 * Tells shadows what the live loop sees, in the order in which it counts: what is collected while a step is being
 * forecast belongs to the next, so it is held back until the forecast is there.
 */
export class ShadowFeed implements Onlooker {
  readonly #options: FeedOptions;
  readonly #send: (message: ToShadows, transfer: ArrayBuffer[]) => void;
  /** What has come since the step under way began. */
  #held: { message: ToShadows; transfer: ArrayBuffer[] }[] | undefined;

  constructor(options: FeedOptions, send: (message: ToShadows, transfer: ArrayBuffer[]) => void) {
    this.#options = options;
    this.#send = send;
  }

  put(slot: number, entry: RosterEntry): void {
    this.#pass({ type: 'put', slot, entry });
  }

  remove(slot: number): void {
    this.#pass({ type: 'remove', slot });
  }

  warm(matrix: DemandMatrix): void {
    this.#pass({ type: 'warm', matrix });
  }

  ticked(activity: Activity, tickMs: number, wallMs: number, ratePerSec: number): void {
    const traffic = trafficOf(activity, this.#options.collect, tickMs);
    this.#pass({ type: 'tick', wallMs, traffic, ratePerSec }, [traffic.data.buffer as ArrayBuffer]);
  }

  stepBegan(): void {
    // The last step failed before it forecast: what was collected in it counts in this one.
    this.#flush();
    this.#held = [];
  }

  forecast(frame: ForecastFrame, wallMs: number, steps: number): void {
    const { wantsLive, wantsModel, modelFrame } = this.#options;
    const live = wantsLive || wantsModel ? copyOf(frame) : undefined;
    const model = wantsModel ? modelFrame() : undefined;
    const transfer = [live, model].flatMap((copy) =>
      copy ? [copy.quantiles.buffer as ArrayBuffer, copy.engine.buffer as ArrayBuffer] : [],
    );
    this.#send({ type: 'step', wallMs, steps, live, model }, transfer);
    this.#flush();
  }

  #pass(message: ToShadows, transfer: ArrayBuffer[] = []): void {
    if (this.#held) this.#held.push({ message, transfer });
    else this.#send(message, transfer);
  }

  #flush(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const { message, transfer } of held) this.#send(message, transfer);
  }
}

/** Frames are overwritten by the next step. */
function copyOf({ rows, horizonsMs, quantiles, engines, engine }: ForecastFrame): ForecastFrame {
  const places = rows * horizonsMs.length;
  return {
    rows,
    horizonsMs,
    quantiles: quantiles.slice(0, places * quantileCount),
    engines,
    engine: engine.slice(0, places),
  };
}
