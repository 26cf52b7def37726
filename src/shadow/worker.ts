// The shadows' thread: plays again what the live loop saw, one message after the other.
import { parentPort, workerData } from 'node:worker_threads';
import { toErrorRecord } from '../errors.js';
import type { FromShadows, ShadowData, ToShadows } from './protocol.js';
import { Shadows } from './shadows.js';

const port = parentPort!;
const { options } = workerData as ShadowData;
const send = (message: FromShadows): void => port.postMessage(message);

const opening = Shadows.open(options, (message) => send({ type: 'event', message }));
let work: Promise<void> = opening.then(() => {});
let stopped = false;

function fail(error: unknown): void {
  if (!stopped) send({ type: 'failed', message: toErrorRecord(error, 'WORKER_FAILED').message });
  stopped = true;
  port.close();
}

port.on('message', (message: ToShadows) => {
  work = work
    .then(async () => {
      // What has come before a stop and was not played is not wanted any more.
      if (stopped && message.type !== 'stop') return;
      const figures = await (await opening).take(message);
      if (figures) send({ type: 'figures', figures });
      if (message.type === 'stop') port.close();
    })
    .catch(fail);
  if (message.type === 'stop') stopped = true;
});
