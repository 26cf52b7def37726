import { ControlLoop } from '../control/loop.js';
import { Roster, type RosterEntry } from '../control/roster.js';
import { grown } from '../grown.js';
import { TargetBook } from '../targets.js';
import type { ShadowData, ShadowSpec, ShadowTally } from './protocol.js';
import { ReplayedTable } from './replayed-table.js';
import { type ForecastSource, SeatedForecasts, Seats } from './seats.js';
import type { Traffic } from './traffic.js';

/** What has become of a slot of the live table: whose it is now, or nobody's. */
export type SeatChange = [liveSlot: number, entry: RosterEntry | undefined];

/**
 * The product's own loops with another engine or allocator over a table of their own, which is asked what the live one
 * is asked: what would have been denied. Nothing of it reaches a request.
 */
export class Shadow {
  readonly spec: ShadowSpec;
  readonly source: ForecastSource;
  readonly #table: ReplayedTable;
  readonly #book: TargetBook;
  readonly #roster = new Roster();
  readonly #seats = new Seats();
  readonly #loop: ControlLoop;
  #denied = 0;
  #deniedTokens = 0;
  #deniedTokensBySlot = new Float64Array(64);

  constructor(spec: ShadowSpec, options: ShadowData['options'], source: ForecastSource) {
    const { capacity, ratePerSec, burst, horizonsMs } = options;
    this.spec = spec;
    this.source = source;
    this.#table = new ReplayedTable({ capacity, ratePerSec, burst });
    this.#book = new TargetBook(this.#table.table, { ...options, mode: 'enforce' });
    this.#loop = new ControlLoop({
      table: this.#table,
      options: { ...options, allocator: spec.allocator },
      engine: new SeatedForecasts(spec.engine, source, this.#seats, this.#roster, horizonsMs),
      roster: this.#roster,
      onEvent: () => {},
    });
  }

  /** Takes in who has come, changed or gone. */
  change(changes: readonly SeatChange[]): void {
    for (const [liveSlot, entry] of changes) {
      const seat = this.#seats.at(liveSlot);
      if (seat && seat.liveHandle !== entry?.handle) this.#remove(liveSlot);
    }
    const updates: { liveSlot: number; entry: RosterEntry; before: RosterEntry }[] = [];
    const arrivals: { liveSlot: number; entry: RosterEntry }[] = [];
    for (const [liveSlot, entry] of changes) {
      if (!entry) continue;
      const seat = this.#seats.at(liveSlot);
      if (seat) updates.push({ liveSlot, entry, before: seat.entry });
      else arrivals.push({ liveSlot, entry });
    }
    // What is given up first makes room for what is reserved anew, in whichever order the changes were heard of.
    updates.sort((a, b) => a.entry.reservation - a.before.reservation - (b.entry.reservation - b.before.reservation));
    for (const { liveSlot, entry, before } of updates) {
      this.#book.update(entry.name, optionsOf(entry));
      this.#seat(liveSlot, entry, before.handle);
    }
    if (arrivals.length > 0) {
      const known = this.#book.add(arrivals.map(({ entry }) => ({ name: entry.name, ...optionsOf(entry) })));
      arrivals.forEach(({ liveSlot, entry }, i) => {
        this.#fit(liveSlot);
        this.#deniedTokensBySlot[liveSlot] = 0;
        this.#table.forget(this.#table.slotOf(known[i]!.handle));
        this.#seat(liveSlot, entry, known[i]!.handle);
      });
    }
    this.#loop.settle();
  }

  /** @param ratePerSec the resource's limit during the tick, as it was live */
  tick(wallMs: number, traffic: Traffic, ratePerSec: number): void {
    this.#loop.follow(ratePerSec);
    this.#table.play(traffic, this.#seats, (liveSlot, _asked, denied, cost) => {
      if (denied === 0) return;
      this.#denied += denied;
      this.#deniedTokens += denied * cost;
      this.#deniedTokensBySlot[liveSlot]! += denied * cost;
    });
    this.#loop.tick(wallMs);
  }

  async step(wallMs: number, steps: number): Promise<void> {
    await this.#loop.step(wallMs, steps);
  }

  /** @param slots of the live table */
  tally(slots: number): ShadowTally {
    const ratePerSecBySlot = new Float64Array(slots);
    const { data } = this.#table.levels();
    const l = this.#table.constants.levels;
    for (const { liveSlot, entry } of this.#seats.all)
      if (liveSlot < slots) ratePerSecBySlot[liveSlot] = data[this.#table.slotOf(entry.handle) * l.columns + l.rate]!;
    this.#fit(slots);
    return {
      ...this.spec,
      denied: this.#denied,
      deniedTokens: this.#deniedTokens,
      deniedTokensBySlot: this.#deniedTokensBySlot.slice(0, slots),
      ratePerSecBySlot,
    };
  }

  close(): void {
    this.#table.close();
  }

  #seat(liveSlot: number, live: RosterEntry, handle: number): void {
    const entry = { ...live, handle };
    this.#seats.put({ liveSlot, liveHandle: live.handle, entry });
    this.#loop.put(entry);
  }

  #remove(liveSlot: number): void {
    const { entry } = this.#seats.at(liveSlot)!;
    this.#book.remove(entry.name);
    this.#loop.remove(entry.handle);
    this.#seats.remove(liveSlot);
  }

  #fit(liveSlot: number): void {
    if (liveSlot < this.#deniedTokensBySlot.length) return;
    this.#deniedTokensBySlot = grown(this.#deniedTokensBySlot, liveSlot * 2);
  }
}

const optionsOf = ({ reservation, weight, limit, limitBurst, throttlingCost }: RosterEntry) => ({
  reservation,
  weight,
  limit,
  ...(Number.isFinite(limit) && limitBurst !== undefined && { limitBurst }),
  ...(throttlingCost !== undefined && { throttlingCost }),
});
