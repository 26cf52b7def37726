import { ForetokenError } from '../errors.js';
import { type Due, DueHeap } from './due-heap.js';
import type { BucketTable, Handle } from './table.js';

/** A place in a line; it holds no tokens. Due at its deadline. */
interface Ticket extends Due {
  line: Line;
  cost: number;
  /** Its place among all who wait for the target, of every thread and process. */
  number: bigint;
  before: Ticket | undefined;
  after: Ticket | undefined;
  resolve: () => void;
  reject: (error: ForetokenError) => void;
  signal: AbortSignal | undefined;
}

/** Tickets that end with a signal. One listener for all: taking one of many off a signal costs their number. */
interface Watch {
  tickets: Set<Ticket>;
  onAbort: () => void;
}

/** This thread's part of a target's line. Due when its first should try again. */
interface Line extends Due {
  handle: Handle;
  first: Ticket | undefined;
  last: Ticket | undefined;
}

/** How often it is seen whether the table has changed, so that due times must be computed anew; and that others see us. */
const glanceMs = 25;
/** Changes that are not counted, such as refunds by other threads, are found out after this. */
const longestNapMs = 200;
/** Others are before us, and how fast they go on is theirs to know. */
const behindOthersMs = 10;

/**
 * Requests that wait, in order per target (law 11): tickets, not tokens. Only the first of a line tries, at a time
 * computed anew after every try and every change of the table; one timer serves all lines, and a wake costs what is
 * due. Who is cancelled or late leaves at once, and whoever is next tries.
 *
 * Threads and processes share a target's line through the table: each shows its first ticket there, and none takes
 * tokens that an earlier ticket needs. A thread that was killed or hangs is passed over after `constants.holdMs`.
 */
export class Waiters {
  readonly #table: BucketTable;
  readonly #most: number;
  readonly #lines = new Map<Handle, Line>();
  readonly #due = new DueHeap<Line>();
  readonly #deadlines = new DueHeap<Ticket>();
  readonly #signals = new Map<AbortSignal, Watch>();
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #glanceAtMs = 0;
  #changes = -1;

  constructor(table: BucketTable, most: number) {
    this.#table = table;
    this.#most = most;
  }

  get waiting(): number {
    return this.#deadlines.size;
  }

  hasLine(handle: Handle): boolean {
    return this.#lines.has(handle);
  }

  /** Resolves when admitted. Rejects with DEADLINE, ABORTED, QUEUE_FULL, COST_TOO_LARGE, UNKNOWN_TARGET or CLOSED. */
  join(handle: Handle, cost: number, forMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.waiting >= this.#most) {
      const decision = this.#table.turnAway(handle, cost);
      return Promise.reject(
        decision < 0
          ? this.#refusal(decision, cost)
          : new ForetokenError('QUEUE_FULL', `${this.waiting} requests are waiting, the most allowed`),
      );
    }
    const number = this.#table.joinLine(handle, cost);
    if (typeof number === 'number') return Promise.reject(this.#refusal(number, cost));
    return new Promise((resolve, reject) => {
      const nowMs = performance.now();
      if (this.#deadlines.size === 0) this.#glanceAtMs = nowMs + glanceMs;
      const line = this.#lineOf(handle);
      const ticket: Ticket = {
        line,
        cost,
        number,
        before: line.last,
        after: undefined,
        dueMs: 0,
        place: -1,
        resolve,
        reject,
        signal,
      };
      if (signal) this.#watch(signal, ticket);
      if (line.last) line.last.after = ticket;
      else line.first = ticket;
      line.last = ticket;
      this.#deadlines.put(ticket, nowMs + forMs);
      if (line.first === ticket) this.#serve(line, nowMs);
      this.#schedule(nowMs);
    });
  }

  /** Rejects everyone in a target's line, because it was removed. */
  dismiss(handle: Handle, error: ForetokenError): void {
    const line = this.#lines.get(handle);
    if (!line) return;
    this.#leave(line);
    for (let ticket = line.first; ticket; ticket = ticket.after) this.#end(ticket, error);
  }

  close(): void {
    for (const handle of [...this.#lines.keys()])
      this.dismiss(handle, new ForetokenError('CLOSED', 'closed while waiting'));
    clearTimeout(this.#timer);
    this.#timerAtMs = Number.POSITIVE_INFINITY;
  }

  #lineOf(handle: Handle): Line {
    let line = this.#lines.get(handle);
    if (!line) {
      line = { handle, first: undefined, last: undefined, dueMs: 0, place: -1 };
      this.#lines.set(handle, line);
    }
    return line;
  }

  #leave(line: Line): void {
    this.#lines.delete(line.handle);
    this.#due.remove(line);
    this.#table.leaveLine(line.handle);
  }

  #watch(signal: AbortSignal, ticket: Ticket): void {
    const known = this.#signals.get(signal);
    if (known) {
      known.tickets.add(ticket);
      return;
    }
    const tickets = new Set([ticket]);
    const onAbort = () => {
      for (const each of tickets)
        this.#settle(each, new ForetokenError('ABORTED', 'the wait was aborted', { cause: signal.reason }));
    };
    this.#signals.set(signal, { tickets, onAbort });
    signal.addEventListener('abort', onAbort, { once: true });
  }

  #unwatch(signal: AbortSignal, ticket: Ticket): void {
    const watch = this.#signals.get(signal);
    if (!watch?.tickets.delete(ticket) || watch.tickets.size > 0) return;
    this.#signals.delete(signal);
    signal.removeEventListener('abort', watch.onAbort);
  }

