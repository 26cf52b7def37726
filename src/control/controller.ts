import { Worker } from 'node:worker_threads';
import { type ErrorRecord, ForetokenError, fromErrorRecord } from '../errors.js';
import { prepareExit } from '../history/exit-gate.js';
import type { ForetokenEvent } from '../options.js';
import { workerFile } from '../paths.js';
import type { ShadowReport } from '../shadow/report.js';
import type { Explanation } from './explain.js';
import type { StepReport } from './loop.js';
import type { ControllerData, FromController, Question, ToController } from './protocol.js';
import type { RosterEntry } from './roster.js';

/** How long a stop waits for the step under way before it gives the thread up. */
const stopPatienceMs = 10_000;
/**
 * How long it waits for a thread that has closed everything: it ends at once, unless an inference worker that hangs was left
 * behind, for which Node waits.
 */
const endPatienceMs = 1_000;
/** Longest that the end of a process or thread waits for its controllers. */
const exitPatienceMs = 5_000;

const noController = (what: Question['type'], reason: string): ForetokenError =>
  new ForetokenError('NO_CONTROLLER', `${what}: there is no controller: ${reason}`);

type Answer = Explanation | ShadowReport;

/** Somebody waits for an answer. */
interface Asked {
  what: Question['type'];
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

/** Controllers of this thread that have not ended. */
const running = new Set<Controller>();
let hooked = false;

/**
 * Ending a thread while inference or a query runs in it or below it aborts the process, and Node ends the
 * threads of a process without asking them. So its end waits until the controllers have closed in good order.
 */
function guardExit(): void {
  if (hooked) return;
  hooked = true;
  prepareExit();
  // Before the history's own guard, which has the history begin nothing more: closing still flushes.
  process.prependListener('exit', () => {
    const deadlineMs = performance.now() + exitPatienceMs;
    for (const controller of running) controller.askToStop();
    for (const controller of running) controller.waitUntilEnded(Math.max(0, deadlineMs - performance.now()));
  });
}

/**
 * The controller's thread, seen from the thread that opened the table. When it dies nothing here has to act:
 * the table falls back by itself when its promise runs out.
 */
export class Controller {
  readonly #worker: Worker;
  readonly #onEvent: (event: ForetokenEvent) => void;
  readonly #exited: Promise<void>;
  readonly #ended: Int32Array;
  #onStep: ((report: StepReport) => void) | undefined;
  #wantsRows = false;
  readonly #questions = new Map<number, Asked>();
  #lastQuestion = 0;
  #alive = true;
  #stopping = false;
  #hasEnded = (): void => {};
  /** Where the history lies. */
  history = '';

  private constructor(worker: Worker, ended: Int32Array, onEvent: (event: ForetokenEvent) => void) {
    this.#worker = worker;
    this.#ended = ended;
    this.#onEvent = onEvent;
    this.#exited = new Promise((resolve) => worker.once('exit', () => resolve()));
  }

