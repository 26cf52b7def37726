import { Worker } from 'node:worker_threads';
import { ForetokenError, fromErrorRecord, messageOf } from '../errors.js';
import { workerFile } from '../paths.js';
import { claimPlace, releasePlace } from './exit-gate.js';
import type { CallName, Calls, FromWorker, WorkerSettings } from './protocol.js';

interface Waiting {
  resolve(answer: Calls[CallName]['answer']): void;
  reject(error: Error): void;
}

/**
 * The worker as seen from the caller's thread. It keeps the process alive only while a call waits for
 * its answer, so a store that nobody closed does not hold a process that has nothing else to do.
 */
export class Link {
  /** Resolves when the worker is gone: with what it died of, or undefined where it ended of its own accord. */
  readonly gone: Promise<ForetokenError | undefined>;
  /** Called with what went wrong in the worker unasked. */
  onTrouble: (error: ForetokenError) => void = () => {};
  /** Resolves when the file is open, or with why it cannot be. */
  readonly #opened: Promise<ForetokenError | undefined>;
  readonly worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #ended: ForetokenError | undefined;
  #lastWord: ForetokenError | undefined;

  /** @throws ForetokenError HISTORY_UNAVAILABLE if the file cannot be opened, WORKER_FAILED if there is no worker */
  static async open(settings: WorkerSettings): Promise<Link> {
    const place = claimPlace();
    const data: WorkerSettings = { ...settings, place };
    const worker = new Worker(workerFile('history/worker'), { workerData: data, execArgv: [], name: 'history' });
    const link = new Link(worker);
    void link.gone.then(() => releasePlace(place));
    const refusal = await Promise.race([link.#opened, link.gone.then((error) => error ?? link.#ended)]);
    if (refusal !== undefined) throw refusal;
    worker.unref();
    return link;
  }

  private constructor(worker: Worker) {
    this.worker = worker;
    this.#opened = new Promise((resolve) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'ready') resolve(undefined);
        else if (message.kind === 'refused') resolve(fromErrorRecord(message.error));
        else this.#receive(message);
      });
    });
    let reason: string | undefined;
    worker.on('error', (error) => {
      reason = messageOf(error);
    });
    this.gone = new Promise((resolve) => {
      worker.on('exit', (exitCode) => {
        const how = reason === undefined ? `ended with code ${exitCode}` : `died: ${reason}`;
        this.#ended = this.#lastWord ?? new ForetokenError('WORKER_FAILED', `history: the worker thread ${how}`);
        for (const { reject } of this.#waiting.values()) reject(this.#ended);
        this.#waiting.clear();
        resolve(exitCode === 0 && reason === undefined ? undefined : this.#ended);
      });
    });
  }

  get isUp(): boolean {
    return this.#ended === undefined;
  }

  /** @throws ForetokenError what the worker answered, or WORKER_FAILED if it is gone or goes before it answers */
  call<K extends CallName>(call: K, args: Calls[K]['args'], transfer: ArrayBuffer[] = []): Promise<Calls[K]['answer']> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      const id = ++this.#lastId;
      if (this.#waiting.size === 0) this.worker.ref();
      this.#waiting.set(id, { resolve: resolve as Waiting['resolve'], reject });
      this.worker.postMessage({ id, call, args }, transfer);
    });
  }

  /** Lets the process end although the worker does not. */
  abandon(): void {
    this.worker.unref();
  }

  #receive(message: FromWorker): void {
    if (message.kind === 'ending') this.#lastWord = fromErrorRecord(message.error);
    if (message.kind === 'trouble') this.onTrouble(fromErrorRecord(message.error));
    if (message.kind !== 'answer' && message.kind !== 'failed') return;
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (this.#waiting.size === 0) this.worker.unref();
    if (message.kind === 'answer') waiting?.resolve(message.answer);
    else waiting?.reject(fromErrorRecord(message.error));
  }
}
