import { allocatorNamed } from '../../allocate/allocator.js';
import { CreditBook } from '../../allocate/credit.js';
import { entitle, withoutSurplus } from '../../allocate/entitle.js';
import { trim } from '../../allocate/fill.js';
import type { Scene } from '../scene.js';
import type { Stage } from '../stage.js';

/** Applies an allocator to expected demand: floors first, bursts in proportion to rates. */
export class DemandFed {
  readonly #scene: Scene;
  readonly #floors: Float64Array;
  readonly #bursts: Float64Array;
  readonly #credits = new CreditBook();
  readonly #slots: Uint32Array;
  #demandPerSec = new Float64Array(0);

  constructor(scene: Scene) {
    this.#scene = scene;
    this.#floors = new Float64Array(scene.buckets).fill(scene.floorRate);
    this.#bursts = new Float64Array(scene.buckets);
    this.#slots = Uint32Array.from(this.#bursts, (_, i) => i);
  }

  allocate(stage: Stage, demandPerSec: ArrayLike<number>): void {
    this.#credits.settle(this.#scene.settings.stepMs / 1000);
    this.#demandPerSec = Float64Array.from(demandPerSec);
    this.#publish(stage, demandPerSec);
    stage.expect(demandPerSec);
  }

  /** The same within a step, for demand that runs over what was expected. */
  allocateMore(stage: Stage, extraPerSec: Float64Array): void {
    if (this.#demandPerSec.length > 0)
      this.#publish(
        stage,
        this.#demandPerSec.map((demand, i) => demand + extraPerSec[i]!),
      );
  }

  #publish(stage: Stage, demandPerSec: ArrayLike<number>): void {
    const { settings, floorBurst, buckets, reservoirBurst, keepsSurplus } = this.#scene;
    const { ratePerSec, allocator, borrow } = settings;
    const accounts = { book: this.#credits, slots: this.#slots, seconds: settings.stepMs / 1000 };
    // Deposits may have taken all of the reservoir's burst, and what rounding left to it with it.
    const burst = (settings.burst - reservoirBurst) * (reservoirBurst > 0 ? 1 - 1e-6 : 1);
    const request = { demandPerSec, floorPerSec: this.#floors, ratePerSec, accounts };
    const kept = borrow ? entitle : keepsSurplus ? withoutSurplus : undefined;
    const rates = kept ? kept(allocator, request) : allocatorNamed(allocator)(request);
    const shared = burst - floorBurst * buckets;
    for (let i = 0; i < buckets; i++) this.#bursts[i] = floorBurst + (shared * rates[i]!) / ratePerSec;
    stage.allocate(rates, trim(this.#bursts, burst));
  }
}
