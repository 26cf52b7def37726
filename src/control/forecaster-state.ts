import { type FileHandle, open, rename, rm, statfs } from 'node:fs/promises';
import { endianness } from 'node:os';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { ForetokenError, messageOf } from '../errors.js';
import type { ForecastEngine } from '../forecast/engine.js';
import { StateWalk } from '../forecast/state-walk.js';
import { inTime } from '../in-time.js';

/** Raised whenever what is walked through, its order or what it means changes; a test tells when that is due. */
export const stateVersion = 3;

/**
 * What a file says of itself. It lies behind the state, as all of it is known only then: the walk's numbers, this as JSON,
 * and at the very end `tailBytes` that say how long each part is.
 */
interface Head {
  version: number;
  /** The order of bytes, and what the forecasters must share: see `ForecastEngine.likeness`. */
  likeness: string;
  /** End of the last step that was taken in, Unix ms. */
  timeMs: number;
  /** Rows by ascending number, and whose they were; null: nobody's by the end. */
  rows: number[];
  names: (string | null)[];
  /** Those under whose name nobody ever asked. */
  silent: string[];
  /** Checksum of the state. */
  stateCrc: number;
}

const magic = new TextEncoder().encode('FTSTATE\n');
/** Bytes of the state (float64), how many numbers, bytes of JSON, checksum of both (uint32 each), padding, magic. */
const tailBytes = 32;
const places = { state: 0, numbers: 8, json: 12, crc: 16, magic: 24 } as const;
const mostHeadBytes = 2 ** 28;
/** A state is not begun where it would take more than half of the room that is left: the history needs it more. */
const mostOfRoom = 0.5;
/** Steps wait until a state has been read; where that takes longer the history must do. */
const readPatienceMs = 10_000;

/** State that has been copied out of the forecasters: steps may go on. */
export interface Copied {
  bytes: number;
  /** Settles when it is safe on disk, in place of the one before. Rejects with what the file system says. */
  kept: Promise<void>;
}

/**
 * All that the forecasts of a controller hang on, in a file beside its history, so that the next controller goes on as if
 * there had been no end. A file is whole or the one before. Binary, about 10 KiB a target and more the more horizons there are.
 */
export class ForecasterState {
  readonly #path: string;
  readonly #roomIn: (folder: string) => Promise<number>;
  #writing: Promise<unknown> | undefined;

  /** @param roomIn bytes that can still be written to a folder */
  constructor(path: string, roomIn = freeBytes) {
    this.#path = path;
    this.#roomIn = roomIn;
  }

