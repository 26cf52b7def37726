import { defaultThrottlingCost } from '../allocate/quantile.js';
import { grown } from '../grown.js';
import type { Handle } from '../table/table.js';

/** A target as the control plane knows it. */
export interface RosterEntry {
  name: string;
  handle: Handle;
  reservation: number;
  weight: number;
  limit: number;
  /** Tokens; default one second of the limit. */
  limitBurst?: number;
  /** Against keeping a token idle; default `defaultThrottlingCost`. */
  throttlingCost?: number;
}

/** Who has which slot, in arrays the planner reads. */
export class Roster {
  names: (string | undefined)[] = [];
  handles: Handle[] = [];
  live = new Uint8Array(64);
  reservationPerSec = new Float64Array(64);
  weight = new Float64Array(64);
  limitPerSec = new Float64Array(64);
  throttlingCost = new Float64Array(64);
  readonly slots = new Map<string, number>();

  put(entry: RosterEntry, slot: number): void {
    this.#grow(slot + 1);
    this.#unname(slot);
    this.names[slot] = entry.name;
    this.handles[slot] = entry.handle;
    this.live[slot] = 1;
    this.reservationPerSec[slot] = entry.reservation;
    this.weight[slot] = entry.weight;
    this.limitPerSec[slot] = entry.limit;
    this.throttlingCost[slot] = entry.throttlingCost ?? defaultThrottlingCost;
    this.slots.set(entry.name, slot);
  }

  remove(slot: number): void {
    this.#unname(slot);
    this.names[slot] = undefined;
    this.live[slot] = 0;
    this.reservationPerSec[slot] = 0;
    this.weight[slot] = 0;
  }

  /** Its name may be another slot's by now: where processes share a table, changes come in the order of slots. */
  #unname(slot: number): void {
    const name = this.names[slot];
    if (name !== undefined && this.slots.get(name) === slot) this.slots.delete(name);
  }

  #grow(size: number): void {
    if (size <= this.live.length) return;
    this.live = grown(this.live, size * 2);
    for (const name of ['reservationPerSec', 'weight', 'limitPerSec', 'throttlingCost'] as const)
      this[name] = grown(this[name], size * 2);
  }
}
