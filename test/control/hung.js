// A controller's thread that begins and then answers nothing, as one that hangs: it does not end by itself.
import { parentPort } from 'node:worker_threads';

parentPort.on('message', () => {});
parentPort.postMessage({ type: 'ready', history: 'memory' });
