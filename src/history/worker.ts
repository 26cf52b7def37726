import { parentPort, workerData } from 'node:worker_threads';
import { ForetokenError, toErrorRecord } from '../errors.js';
import { Database } from './database.js';
import { ExitGate } from './exit-gate.js';
import { reasonOf, unavailable } from './file.js';
import type { CallName, Calls, FromWorker, ToWorker, WorkerSettings } from './protocol.js';

// DuckDB's appender and its checkpoints block their thread: they have this one to themselves.

const settings = workerData as WorkerSettings;
const port = parentPort!;
const gate = new ExitGate(settings.place);
let ended = false;

const post = (message: FromWorker, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

/** Buffers of an answer: large ones must be handed over, not copied. */
function buffersOf(answer: Calls[CallName]['answer']): ArrayBuffer[] {
  if (answer === null) return [];
  if (Array.isArray(answer)) return answer;
  if (ArrayBuffer.isView(answer)) return [answer.buffer as ArrayBuffer];
  return [('data' in answer ? answer.data : answer.rows).buffer as ArrayBuffer];
}

async function answer(database: Database, message: ToWorker): Promise<Calls[CallName]['answer']> {
  switch (message.call) {
    case 'append':
      return database.append(message.args);
    case 'series':
      return database.series(message.args);
    case 'recentDemand':
      return database.recentDemand(message.args);
    case 'forecasts':
      return database.forecasts(message.args);
    case 'decisions':
      return database.decisions(message.args);
    case 'compact':
      await database.compact();
      return null;
    case 'close':
      database.close();
      return null;
  }
}

async function handle(database: Database, message: ToWorker): Promise<void> {
  try {
    const value = await answer(database, message);
    post({ kind: 'answer', id: message.id, answer: value }, buffersOf(value));
    if (message.call === 'close') end();
    else if (message.call === 'append' && database.compactionDue) await compactUnasked(database);
  } catch (error) {
    post({ kind: 'failed', id: message.id, error: record(error) });
    await endIfUnusable(database, error);
  }
}

async function compactUnasked(database: Database): Promise<void> {
  try {
    await database.compact();
  } catch (error) {
    post({ kind: 'trouble', error: record(error) });
    await endIfUnusable(database, error);
  }
}

/** A database that DuckDB has given up on can only be opened anew: the facade starts another worker. */
async function endIfUnusable(database: Database, error: unknown): Promise<void> {
  if (await database.isUsable()) return;
  try {
    database.close();
  } catch {
    // It is unusable: nothing is left to lose.
  }
  post({ kind: 'ending', error: record(error) });
  end();
}

/** Nothing else keeps the thread alive. Calls that came too late fail at the other end. */
function end(): void {
  ended = true;
  port.close();
}

const record = (error: unknown) => toErrorRecord(asUnavailable(error), 'HISTORY_UNAVAILABLE');

const asUnavailable = (error: unknown): unknown =>
  error instanceof ForetokenError ? error : unavailable(settings.path, reasonOf(error), error);

async function serve(): Promise<void> {
  if (!gate.enter()) return;
  try {
    const database = await Database.open(settings);
    let turn: Promise<void> = Promise.resolve();
    const take = async (message: ToWorker): Promise<void> => {
      if (ended || !gate.enter()) return;
      await handle(database, message);
      gate.leave();
    };
    port.on('message', (message: ToWorker) => {
      turn = turn.then(() => take(message));
    });
    post({ kind: 'ready' });
  } catch (error) {
    post({ kind: 'refused', error: record(error) });
  } finally {
    gate.leave();
  }
}

await serve();
