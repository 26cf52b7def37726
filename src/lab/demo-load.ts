// A thread that offers load: its share of the workload's targets, each request at its own time, and writes
// down what was decided and when.
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { AttachedForetoken, type ForetokenShare } from '../foretoken.js';

export interface LoadData {
  share: ForetokenShare;
  /** This thread's requests, in time order. */
  timesMs: Float64Array;
  target: Uint32Array;
  op: Uint8Array;
  bytes: Float64Array;
  names: readonly string[];
  /** Unix time in ms, with a fraction, at which the workload's time 0 is. */
  startMs: number;
  /** Where decisions go: 1 admitted, 0 denied, and when, ms since the start. */
  admitted: SharedArrayBuffer;
  decidedMs: SharedArrayBuffer;
}

/** Load is offered in slices this long: a timer cannot hit single requests. */
const sliceMs = 4;
/** What a served request takes: a seek and a transfer at 1 GB/s. */
const serviceMs = (bytes: number): number => 0.2 + bytes / 1e6;

const data = workerData as LoadData;
const { timesMs, target, op, bytes } = data;
const attached = AttachedForetoken.attach(data.share);
const targets = data.names.map((name) => attached.target(name));
const admitted = new Uint8Array(data.admitted);
const decidedMs = new Float64Array(data.decidedMs);
const sinceStart = (): number => performance.timeOrigin + performance.now() - data.startMs;

for (let next = 0; next < timesMs.length; ) {
  const now = sinceStart();
  for (; next < timesMs.length && timesMs[next]! <= now; next++) {
    const who = targets[target[next]!]!;
    const isAdmitted = who.tryAcquire(1);
    decidedMs[next] = sinceStart();
    admitted[next] = isAdmitted ? 1 : 0;
    const size = bytes[next]!;
    if (isAdmitted)
      who.complete({
        readBytes: op[next] === 1 ? size : 0,
        writeBytes: op[next] === 2 ? size : 0,
        durationMs: serviceMs(size),
      });
  }
  await sleep(sliceMs);
}
attached.close();
parentPort!.postMessage('done');
