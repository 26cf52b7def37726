import type { Roster, RosterEntry } from '../control/roster.js';
import { type Forecaster, type ForecastFrame, quantileCount } from '../forecast/forecaster.js';
import { grown } from '../grown.js';
import type { Handle } from '../table/table.js';
import type { Seating } from './replayed-table.js';

/** A target of a shadow's table, and which it is of the live one. */
export interface Seat {
  liveSlot: number;
  liveHandle: Handle;
  entry: RosterEntry;
}

/** Which target of a shadow's table plays for which slot of the live one: a table gives slots as it likes. */
export class Seats implements Seating {
  readonly #seats = new Map<number, Seat>();
  #handles = new Float64Array(64);

  get all(): Iterable<Seat> {
    return this.#seats.values();
  }

  at(liveSlot: number): Seat | undefined {
    return this.#seats.get(liveSlot);
  }

  handleOf(liveSlot: number): Handle {
    return this.#handles[liveSlot] ?? 0;
  }

  put(seat: Seat): void {
    this.#seats.set(seat.liveSlot, seat);
    if (seat.liveSlot >= this.#handles.length) this.#handles = grown(this.#handles, seat.liveSlot * 2);
    this.#handles[seat.liveSlot] = seat.entry.handle;
  }

  remove(liveSlot: number): void {
    this.#seats.delete(liveSlot);
    this.#handles[liveSlot] = 0;
  }
}

/** What somebody forecasts, by slot of the live table; undefined before the first step. */
export interface ForecastSource {
  frame: ForecastFrame | undefined;
}

/** Forecasts by live slot as a shadow's table numbers them. */
export class SeatedForecasts implements Forecaster {
  readonly name: string;
  readonly #source: ForecastSource;
  readonly #seats: Seats;
  readonly #roster: Roster;
  #frame: ForecastFrame;

  constructor(name: string, source: ForecastSource, seats: Seats, roster: Roster, horizonsMs: readonly number[]) {
    this.name = name;
    this.#source = source;
    this.#seats = seats;
    this.#roster = roster;
    this.#frame = frameFor(0, horizonsMs, []);
  }

  async step(_demand: Float64Array, rows: number): Promise<ForecastFrame> {
    const { frame } = this.#source;
    if (!frame) return this.#frame;
    const horizons = frame.horizonsMs.length;
    const fits = this.#frame.engine.length >= rows * horizons && this.#frame.engines === frame.engines;
    if (!fits) this.#frame = frameFor(rows * 2, frame.horizonsMs, frame.engines);
    const own = this.#frame;
    own.rows = rows;
    own.quantiles.fill(0);
    own.engine.fill(0);
    for (const { liveSlot, entry } of this.#seats.all) {
      const slot = this.#roster.slots.get(entry.name);
      if (slot === undefined || slot >= rows || liveSlot >= frame.rows) continue;
      const [from, to] = [liveSlot * horizons, slot * horizons];
      own.engine.set(frame.engine.subarray(from, from + horizons), to);
      own.quantiles.set(
        frame.quantiles.subarray(from * quantileCount, (from + horizons) * quantileCount),
        to * quantileCount,
      );
    }
    return own;
  }

  /** Whoever makes the forecasts forgets it for all. */
  reset(): void {}
  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

const frameFor = (rows: number, horizonsMs: readonly number[], engines: readonly string[]): ForecastFrame => ({
  rows: 0,
  horizonsMs,
  quantiles: new Float32Array(rows * horizonsMs.length * quantileCount),
  engines,
  engine: new Uint8Array(rows * horizonsMs.length),
});