  /**
   * Copies the state to a file beside its place, and then moves it in. Between steps: until it has resolved, none may come.
   * @param targets names and rows
   * @param timeMs end of the last step, Unix ms
   * @param limits a larger state is not begun; one that takes longer to copy is given up
   * @returns undefined where there is nothing to be kept, it is too large, a model is late, or an earlier file is not done yet
   * @throws what the file system says, and where there is little room left
   */
  async write(
    engine: ForecastEngine,
    targets: Iterable<readonly [string, number]>,
    timeMs: number,
    limits: { bytes: number; ms: number },
  ): Promise<Copied | undefined> {
    const likeness = likenessOf(engine);
    if (likeness === undefined || this.#writing) return undefined;
    const all = [...targets].sort((a, b) => a[1] - b[1]);
    const known = all.filter(([, row]) => engine.knows(row));
    const silent = all.filter(([, row]) => !engine.knows(row));
    const rowsOf = (of: typeof all) => Int32Array.from(of, ([, row]) => row);
    const saving = engine.save(rowsOf(known), rowsOf(silent));
    if (!saving || known.length === 0) return undefined;
    const { walk, forgotten } = saving;
    const bytes = walk.byteLength;
    if (bytes > limits.bytes) return undefined;
    const end = new AbortController();
    const opening = this.#openNew(bytes);
    const copying = opening.then((file) => this.#copy(file, walk, end.signal));
    try {
      const late = () => new Error(`copying it took more than ${limits.ms} ms`);
      const stateCrc = await inTime(limits.ms, copying, late);
      const file = await opening;
      const rows = known.map(([, row]) => row);
      const names = known.map(([name, row]) => (forgotten.has(row) ? null : name));
      const unasked = silent.map(([name]) => name);
      const head: Head = { version: stateVersion, likeness, timeMs, rows, names, silent: unasked, stateCrc };
      const kept = this.#finish(file, bytes, head, walk.numbers);
      this.#writing = kept
        .catch(() => {})
        .finally(() => {
          this.#writing = undefined;
        });
      return { bytes, kept };
    } catch (error) {
      end.abort();
      // What the disk still does is waited for before the next one is begun, not here.
      this.#writing = copying
        .catch(() => {})
        .then(() => opening)
        .then(
          (file) => this.#discard(file),
          () => {},
        )
        .finally(() => {
          this.#writing = undefined;
        });
      throw error;
    }
  }

  /** Where a file is until it is whole. */
  get #beside(): string {
    return `${this.#path}.new`;
  }

  /** Waits until a file that is being written is done. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  /**
   * Puts the state back into an engine that has taken no step.
   * @param rowOf row of a target now, or undefined
   * @param isOfUse whether a state of that time, Unix ms, is to be put back
   * @param mostMs how long it may take
   * @returns its time, targets it is of, and those of them that are there; undefined where there is none of use
   * @throws ForetokenError HISTORY_UNAVAILABLE saying why it cannot be used; the engine begins from nothing then
   */
  async read(
    engine: ForecastEngine,
    rowOf: (target: string) => number | undefined,
    isOfUse: (timeMs: number) => boolean = () => true,
    mostMs = readPatienceMs,
  ): Promise<{ timeMs: number; known: number; targets: number } | undefined> {
    const likeness = likenessOf(engine);
    if (likeness === undefined) return undefined;
    const lateMs = performance.now() + mostMs;
    const late = () => new Error(`reading it took more than ${mostMs} ms`);
    const soon = <T>(work: Promise<T>): Promise<T> => inTime(Math.max(0, lateMs - performance.now()), work, late);
    const opening = open(this.#path, 'r');
    try {
      const file = await soon(opening);
      const { head, numbers, bytes } = await soon(this.#readHead(file));
      if (head.likeness !== likeness) throw this.#refused('it is of other forecasters, horizons or steps');
      if (!isOfUse(head.timeMs)) return undefined;
      const rowNow = (name: string | null) => (name === null ? -1 : (rowOf(name) ?? -1));
      const to = Int32Array.from(head.names, rowNow);
      const silent = Int32Array.from(head.silent, rowNow);
      const walk = StateWalk.loading(numbers, Int32Array.from(head.rows), to, silent, bytes);
      let at = 0;
      let crc = 0;
      await engine.restore(walk, async (block) => {
        await soon(readFully(file, block, at));
        at += block.byteLength;
        crc = crc32(block, crc);
        if (at === bytes && crc !== head.stateCrc) throw this.#refused('it has changed since it was written');
      });
      return { timeMs: head.timeMs, known: to.length, targets: to.filter((row) => row >= 0).length };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      if (error instanceof ForetokenError && error.message.startsWith(this.#path)) throw error;
      throw this.#refused(messageOf(error));
    } finally {
      // A disk that hangs is not waited for here, either.
      await soon(opening.then((file) => file.close())).catch(() => {});
    }
  }

  async #openNew(bytes: number): Promise<FileHandle> {
    const room = await this.#roomIn(dirname(this.#path));
    if (bytes > mostOfRoom * room) throw new Error(`${bytes} bytes are too many where ${room} are free`);
    return open(this.#beside, 'w', 0o600);
  }

  /** @returns the checksum */
  async #copy(file: FileHandle, walk: StateWalk, signal: AbortSignal): Promise<number> {
    let crc = 0;
    for (const block of walk.save()) {
      signal.throwIfAborted();
      crc = crc32(block, crc);
      await file.writeFile(block);
    }
    return crc;
  }

  async #finish(file: FileHandle, bytes: number, head: Head, numbers: Float64Array): Promise<void> {
    try {
      const json = new TextEncoder().encode(JSON.stringify(head));
      const tail = new DataView(new ArrayBuffer(tailBytes));
      tail.setFloat64(places.state, bytes, true);
      tail.setUint32(places.numbers, numbers.length, true);
      tail.setUint32(places.json, json.length, true);
      tail.setUint32(places.crc, crc32(json, crc32(numbers)), true);
      const end = new Uint8Array(tail.buffer);
      end.set(magic, places.magic);
      for (const part of [new Uint8Array(numbers.buffer), json, end]) await file.writeFile(part);
      await file.sync();
      await file.close();
      await rename(this.#beside, this.#path);
    } catch (error) {
      await this.#discard(file);
      throw error;
    }
  }

  /** A file that was not finished would take the room that others need. */
  async #discard(file: FileHandle): Promise<void> {
    await file.close().catch(() => {});
    await rm(this.#beside, { force: true }).catch(() => {});
  }

  async #readHead(file: FileHandle): Promise<{ head: Head; numbers: Float64Array; bytes: number }> {
    const { size } = await file.stat();
    const end = new Uint8Array(tailBytes);
    if (size >= tailBytes) await readFully(file, end, size - tailBytes);
    if (magic.some((byte, i) => end[places.magic + i] !== byte))
      throw this.#refused('it is something else, or cut off');
    const tail = new DataView(end.buffer);
    const bytes = tail.getFloat64(places.state, true);
    const count = tail.getUint32(places.numbers, true);
    const length = tail.getUint32(places.json, true);
    if (!(bytes >= 0) || 8 * count + length > mostHeadBytes || bytes + 8 * count + length + tailBytes !== size)
      throw this.#refused('its parts do not fit together');
    const numbers = new Float64Array(count);
    const json = new Uint8Array(length);
    await readFully(file, new Uint8Array(numbers.buffer), bytes);
    await readFully(file, json, bytes + 8 * count);
    if (crc32(json, crc32(numbers)) !== tail.getUint32(places.crc, true))
      throw this.#refused('it has changed since it was written');
    const head = JSON.parse(new TextDecoder().decode(json)) as Head;
    if (head.version !== stateVersion) throw this.#refused(`it is of version ${head.version}, not ${stateVersion}`);
    return { head, numbers, bytes };
  }

  #refused(reason: string): ForetokenError {
    return new ForetokenError('HISTORY_UNAVAILABLE', `${this.#path} cannot be taken up: ${reason}`);
  }
}

async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

const likenessOf = (engine: ForecastEngine): string | undefined =>
  engine.likeness === undefined ? undefined : `${endianness()} ${engine.likeness}`;

async function readFully(file: FileHandle, bytes: Uint8Array, from: number): Promise<void> {
  for (let at = 0; at < bytes.byteLength; ) {
    const { bytesRead } = await file.read(bytes, at, bytes.byteLength - at, from + at);
    if (bytesRead === 0) throw new Error('it is cut off');
    at += bytesRead;
  }
}
