// A process of its own for the tests of ways to end: `node child.js MODE PATH`. Runs the built package.
import { closeSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parentPort, Worker } from 'node:worker_threads';
import { openDuckDbHistory } from '../../dist/history/duckdb.js';
import { prepareExit } from '../../dist/history/exit-gate.js';

const [mode, path] = process.argv.slice(2);
const t0 = 1_700_000_000_000;

function step(i, targets = 50) {
  const column = () => new Float64Array(targets).fill(i + 1);
  return {
    timeMs: t0 + i * 1000,
    stepMs: 1000,
    targets: Array.from({ length: targets }, (_, n) => `t${n}`),
    arrivals: column(),
    admitted: column(),
    denied: column(),
    demandTokens: column(),
    admittedTokens: column(),
    readBytes: column(),
    writeBytes: column(),
    completions: column(),
    durationNs: column(),
  };
}

let noise = 1;
/** A step that does not compress. */
function noisyStep(i, targets) {
  const record = step(i, targets);
  for (const column of Object.values(record)) {
    if (!(column instanceof Float64Array)) continue;
    for (let n = 0; n < column.length; n++) {
      noise = (Math.imul(noise, 1664525) + 1013904223) >>> 0;
      column[n] = noise;
    }
  }
  return record;
}

/** Leaves a store that has more to do than it can have done. */
async function busy() {
  const store = await openDuckDbHistory({ path, compactEveryMs: 2000 });
  for (let i = 0; i < 40; i++) store.appendStep(step(i, 2000));
  await new Promise((resolve) => setTimeout(resolve, Number(process.argv[4])));
  for (let i = 40; i < 60; i++) store.appendStep(step(i, 2000));
  store.recentDemand(600, 1000).catch(() => {});
  store.compact().catch(() => {});
}

const modes = {
  /** Appends for ever, compacting every few steps, and prints the number of each step that is safe. */
  async append() {
    const store = await openDuckDbHistory({ path, compactEveryMs: 7000, retentionMs: { step: 20_000 } });
    for (let i = Number(process.argv[4]); ; i++) {
      store.appendStep(step(i));
      await store.flush();
      process.stdout.write(`${i}\n`);
    }
  },
  /** Holds the file until it is killed. */
  async hold() {
    const store = await openDuckDbHistory({ path });
    process.stdout.write('holding\n');
    setInterval(() => store.health(), 1000);
  },
  /** Ends without having closed. */
  async forget() {
    const store = await openDuckDbHistory({ path });
    store.appendStep(step(0));
  },
  /** Has nothing but a promise of the store to live for. */
  async wait() {
    const store = await openDuckDbHistory({ path });
    for (let i = 0; i < 20; i++) store.appendStep(step(i));
    await store.flush();
    process.stdout.write(`${(await store.recentDemand(100, 1000)).steps}\n`);
  },
  /** Calls process.exit in the middle of work. */
  async exit() {
    await busy();
    setImmediate(() => process.exit(3));
  },
  /** The same with the store in another thread, which learns nothing of the exit. */
  async nested() {
    prepareExit();
    const worker = new Worker(new URL(import.meta.url), { argv: ['busy', path, process.argv[4]] });
    worker.on('message', () => process.exit(3));
  },
  async busy() {
    await busy();
    setImmediate(() => parentPort.postMessage('now'));
  },
  /** Fills the disk it writes to but for some MB, goes on, and makes room again. */
  async full() {
    const [targets, leaveMb] = process.argv.slice(4).map(Number);
    const store = await openDuckDbHistory({ path, restartMs: 20, compactEveryMs: 10_000 });
    let next = 0;
    const errors = new Set();
    const append = async (enough) => {
      for (let i = 0; i < 2000 && !enough(); i++) {
        store.appendStep(noisyStep(next++, targets));
        await store.flush().catch((error) => errors.add(`${error.code}: ${error.message}`));
      }
      return store.health();
    };
    await append(() => next === 5);
    const ballast = join(dirname(path), 'ballast');
    const file = openSync(ballast, 'w');
    const { bavail, bsize } = statfsSync(dirname(path));
    const block = Buffer.alloc(bsize);
    for (let blocks = bavail - (leaveMb * 2 ** 20) / bsize; blocks > 0; blocks--) writeSync(file, block);
    closeSync(file);
    const full = await append(() => store.health().failed >= 4);
    rmSync(ballast);
    const after = await append(() => store.health().written >= full.written + 5);
    await store.close();
    const again = await openDuckDbHistory({ path });
    const [hour] = await again.series('t1', '1h', 0, Infinity);
    const stored = await again.series('t1', 'step', 0, Infinity);
    await again.close();
    const sum = stored.reduce((total, point) => total + point.arrivals, 0);
    const answer = { full, after, stored: stored.length, errors: [...errors], consistent: hour.arrivals === sum };
    process.stdout.write(JSON.stringify(answer));
  },
  async close() {
    const store = await openDuckDbHistory({ path });
    for (let i = 0; i < 5; i++) store.appendStep(step(i));
    await store.close();
    process.stdout.write(`${JSON.stringify(store.health())}\n`);
  },
  /** Opens a file that may be corrupt, and uses it. Only a crash is a failure. */
  async use() {
    try {
      const store = await openDuckDbHistory({ path, restartMs: 10 });
      try {
        for (const resolution of ['step', '10s', '1m', '1h']) await store.series('t1', resolution, 0, Infinity);
        await store.recentDemand(600, 1000);
        await store.forecasts('t1', 0, Infinity);
        await store.decisions('t1', 0, Infinity);
        for (let i = 1000; i < 1010; i++) store.appendStep(step(i));
        await store.flush();
        await store.compact();
        process.stdout.write('fine\n');
      } catch (error) {
        process.stdout.write(`${error.code}\n`);
      }
      await store.close();
    } catch (error) {
      process.stdout.write(`${error.code}\n`);
    }
  },
};

await modes[mode]();
