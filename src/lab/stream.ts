import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { ForetokenError } from '../errors.js';
import type { DecisionSink } from './score.js';

const chunkRows = 2048;

/** Writes decisions as CSV `arm,time_ms,target,cost,admitted`, gzip if the name ends in `.gz`. */
export class DecisionFile implements DecisionSink {
  readonly #out: Writable;
  readonly #done: Promise<void>;
  #rows: string[] = ['arm,time_ms,target,cost,admitted\n'];
  #hasRoom = true;

  private constructor(out: Writable, done: Promise<void>) {
    this.#out = out;
    this.#done = done;
    // Reported by whoever awaits `close`; until then it is not unhandled.
    done.catch(() => {});
  }

  /** @throws ForetokenError INVALID_OPTION when the file cannot be written */
  static async open(file: string): Promise<DecisionFile> {
    const target = createWriteStream(file);
    try {
      await once(target, 'open');
    } catch (error) {
      throw new ForetokenError('INVALID_OPTION', `--stream: cannot write ${file}: ${(error as Error).message}`, {
        cause: error,
      });
    }
    if (!file.endsWith('.gz')) return new DecisionFile(target, finished(target));
    const gzip = createGzip();
    gzip.pipe(target);
    target.on('error', (error) => gzip.destroy(error));
    return new DecisionFile(gzip, finished(target));
  }

  decide(arm: string, timeMs: number, target: string, cost: number, isAdmitted: boolean): void {
    this.#rows.push(`${arm},${timeMs},${target},${cost},${isAdmitted ? 1 : 0}\n`);
    if (this.#rows.length >= chunkRows) this.#flush();
  }

  async drain(): Promise<void> {
    if (this.#hasRoom || this.#out.destroyed) return;
    await Promise.race([once(this.#out, 'drain'), this.#done]);
    this.#hasRoom = true;
  }

  async close(): Promise<void> {
    this.#flush();
    this.#out.end();
    await this.#done;
  }

  #flush(): void {
    if (this.#out.destroyed) return;
    this.#hasRoom = this.#out.write(this.#rows.join(''));
    this.#rows = [];
  }
}
