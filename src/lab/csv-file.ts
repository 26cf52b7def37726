import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { ForetokenError } from '../errors.js';

/** Rows written at once. */
const chunkRows = 2048;

/** A CSV file that is written row by row, gzip if its name ends in `.gz`. */
export class CsvFile {
  readonly #out: Writable;
  readonly #done: Promise<void>;
  #rows: string[];

  private constructor(out: Writable, done: Promise<void>, header: string) {
    this.#out = out;
    this.#done = done;
    this.#rows = [`${header}\n`];
    // Reported by whoever awaits `close`; until then it is not unhandled.
    done.catch(() => {});
  }

  /**
   * @param option name of the option that asked for the file, for the message
   * @throws ForetokenError INVALID_OPTION when the file cannot be opened; `drain` and `close` when it cannot be written
   */
  static async open(option: string, file: string, header: string): Promise<CsvFile> {
    const unwritable = (cause: unknown): never => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const got = `${JSON.stringify(file)}: ${reason}`;
      throw new ForetokenError('INVALID_OPTION', `--${option}: expected a file that can be written, got ${got}`, {
        cause,
      });
    };
    const target = createWriteStream(file);
    await once(target, 'open').catch(unwritable);
    if (!file.endsWith('.gz')) return new CsvFile(target, finished(target).catch(unwritable), header);
    const gzip = createGzip();
    return new CsvFile(gzip, pipeline(gzip, target).catch(unwritable), header);
  }

  write(row: string): void {
    this.#rows.push(`${row}\n`);
    if (this.#rows.length >= chunkRows) this.#flush();
  }

  /** Resolves when there is room for more; rejects when the file has failed. */
  async drain(): Promise<void> {
    if (this.#out.destroyed) await this.#done;
    // Asked of the stream, which may have drained since the write that filled it.
    if (!this.#out.writableNeedDrain) return;
    await Promise.race([once(this.#out, 'drain').catch(() => this.#done), this.#done]);
  }

  /** Writes what is left; rejects when the file has failed. */
  async close(): Promise<void> {
    this.#flush();
    this.#out.end();
    await this.#done;
  }

  #flush(): void {
    if (this.#out.destroyed) return;
    this.#out.write(this.#rows.join(''));
    this.#rows = [];
  }
}
