/** Every code an error of this package can carry, and what it means. */
export const errorCodes = {
  INVALID_OPTION: 'an option has the wrong type or is out of range',
  INVALID_ARGUMENT: 'an argument has the wrong type or is out of range',
  CLOSED: 'the table, store or engine was closed',
  UNKNOWN_TARGET: 'no target of that name, or a handle that is stale or foreign',
  DUPLICATE_TARGET: 'a target of that name exists',
  TABLE_FULL: 'every slot of the table is taken',
  OVERCOMMITTED: 'reservations or an allocation exceed the rate or burst of the resource',
  COST_TOO_LARGE: 'the request costs more than its bucket and the reservoir can ever hold',
  DEADLINE: 'the deadline passed before the tokens came',
  ABORTED: 'the signal was aborted while waiting',
  QUEUE_FULL: 'as many requests as allowed are waiting',
  TRACE_MALFORMED: 'a trace file cannot be read as one',
  HISTORY_UNAVAILABLE: 'the history cannot be opened, read or written',
  MODEL_UNAVAILABLE: 'the model is missing, corrupt or of the wrong shape',
  WORKER_FAILED: 'a worker thread died or did not answer in time',
  REGION_UNAVAILABLE: 'the system refuses a named region: no memory, no permission',
  REGION_MAGIC: 'the file in the place of a named region is something else',
  REGION_ABI: 'a named region is in use by a version of the library that lays it out differently',
  REGION_SIZE: 'the size of a named region is not what its header says',
  REGION_CLOCK: 'the clock of a named region does not run as that of this process',
  REGION_OWNER: 'a named region belongs to another user, or others may read or write it',
  REGION_NOT_READY: 'whoever is making a named region has not finished in time',
  REGION_OPTIONS: 'a named region is in use with another rate, burst or capacity',
  REGION_CROWDED: 'as many processes as there is room for have a named region open',
  REGION_PROCESSES: 'a named region is in use from another PID namespace',
  REGION_IN_USE: 'a region to be removed is open somewhere',
  REGION_MISSING: 'there is no region of that name',
  NO_CONTROLLER: 'only a controller could answer, and this process or thread has none',
  ROLE_LOST: 'another process has taken the controller role',
  NATIVE_UNAVAILABLE: 'the native addon is not built or cannot be loaded, or the inference runtime cannot',
} as const;

export type ErrorCode = keyof typeof errorCodes;

/**
 * The one error class of the package. `code` is stable and is what programs should branch on; the
 * message is for people.
 */
export class ForetokenError extends Error {
  override readonly name = 'ForetokenError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** What a thrown value, which may be anything, says for people. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** An error as plain data: structured clone drops an error's class and code between threads. */
export interface ErrorRecord {
  code: ErrorCode;
  message: string;
}

export const toErrorRecord = (error: unknown, fallback: ErrorCode): ErrorRecord =>
  error instanceof ForetokenError
    ? { code: error.code, message: error.message }
    : { code: fallback, message: messageOf(error) };

export const fromErrorRecord = (record: ErrorRecord): ForetokenError => new ForetokenError(record.code, record.message);
