import { Worker } from 'node:worker_threads';
import type { Onlooker } from '../control/loop.js';
import type { ForecastFrame } from '../forecast/forecaster.js';
import type { DemandMatrix } from '../history/store.js';
import { workerFile } from '../paths.js';
import type { BucketTable, Handle } from '../table/table.js';
import { ShadowFeed } from './feed.js';
import type { FromShadows, ShadowData, ShadowFigures, ShadowSpec, ToShadows } from './protocol.js';
import { outcomesOf, reportOf, type ShadowReport, type ShadowView, type TargetOutcome } from './report.js';
import { sourceOf } from './shadows.js';

/** How far shadows may fall behind, ms: what has not been played lies in memory. */
const mostBehindMs = 20_000;
/** How long an end waits for the message that is being played. */
const stopPatienceMs = 5_000;

/**
 * The shadows of a table, seen from its controller: told what happens, and asked nothing. They are in a thread of their
 * own, so that they delay no tick; when it dies or falls too far behind there is one event and no shadows any more.
 */
export class ShadowLink implements ShadowView {
  readonly specs: readonly ShadowSpec[];
  readonly #feed: ShadowFeed;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  readonly #tell: (message: string) => void;
  readonly #mostBehind: number;
  #figures: ShadowFigures | undefined;
  #behind = 0;
  #ended = false;

  constructor(
    options: ShadowData['options'],
    table: Pick<BucketTable, 'constants'>,
    modelFrame: () => ForecastFrame | undefined,
    tell: (message: string) => void,
  ) {
    this.#tell = tell;
    this.specs = options.shadow;
    this.#mostBehind = Math.max(3, Math.ceil(mostBehindMs / options.stepMs));
    const sources = options.shadow.map(({ engine }) => sourceOf(options.engine, engine));
    const { collect } = table.constants;
    this.#feed = new ShadowFeed(
      { collect, wantsLive: sources.includes('live'), wantsModel: sources.includes('model'), modelFrame },
      (message, transfer) => this.#send(message, transfer),
    );
    this.#worker = new Worker(workerFile('shadow/worker'), {
      workerData: { options } satisfies ShadowData,
      execArgv: [],
      name: 'foretoken-shadow',
    });
    this.#worker.on('message', (message: FromShadows) => this.#receive(message));
    this.#worker.on('error', (error) => this.#give(`their thread failed: ${error.message}`));
    this.#exited = new Promise((resolve) =>
      this.#worker.once('exit', () => {
        this.#give('their thread ended');
        resolve();
      }),
    );
  }

  /** For the loop to show what it sees. */
  get onlooker(): Onlooker {
    return this.#feed;
  }

  /** As of the last step that was played. */
  report(): ShadowReport {
    return reportOf(this.#figures, this.#ended ? [] : this.specs, Date.now());
  }

  /** What became of one target; empty before the first step was played, and of a target that came since. */
  outcomes(slot: number, handle: Handle): TargetOutcome[] {
    return this.#figures ? outcomesOf(this.#figures, slot, handle) : [];
  }

  warm(matrix: DemandMatrix): void {
    this.#feed.warm(matrix);
  }

  /** Lets what is being played end: a thread that ends while a forecast is computed takes the process with it. */
  async close(): Promise<void> {
    this.#ended = true;
    this.#worker.postMessage({ type: 'stop' } satisfies ToShadows);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, stopPatienceMs);
    });
    await Promise.race([this.#exited, late]);
    clearTimeout(timer);
    this.#worker.unref();
  }

  #send(message: ToShadows, transfer: ArrayBuffer[]): void {
    if (this.#ended) return;
    if (message.type === 'step' && ++this.#behind > this.#mostBehind) {
      this.#worker.postMessage({ type: 'stop' } satisfies ToShadows);
      this.#give(`they take longer than what they play; over ${mostBehindMs / 1000} s behind`);
      return;
    }
    this.#worker.postMessage(message, transfer);
  }

  #receive(message: FromShadows): void {
    if (message.type === 'figures') {
      this.#behind--;
      if (!this.#ended) this.#figures = message.figures;
    } else if (message.type === 'event') this.#tell(message.message);
    else this.#give(message.message);
  }

  /** One event, and none for what follows from it. */
  #give(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#figures = undefined;
    this.#tell(`shadows ended; everything else goes on: ${reason}`);
  }
}
