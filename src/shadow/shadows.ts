import { stepsToMakeUp } from '../control/loop.js';
import type { RosterEntry } from '../control/roster.js';
import { toErrorRecord } from '../errors.js';
import { ForecastEngine } from '../forecast/engine.js';
import type { ForecastFrame } from '../forecast/forecaster.js';
import type { EngineName } from '../forecast/names.js';
import { grown } from '../grown.js';
import type { DemandMatrix } from '../history/store.js';
import type { ShadowData, ShadowFigures, ToShadows } from './protocol.js';
import { type SeatChange, Shadow } from './shadow.js';
import { column, columns } from './traffic.js';

/** How long forecasters may take to take in the past, ms; what they have by then must do. */
const warmPatienceMs = 10_000;

/** Forecasts of an engine that only shadows have, by slot of the live table. */
interface OwnSource {
  frame: ForecastFrame | undefined;
  engine: ForecastEngine;
}

/** Which forecasts the live engine has anyway: its own, and as a mixture those of its model. */
export const sourceOf = (live: EngineName, wanted: EngineName): 'live' | 'model' | 'own' =>
  wanted === live ? 'live' : live === 'auto' && wanted === 'lstm' ? 'model' : 'own';

/**
 * All shadows of a table: what each would have denied of what was asked for. They take in what the live loop saw, one
 * message after the other; one that fails is told of and left out from then on.
 */
export class Shadows {
  readonly #options: ShadowData['options'];
  readonly #onEvent: (message: string) => void;
  readonly #live: { frame: ForecastFrame | undefined } = { frame: undefined };
  readonly #model: { frame: ForecastFrame | undefined } = { frame: undefined };
  readonly #own = new Map<EngineName, OwnSource>();
  #shadows: Shadow[] = [];
  #changes = new Map<number, RosterEntry | undefined>();
  readonly #slotOf = new Map<string, number>();
  // By slot of the live table.
  readonly #names: (string | undefined)[] = [];
  #slots = 1;
  #handles = new Float64Array(64);
  /** Of the step under way, tokens. */
  #demand = new Float64Array(64);
  #askedTokensBySlot = new Float64Array(64);
  #deniedTokensBySlot = new Float64Array(64);
  readonly #totals = { asked: 0, askedTokens: 0, denied: 0, deniedTokens: 0 };
  #sinceMs = 0;
  #steps = 0;

  /** An engine or a table that cannot be had is told of, and the shadows that need it are left out. */
  static async open(options: ShadowData['options'], onEvent: (message: string) => void): Promise<Shadows> {
    const shadows = new Shadows(options, onEvent);
    for (const spec of options.shadow)
      try {
        shadows.#shadows.push(new Shadow(spec, options, await shadows.#source(spec.engine)));
      } catch (error) {
        shadows.#tell(spec.name, error);
      }
    return shadows;
  }

  private constructor(options: ShadowData['options'], onEvent: (message: string) => void) {
    this.#options = options;
    this.#onEvent = onEvent;
  }

  /** Shadows that go on. */
  get count(): number {
    return this.#shadows.length;
  }

  /**
   * Takes in the next message; the one before must have been. @returns figures at the end of a step
   */
  async take(message: ToShadows): Promise<ShadowFigures | undefined> {
    switch (message.type) {
      case 'put':
        this.#put(message.slot, message.entry);
        break;
      case 'remove':
        this.#remove(message.slot);
        break;
      case 'warm':
        await this.#warm(message.matrix);
        break;
      case 'tick':
        this.#tick(message);
        break;
      case 'step':
        return this.#step(message);
      case 'stop':
        await this.close();
    }
    return undefined;
  }

