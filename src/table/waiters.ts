import { ForetokenError } from '../errors.js';
import type { BucketTable, Handle } from './table.js';

interface Ticket {
  handle: Handle;
  cost: number;
  deadlineMs: number;
  settled: boolean;
  resolve: () => void;
  reject: (error: ForetokenError) => void;
  /** Takes the listener off the signal. */
  release: () => void;
}

/** A target's line. Taken tickets stay in the array until the head has passed them. */
interface Line {
  tickets: Ticket[];
  head: number;
  /** When the head should try again, ms. */
  dueMs: number;
}

/** When the line cannot say how long, it looks again after this: a borrow share is set anew every tick. */
const longestNapMs = 50;
/** How long newcomers on other threads hold back for this line, if it is not renewed. */
const lineHoldMs = 250;

/**
 * Requests that wait, in order per target (law 11): tickets, not tokens. Only the head of a line tries, at a
 * time computed anew after every try; one timer serves all lines. A ticket that was cancelled or is late is
 * skipped.
 */
export class Waiters {
  readonly #table: BucketTable;
  readonly #most: number;
  readonly #lines = new Map<Handle, Line>();
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;

  constructor(table: BucketTable, most: number) {
    this.#table = table;
    this.#most = most;
  }

  get waiting(): number {
    return this.#waiting;
  }

  hasLine(handle: Handle): boolean {
    return this.#lines.has(handle);
  }

  /** Resolves when admitted. Rejects with DEADLINE, ABORTED, QUEUE_FULL, COST_TOO_LARGE, UNKNOWN_TARGET or CLOSED. */
  join(handle: Handle, cost: number, forMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting >= this.#most)
      return Promise.reject(
        new ForetokenError('QUEUE_FULL', `${this.#waiting} requests are waiting, the most allowed`),
      );
    return new Promise((resolve, reject) => {
      const abort = () =>
        this.#settle(ticket, new ForetokenError('ABORTED', 'the wait was aborted', { cause: signal?.reason }));
      const ticket: Ticket = {
        handle,
        cost,
        deadlineMs: performance.now() + forMs,
        settled: false,
        resolve,
        reject,
        release: () => signal?.removeEventListener('abort', abort),
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting++;
      let line = this.#lines.get(handle);
      if (!line) {
        line = { tickets: [], head: 0, dueMs: 0 };
        this.#lines.set(handle, line);
      }
      line.tickets.push(ticket);
      if (line.tickets.length - line.head === 1) this.#serve(handle, line, performance.now());
      this.#schedule(Math.min(ticket.deadlineMs, line.dueMs));
    });
  }

  /** Rejects everyone in a target's line, because it was removed. */
  dismiss(handle: Handle, error: ForetokenError): void {
    const line = this.#lines.get(handle);
    if (!line) return;
    this.#lines.delete(handle);
    for (const ticket of line.tickets.slice(line.head)) this.#settle(ticket, error);
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const handle of [...this.#lines.keys()])
      this.dismiss(handle, new ForetokenError('CLOSED', 'closed while waiting'));
  }

  #settle(ticket: Ticket, error?: ForetokenError): void {
    if (ticket.settled) return;
    ticket.settled = true;
    this.#waiting--;
    ticket.release();
    if (error) ticket.reject(error);
    else ticket.resolve();
    // A head that left makes way for the next at once, not when its own time would have come.
    const line = this.#lines.get(ticket.handle);
    if (error && line && line.tickets[line.head] === ticket) {
      line.dueMs = 0;
      this.#schedule(0);
    }
  }

  /** Lets the head try, and whoever follows, until one must wait; then sets the time of the next try. */
  #serve(handle: Handle, line: Line, nowMs: number): void {
    const { decision } = this.#table.constants;
    for (;;) {
      const ticket = line.tickets[line.head];
      if (!ticket) {
        this.#lines.delete(handle);
        this.#table.waitInLine(handle, 0);
        return;
      }
      if (!ticket.settled && ticket.deadlineMs <= nowMs)
        this.#settle(ticket, new ForetokenError('DEADLINE', `not admitted in time: ${ticket.cost} tokens`));
      if (!ticket.settled) {
        const answer = this.#table.acquireInLine(handle, ticket.cost);
        if (answer > 0) this.#settle(ticket);
        else if (answer === decision.badHandle)
          this.#settle(ticket, new ForetokenError('UNKNOWN_TARGET', 'the target was removed'));
        else {
          const peek = this.#table.peek(handle, ticket.cost);
          if (peek?.tooLarge)
            this.#settle(
              ticket,
              new ForetokenError(
                'COST_TOO_LARGE',
                `${ticket.cost} tokens are more than this target can ever have at once`,
              ),
            );
          else {
            line.dueMs = nowMs + Math.min(Math.max(peek?.waitMs ?? 0, 1), longestNapMs);
            this.#table.waitInLine(handle, lineHoldMs);
            return;
          }
        }
      }
      line.head++;
      // Passed tickets are let go in bulk: shifting one by one would cost the length of the line each time.
      if (line.head > 1024 && line.head * 2 > line.tickets.length) {
        line.tickets.splice(0, line.head);
        line.head = 0;
      }
    }
  }

  #schedule(atMs: number): void {
    if (atMs >= this.#timerAtMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = setTimeout(() => this.#wake(), Math.max(0, Math.ceil(atMs - performance.now())));
  }

  #wake(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [handle, line] of this.#lines) {
      if (line.dueMs <= nowMs) this.#serve(handle, line, nowMs);
      for (let i = line.head; i < line.tickets.length; i++) {
        const ticket = line.tickets[i]!;
        if (ticket.settled) continue;
        if (ticket.deadlineMs <= nowMs)
          this.#settle(ticket, new ForetokenError('DEADLINE', `not admitted in time: ${ticket.cost} tokens`));
        else nextMs = Math.min(nextMs, ticket.deadlineMs);
      }
      if (this.#lines.has(handle)) nextMs = Math.min(nextMs, line.dueMs);
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#schedule(nextMs);
  }
}
