// A process of its own for the tests of ways to end: `node child.js MODE [PATH]`. Runs the built package.
import { Worker } from 'node:worker_threads';
import { Foretoken } from '../../dist/index.js';

const [mode, path, delay] = process.argv.slice(2);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A table whose controller has much to do: short steps, many targets, the LSTM and a history on disk. */
async function busy() {
  const foretoken = await Foretoken.open({
    ratePerSec: 100_000,
    capacity: 500,
    stepMs: 100,
    tickMs: 20,
    horizonsMs: [500],
    ...(path ? { history: { path } } : {}),
  });
  const targets = foretoken.addTargets(Array.from({ length: 500 }, (_, i) => ({ name: `t${i}` })));
  const offer = () => {
    for (const target of targets) target.tryAcquire();
  };
  offer();
  return { foretoken, offer };
}

const modes = {
  /** Ends by having nothing more to do; nobody closes. */
  async forget() {
    const { offer } = await busy();
    await sleep(300);
    offer();
  },
  async close() {
    const { foretoken, offer } = await busy();
    await sleep(300);
    offer();
    await foretoken.close();
  },
  async exit() {
    const { offer } = await busy();
    for (let i = 0; i < 5; i++) {
      await sleep(100);
      offer();
    }
    await sleep(Number(delay));
    process.exit(3);
  },
  async throw() {
    const { offer } = await busy();
    await sleep(400);
    offer();
    setTimeout(() => {
      throw new Error('thrown on purpose');
    }, 50);
  },
  /** Exits while the controller is only starting. */
  async early() {
    Foretoken.open({ ratePerSec: 1, ...(path ? { history: { path } } : {}) }).catch(() => {});
    await sleep(Number(delay));
    process.exit(3);
  },
  /** Prints how much was stored each step until it is killed. */
  async run() {
    const { foretoken, offer } = await busy();
    let steps = 0;
    foretoken.watch((report) => process.stdout.write(`${++steps} ${report.demandTokens}\n`));
    setInterval(offer, 50);
  },
  /** Opens where it cannot, and says what threads are left. */
  async refused() {
    const started = new Set();
    process.on('worker', (worker) => {
      started.add(worker);
      worker.on('exit', () => started.delete(worker));
    });
    try {
      await Foretoken.open({ ratePerSec: 1, history: { path } });
    } catch (error) {
      process.stdout.write(`${error.name} ${error.code} ${started.size}\n`);
    }
  },
  /** A thread that opened a table and ends itself. */
  async thread() {
    const worker = new Worker(new URL(import.meta.url), { argv: ['exit', path, delay] });
    worker.on('exit', (code) => process.stdout.write(`${code}\n`));
  },
};

await modes[mode]();
