// Decisions of one and of two threads on one table, million a second.
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Foretoken } from '../dist/index.js';

const rounds = 7;
const spanMs = 150;
const unlimited = 1e12;

const arms = {
  strict1: { leased: false, targets: ['a'] },
  strict2different: { leased: false, targets: ['a', 'b'] },
  strict2same: { leased: false, targets: ['a', 'a'] },
  leased2same: { leased: true, targets: ['a', 'a'] },
};

/** What one thread gets through between two moments of the common clock. */
function work(target, leased, fromMs) {
  const now = () => performance.timeOrigin + performance.now();
  while (now() < fromMs);
  let calls = 0;
  let denied = 0;
  const untilMs = fromMs + spanMs;
  while (now() < untilMs) {
    if (leased) for (let i = 0; i < 5000; i++) denied += target.tryAcquireLeased(1) ? 0 : 1;
    else for (let i = 0; i < 5000; i++) denied += target.tryAcquire(1) ? 0 : 1;
    calls += 5000;
  }
  if (denied > 0) throw new Error(`${denied} requests were denied`);
  return calls / spanMs / 1000;
}

if (!isMainThread && workerData?.share) {
  const attached = Foretoken.attach(workerData.share);
  parentPort.on('message', ({ target, leased, fromMs }) => {
    parentPort.postMessage(work(attached.target(target), leased, fromMs));
  });
  parentPort.postMessage('ready');
}

const answer = (worker) =>
  new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.removeAllListeners('error').once('error', reject);
  });

/** Medians over interleaved rounds; two workers, so that both threads are alike. */
export async function threadsBench() {
  const foretoken = await Foretoken.open({
    ratePerSec: unlimited,
    burst: unlimited,
    capacity: 2,
    borrow: false,
    control: false,
  });
  foretoken.addTargets([{ name: 'a' }, { name: 'b' }]);
  const workers = [0, 1].map(
    () => new Worker(fileURLToPath(import.meta.url), { workerData: { share: foretoken.share() } }),
  );
  await Promise.all(workers.map(answer));
  const rates = Object.fromEntries(Object.keys(arms).map((name) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, { leased, targets }] of Object.entries(arms)) {
      const fromMs = performance.timeOrigin + performance.now() + 20;
      const done = targets.map((target, i) => {
        workers[i].postMessage({ target, leased, fromMs });
        return answer(workers[i]);
      });
      const sum = (await Promise.all(done)).reduce((a, b) => a + b, 0);
      // The first round warms up.
      if (round >= 0) rates[name].push(sum);
    }
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  await foretoken.close();
  return Object.fromEntries(
    Object.entries(rates).map(([name, values]) => [name, values.toSorted((a, b) => a - b)[values.length >> 1]]),
  );
}