  /** Resolves when the loops run. Rejects with what kept them from starting. */
  static async start(
    given: Omit<ControllerData, 'ended'>,
    onEvent: (event: ForetokenEvent) => void,
  ): Promise<Controller> {
    guardExit();
    const ended = new SharedArrayBuffer(4);
    const data: ControllerData = { ...given, ended };
    // The process's own flags may be for its own script only, as --input-type is.
    const worker = new Worker(workerFile('control/worker'), {
      workerData: data,
      execArgv: [],
      name: 'foretoken-controller',
    });
    const controller = new Controller(worker, new Int32Array(ended), onEvent);
    running.add(controller);
    void controller.#exited.then(() => running.delete(controller));
    await new Promise<void>((resolve, reject) => {
      worker.on('message', (message: FromController) => {
        if (message.type === 'ready') {
          controller.history = message.history;
          resolve();
        } else if (message.type === 'failed') {
          controller.#stopping = true;
          // Not before the thread is gone: whoever tries again must find nothing in the way.
          void controller.#exited.then(() => reject(fromErrorRecord(message.error)));
        } else controller.#receive(message);
      });
      worker.on('error', (error) => {
        reject(
          new ForetokenError('WORKER_FAILED', `the controller's thread failed: ${error.message}`, { cause: error }),
        );
        controller.#died(error.message);
      });
      worker.on('exit', (code) => {
        if (!controller.#stopping)
          reject(new ForetokenError('WORKER_FAILED', `the controller's thread ended with code ${code}`));
        controller.#died(`it ended with code ${code}`);
      });
    });
    // The owner decides how long the process lives; the controller alone does not keep it.
    worker.unref();
    return controller;
  }

  get alive(): boolean {
    return this.#alive;
  }

  put(entry: RosterEntry): void {
    this.#send({ type: 'put', entry });
  }

  remove(handle: number): void {
    this.#send({ type: 'remove', handle });
  }

  watch(onStep: ((report: StepReport) => void) | undefined, rows: boolean): void {
    this.#onStep = onStep;
    this.#wantsRows = rows;
    this.#send({ type: 'watch', rows });
  }

  /** @throws UNKNOWN_TARGET, NO_CONTROLLER, HISTORY_UNAVAILABLE */
  async explain(name: string, atMs: number | undefined): Promise<Explanation> {
    return (await this.#ask({ type: 'explain', id: ++this.#lastQuestion, name, atMs })) as Explanation;
  }

  /** @throws NO_CONTROLLER */
  async shadows(): Promise<ShadowReport> {
    return (await this.#ask({ type: 'shadows', id: ++this.#lastQuestion })) as ShadowReport;
  }

  async stop(): Promise<void> {
    if (!this.#alive) return;
    this.#stopping = true;
    this.#worker.ref();
    this.#send({ type: 'stop' });
    let timer: NodeJS.Timeout | undefined;
    const outcome = await Promise.race([
      this.#exited,
      new Promise<'late' | 'ended'>((resolve) => {
        timer = setTimeout(() => resolve('late'), stopPatienceMs);
        this.#hasEnded = () => {
          clearTimeout(timer);
          timer = setTimeout(() => resolve('ended'), endPatienceMs);
        };
      }),
    ]);
    clearTimeout(timer);
    if (outcome === 'ended') {
      this.#worker.unref();
      this.#died('it has ended');
    }
    if (outcome === 'late') {
      this.#worker.unref();
      this.#leaveUnanswered('it did not stop in time');
      this.#onEvent({
        kind: 'controller',
        message: 'its thread did not stop in time and was left behind',
        timeMs: Date.now(),
      });
    }
  }

  /** @internal Asks without waiting. */
  askToStop(): void {
    this.#stopping = true;
    this.#worker.postMessage({ type: 'stop' } satisfies ToController);
  }

  /** @internal Blocks this thread until the controller's has closed everything. */
  waitUntilEnded(mostMs: number): void {
    Atomics.wait(this.#ended, 0, 0, mostMs);
  }

  #ask(question: Question): Promise<Answer> {
    const { id, type: what } = question;
    if (!this.#alive || this.#stopping) return Promise.reject(noController(what, 'it has ended'));
    // Whoever asks waits for the answer: until then the process must not end.
    this.#worker.ref();
    this.#send(question);
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { what, resolve, reject });
    });
  }

  #leaveUnanswered(reason: string): void {
    for (const { what, reject } of this.#questions.values()) reject(noController(what, reason));
    this.#questions.clear();
  }

  #send(message: ToController): void {
    if (this.#alive) this.#worker.postMessage(message);
  }

  #receive(message: FromController): void {
    if (message.type === 'taken') this.history = message.history;
    else if (message.type === 'answered') this.#answer(message.id, message.answer);
    else if (message.type === 'event') this.#onEvent(message.event);
    else if (message.type === 'ended') this.#hasEnded();
    // A step that ended before rows were asked for has none.
    else if (message.type === 'step' && (message.report.rows || !this.#wantsRows)) this.#onStep?.(message.report);
  }

  #answer(id: number, answer: Answer | ErrorRecord): void {
    const question = this.#questions.get(id);
    this.#questions.delete(id);
    if (this.#questions.size === 0 && !this.#stopping) this.#worker.unref();
    if ('code' in answer) question?.reject(fromErrorRecord(answer));
    else question?.resolve(answer);
  }

  #died(reason: string): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#leaveUnanswered(reason);
    if (!this.#stopping)
      this.#onEvent({
        kind: 'controller',
        message: `the controller died (${reason}); requests go on with reservations and fallback shares`,
        timeMs: Date.now(),
      });
  }
}