  #end(ticket: Ticket, error?: ForetokenError): void {
    this.#deadlines.remove(ticket);
    if (ticket.signal) this.#unwatch(ticket.signal, ticket);
    if (error) ticket.reject(error);
    else ticket.resolve();
  }

  /** Takes a ticket out of its line, wherever it stands. */
  #unlink(ticket: Ticket): void {
    const { line, before, after } = ticket;
    if (before) before.after = after;
    else line.first = after;
    if (after) after.before = before;
    else line.last = before;
  }

  /** A ticket leaves without having been admitted; whoever is first after it tries at once. */
  #settle(ticket: Ticket, error: ForetokenError): void {
    if (ticket.place < 0) return;
    const { line } = ticket;
    const wasFirst = line.first === ticket;
    this.#unlink(ticket);
    this.#end(ticket, error);
    if (!wasFirst) return;
    const nowMs = performance.now();
    this.#serve(line, nowMs);
    this.#schedule(nowMs);
  }

  /** Lets the first try, and whoever follows, until one must wait; then sets the time of the next try. */
  #serve(line: Line, nowMs: number): void {
    const { decision } = this.#table.constants;
    for (let ticket = line.first; ticket; ticket = line.first) {
      const look = this.#table.acquireInLine(line.handle, ticket.cost, ticket.number);
      if (look.decision > 0) {
        this.#unlink(ticket);
        this.#end(ticket);
      } else if (look.decision === decision.denied || look.decision === decision.contended) {
        const soonestMs = look.ahead > 0 ? Math.min(look.waitMs, behindOthersMs) : look.waitMs;
        this.#due.put(line, nowMs + Math.min(Math.max(soonestMs, 1), longestNapMs));
        return;
      } else {
        this.#unlink(ticket);
        this.#end(ticket, this.#refusal(look.decision, ticket.cost));
      }
    }
    this.#leave(line);
  }

  #refusal(code: number, cost: number): ForetokenError {
    const { decision } = this.#table.constants;
    switch (code) {
      case decision.badHandle:
        return new ForetokenError('UNKNOWN_TARGET', 'the target was removed');
      case decision.tooLarge:
        return new ForetokenError('COST_TOO_LARGE', `${cost} tokens are more than this target can ever have at once`);
      case decision.noSeat:
        return new ForetokenError('QUEUE_FULL', 'as many threads as allowed wait on this table already');
      case decision.badCost:
        return new ForetokenError('INVALID_ARGUMENT', `cost: ${cost} tokens are too few for the table to resolve`);
      default:
        return new ForetokenError('CLOSED', 'the table is closed');
    }
  }

  #schedule(nowMs: number): void {
    if (this.#deadlines.size === 0) {
      clearTimeout(this.#timer);
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      return;
    }
    const atMs = Math.min(
      this.#glanceAtMs,
      this.#deadlines.first!.dueMs,
      this.#due.first?.dueMs ?? Number.POSITIVE_INFINITY,
    );
    if (atMs >= this.#timerAtMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = setTimeout(() => this.#wake(), Math.max(0, Math.ceil(atMs - nowMs)));
  }

  #wake(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = performance.now();
    for (let late = this.#deadlines.first; late && late.dueMs <= nowMs; late = this.#deadlines.first)
      this.#settle(late, new ForetokenError('DEADLINE', `not admitted in time: ${late.cost} tokens`));
    if (this.#glanceAtMs <= nowMs) this.#glance(nowMs);
    for (let line = this.#due.first; line && line.dueMs <= nowMs; line = this.#due.first) this.#serve(line, nowMs);
    this.#schedule(nowMs);
  }

  /** Shows that this thread still waits. Where rates, deposits or shares have changed, every line is due. */
  #glance(nowMs: number): void {
    this.#glanceAtMs = nowMs + glanceMs;
    const changes = this.#table.showLife();
    if (changes === this.#changes) return;
    this.#changes = changes;
    for (const line of this.#lines.values()) this.#serve(line, nowMs);
  }
}
