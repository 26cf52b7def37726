// The controller's thread: ticks and steps against the table, whatever the main thread is doing.
import { parentPort, workerData } from 'node:worker_threads';
import { toErrorRecord } from '../errors.js';
import type { ForetokenEvent } from '../options.js';
import { BucketTable } from '../table/table.js';
import { openParts, warmUp } from './assembly.js';
import { ControlLoop } from './loop.js';
import type { ControllerData, FromController, ToController } from './protocol.js';
import { Roster } from './roster.js';

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

async function run(): Promise<void> {
  const table = BucketTable.attach(token);
  const onEvent = (event: ForetokenEvent) => send({ type: 'event', event });
  const roster = new Roster();
  const parts = await openParts(options, table, roster, onEvent);
  const { history, engine } = parts;
  const loop = new ControlLoop({ table, options, history, engine, roster, onEvent });
  for (const entry of entries) loop.put(entry);

  let withRows = false;
  let stopping = false;
  let stepping: Promise<void> | undefined;
  // With the first step, not at the start: only then are the targets of this run known by name.
  let warm = false;
  const warmOnce = async (): Promise<void> => {
    if (warm) return;
    warm = true;
    const steps = await warmUp(parts, roster, options.stepMs);
    if (steps > 0)
      onEvent({ kind: 'history', message: `forecasters warmed with ${steps} steps of history`, timeMs: Date.now() });
  };
  const began = performance.now();
  let nextStepMs = options.stepMs;
  let lastStepMs = 0;

  const guarded = (what: string, act: () => void): void => {
    try {
      act();
    } catch (error) {
      onEvent({
        kind: 'controller',
        message: `${what}: ${toErrorRecord(error, 'WORKER_FAILED').message}`,
        timeMs: Date.now(),
      });
    }
  };

  const beat = (): void => {
    guarded('tick', () => loop.tick(Date.now()));
    const elapsed = performance.now() - began;
    if (elapsed < nextStepMs || stepping || stopping) return;
    const steps = Math.max(1, Math.round((elapsed - lastStepMs) / options.stepMs));
    lastStepMs += steps * options.stepMs;
    nextStepMs = lastStepMs + options.stepMs;
    stepping = warmOnce()
      .catch((error: unknown) =>
        onEvent({
          kind: 'history',
          message: `warming failed: ${toErrorRecord(error, 'WORKER_FAILED').message}`,
          timeMs: Date.now(),
        }),
      )
      .then(() => loop.step(Date.now(), steps, withRows))
      .then(
        (report) => report && send({ type: 'step', report }),
        (error: unknown) =>
          onEvent({
            kind: 'controller',
            message: `step: ${toErrorRecord(error, 'WORKER_FAILED').message}`,
            timeMs: Date.now(),
          }),
      )
      .finally(() => {
        stepping = undefined;
      }) as Promise<void>;
  };
  beat();
  const timer = setInterval(beat, options.tickMs);

  // Many are often put at once: one allocation for all of them.
  let settling = false;
  const settleSoon = (): void => {
    if (settling) return;
    settling = true;
    setImmediate(() => {
      settling = false;
      if (!stopping) guarded('allocate', () => loop.settle());
    });
  };

  port.on('message', (message: ToController) => {
    switch (message.type) {
      case 'put':
        guarded('put', () => loop.put(message.entry));
        return settleSoon();
      case 'remove':
        guarded('remove', () => loop.remove(message.handle));
        return settleSoon();
      case 'watch':
        withRows = message.rows;
        return;
      case 'stop':
        if (stopping) return;
        stopping = true;
        clearInterval(timer);
        void (async () => {
          // Inference must not be cut off: a thread that ends during a run takes the process with it.
          await stepping;
          try {
            await parts.close();
          } catch (error) {
            onEvent({
              kind: 'controller',
              message: `close: ${toErrorRecord(error, 'WORKER_FAILED').message}`,
              timeMs: Date.now(),
            });
          }
          table.close();
          tellEnded();
          port.close();
        })();
    }
  });
  send({ type: 'ready', history: history.location });
}

run().catch((error: unknown) => {
  send({ type: 'failed', error: toErrorRecord(error, 'WORKER_FAILED') });
  tellEnded();
  port.close();
});
