import { hogPeriodMs, type Scene } from './scene.js';

/** Targets that are always backlogged: every 10 ms each asks for the mean cost until it is denied. */
export class Hogs {
  /** When they ask next, ms; Infinity without hogs. */
  nextMs: number;
  readonly #scene: Scene;
  readonly #count: number;
  #round = 0;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.#count = scene.names.length - scene.targets;
    this.nextMs = this.#count > 0 ? 0 : Number.POSITIVE_INFINITY;
  }

  /** One round: whoever asks first changes from round to round. */
  ask(request: (timeMs: number, target: number, cost: number) => boolean): void {
    const { targets, demand } = this.#scene;
    for (let k = 0; k < this.#count; k++) {
      const hog = targets + ((this.#round + k) % this.#count);
      while (request(this.nextMs, hog, demand.meanCost));
    }
    this.#round += 1;
    this.nextMs = this.#round * hogPeriodMs;
  }
}
