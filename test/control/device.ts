import { Random } from '../../src/learn/random.js';

/** A resource on a virtual clock: servers that each do one request at a time, first come, first served. */
export class Device {
  readonly #random: Random;
  readonly #noise: number;
  readonly #freeAtMs: Float64Array;
  #pending: { doneMs: number; tookMs: number }[] = [];
  capacityPerSec: number;

  /** @param noise part of a service time that is exponential; 0: all take the same */
  constructor(capacityPerSec: number, servers: number, noise: number, seed = 1) {
    this.capacityPerSec = capacityPerSec;
    this.#freeAtMs = new Float64Array(servers);
    this.#noise = noise;
    this.#random = new Random(seed);
  }

  serve(nowMs: number): void {
    let server = 0;
    for (let i = 1; i < this.#freeAtMs.length; i++) if (this.#freeAtMs[i]! < this.#freeAtMs[server]!) server = i;
    const meanMs = (1000 * this.#freeAtMs.length) / this.capacityPerSec;
    const drawn = -Math.log(1 - this.#random.uniform());
    const doneMs = Math.max(nowMs, this.#freeAtMs[server]!) + meanMs * (1 - this.#noise + this.#noise * drawn);
    this.#freeAtMs[server] = doneMs;
    this.#pending.push({ doneMs, tookMs: doneMs - nowMs });
  }

  /** Requests that are not done yet. */
  get pending(): number {
    return this.#pending.length;
  }

  /** What was done up to now and not yet told. */
  done(nowMs: number): { tookMs: number }[] {
    const done = this.#pending.filter(({ doneMs }) => doneMs <= nowMs);
    this.#pending = this.#pending.filter(({ doneMs }) => doneMs > nowMs);
    return done;
  }
}
