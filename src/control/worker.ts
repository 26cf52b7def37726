// The controller's thread: ticks and steps against the table, whatever the main thread is doing.
import { parentPort, workerData } from 'node:worker_threads';
import { toErrorRecord } from '../errors.js';
import type { ShadowReport } from '../shadow/report.js';
import { BucketTable } from '../table/table.js';
import { Election } from './election.js';
import type { Explanation } from './explain.js';
import type { ControllerData, FromController, Question, ToController } from './protocol.js';
import { Shift, type ShiftHooks } from './shift.js';

const port = parentPort!;
const { token, options, entries, ended } = workerData as ControllerData;
const send = (message: FromController): void => port.postMessage(message);

/** Whoever ends the process may be waiting for this, its event loop blocked. */
const tellEnded = (): void => {
  const word = new Int32Array(ended);
  Atomics.store(word, 0, 1);
  Atomics.notify(word, 0);
};
process.on('exit', tellEnded);

const hooks: ShiftHooks = {
  onEvent: (event) => send({ type: 'event', event }),
  onStep: (report) => send({ type: 'step', report }),
};

/** What the thread does between its start and its end. */
interface Work {
  history: string;
  beat(): void;
  receive(message: ToController): void;
  explain(name: string, atMs: number | undefined): Promise<Explanation>;
  shadows(): ShadowReport;
  end(): Promise<void>;
}

/** A table of one process has this controller and no other. */
async function alone(table: BucketTable): Promise<Work> {
  const shift = await Shift.open(table, options, hooks);
  for (const entry of entries) shift.put(entry);
  return {
    history: shift.history,
    beat: () => shift.beat(),
    receive: (message) => {
      if (message.type === 'put') shift.put(message.entry);
      else if (message.type === 'remove') shift.remove(message.handle);
      else if (message.type === 'watch') shift.withRows = message.rows;
    },
    explain: (name, atMs) => shift.explain(name, atMs),
    shadows: () => shift.shadows(),
    end: () => shift.end(),
  };
}

/** A table that processes share has one controller at a time, and its roster says who its targets are. */
async function among(table: BucketTable): Promise<Work> {
  const work = { history: '' };
  const election = new Election(table, options, {
    ...hooks,
    onTaken: (history) => {
      work.history = history;
      send({ type: 'taken', history });
    },
  });
  // The role is renewed also while the history is being opened.
  const timer = setInterval(() => election.beat(), options.tickMs);
  try {
    await election.begin();
  } catch (error) {
    await election.end();
    throw error;
  } finally {
    clearInterval(timer);
  }
  return {
    get history() {
      return work.history;
    },
    beat: () => election.beat(),
    receive: (message) => {
      if (message.type === 'watch') election.withRows = message.rows;
    },
    explain: (name, atMs) => election.explain(name, atMs),
    shadows: () => election.shadows(),
    end: () => election.end(),
  };
}

async function answer(work: Work, question: Question): Promise<void> {
  const { id } = question;
  try {
    const answer = question.type === 'explain' ? await work.explain(question.name, question.atMs) : work.shadows();
    send({ type: 'answered', id, answer });
  } catch (error) {
    send({ type: 'answered', id, answer: toErrorRecord(error, 'WORKER_FAILED') });
  }
}

async function run(): Promise<void> {
  const table = BucketTable.attach(token);
  const work = await (table.isNamed ? among(table) : alone(table));
  work.beat();
  const timer = setInterval(() => work.beat(), options.tickMs);
  let stopping = false;
  port.on('message', (message: ToController) => {
    if ('id' in message) return void answer(work, message);
    if (message.type !== 'stop') return work.receive(message);
    if (stopping) return;
    stopping = true;
    clearInterval(timer);
    void work.end().then(() => {
      table.close();
      tellEnded();
      send({ type: 'ended' });
      port.close();
    });
  });
  send({ type: 'ready', history: work.history });
}

run().catch((error: unknown) => {
  send({ type: 'failed', error: toErrorRecord(error, 'WORKER_FAILED') });
  tellEnded();
  port.close();
});