  async close(): Promise<void> {
    for (const shadow of this.#shadows.splice(0)) shadow.close();
    for (const { engine } of this.#own.values()) await engine.close();
    this.#own.clear();
  }

  #put(slot: number, entry: RosterEntry): void {
    this.#fit(slot);
    if (this.#handles[slot] !== entry.handle) this.#forget(slot);
    this.#handles[slot] = entry.handle;
    this.#names[slot] = entry.name;
    this.#slotOf.set(entry.name, slot);
    this.#changes.set(slot, entry);
  }

  #remove(slot: number): void {
    this.#fit(slot);
    this.#forget(slot);
    this.#changes.set(slot, undefined);
  }

  #forget(slot: number): void {
    const name = this.#names[slot];
    if (name !== undefined && this.#slotOf.get(name) === slot) this.#slotOf.delete(name);
    this.#names[slot] = undefined;
    this.#handles[slot] = 0;
    this.#demand[slot] = 0;
    this.#askedTokensBySlot[slot] = 0;
    this.#deniedTokensBySlot[slot] = 0;
    for (const { engine } of this.#own.values()) engine.reset(slot);
  }

  async #warm(matrix: DemandMatrix): Promise<void> {
    for (const { engine } of this.#own.values())
      await engine.warm(matrix, (name) => this.#slotOf.get(name), { signal: AbortSignal.timeout(warmPatienceMs) });
  }

  #tick({ wallMs, traffic, ratePerSec }: ToShadows & { type: 'tick' }): void {
    if (this.#sinceMs === 0) this.#sinceMs = wallMs - traffic.tickMs;
    const { data, rows } = traffic;
    for (let from = 0; from < rows * columns; from += columns) {
      const slot = data[from + column.slot]!;
      if (slot >= this.#slots || this.#handles[slot] === 0) continue;
      this.#demand[slot]! += data[from + column.demandTokens]!;
      const askedTokens = data[from + column.demandTokens]! - data[from + column.unmeteredTokens]!;
      const deniedTokens = Math.max(0, data[from + column.deniedTokens]!);
      this.#totals.asked += data[from + column.arrivals]! - data[from + column.unmetered]!;
      this.#totals.askedTokens += askedTokens;
      this.#totals.denied += Math.max(0, data[from + column.denied]!);
      this.#totals.deniedTokens += deniedTokens;
      this.#askedTokensBySlot[slot]! += askedTokens;
      this.#deniedTokensBySlot[slot]! += deniedTokens;
    }
    const changes: SeatChange[] = [...this.#changes];
    this.#changes.clear();
    this.#each((shadow) => {
      if (changes.length > 0) shadow.change(changes);
      shadow.tick(wallMs, traffic, ratePerSec);
    });
  }

  async #step({ wallMs, steps, live, model }: ToShadows & { type: 'step' }): Promise<ShadowFigures> {
    this.#live.frame = live ?? this.#live.frame;
    this.#model.frame = model ?? this.#live.frame;
    const missed = stepsToMakeUp(steps);
    const demand = this.#demand.slice(0, this.#slots);
    this.#demand.fill(0);
    if (missed > 1) for (let slot = 0; slot < this.#slots; slot++) demand[slot]! /= missed;
    for (const source of this.#own.values()) {
      const concerned = this.#shadows.filter((shadow) => shadow.source === source);
      if (concerned.length === 0) continue;
      await this.#guarded(concerned, async () => {
        for (let i = 0; i < missed; i++) source.frame = await source.engine.step(demand, this.#slots);
      });
    }
    for (const shadow of [...this.#shadows]) await this.#guarded([shadow], () => shadow.step(wallMs, steps));
    this.#steps++;
    return {
      sinceMs: this.#sinceMs,
      timeMs: wallMs,
      steps: this.#steps,
      ...this.#totals,
      handles: this.#handles.slice(0, this.#slots),
      askedTokensBySlot: this.#askedTokensBySlot.slice(0, this.#slots),
      deniedTokensBySlot: this.#deniedTokensBySlot.slice(0, this.#slots),
      shadows: this.#shadows.map((shadow) => shadow.tally(this.#slots)),
    };
  }

  async #source(wanted: EngineName): Promise<{ frame: ForecastFrame | undefined }> {
    const { engine: live, capacity, stepMs, horizonsMs, refine, refineCpuPart, seed, modelPath } = this.#options;
    const kind = sourceOf(live, wanted);
    if (kind !== 'own') return kind === 'live' ? this.#live : this.#model;
    const known = this.#own.get(wanted);
    if (known) return known;
    const engine = await ForecastEngine.open({
      rows: capacity + 1,
      stepMs,
      horizonsMs,
      engine: wanted,
      refine,
      refineCpuPart,
      seed,
      ...(modelPath === undefined ? {} : { modelPath }),
    });
    const source: OwnSource = { frame: undefined, engine };
    this.#own.set(wanted, source);
    return source;
  }

  #each(act: (shadow: Shadow) => void): void {
    for (const shadow of [...this.#shadows])
      try {
        act(shadow);
      } catch (error) {
        this.#leaveOut(shadow, error);
      }
  }

  async #guarded(concerned: Shadow[], act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      for (const shadow of concerned) this.#leaveOut(shadow, error);
    }
  }

  #leaveOut(shadow: Shadow, error: unknown): void {
    this.#shadows = this.#shadows.filter((other) => other !== shadow);
    shadow.close();
    this.#tell(shadow.spec.name, error);
  }

  #tell(name: string, error: unknown): void {
    const { message } = toErrorRecord(error, 'WORKER_FAILED');
    this.#onEvent(`shadow ${name} failed and is left out; everything else goes on: ${message}`);
  }

  #fit(slot: number): void {
    this.#slots = Math.max(this.#slots, slot + 1);
    if (slot < this.#handles.length) return;
    this.#handles = grown(this.#handles, slot * 2);
    this.#demand = grown(this.#demand, slot * 2);
    this.#askedTokensBySlot = grown(this.#askedTokensBySlot, slot * 2);
    this.#deniedTokensBySlot = grown(this.#deniedTokensBySlot, slot * 2);
  }
}
