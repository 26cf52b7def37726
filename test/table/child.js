// A process or thread of its own for the tests of sharing and of ways to end: `node child.js MODE [ARG…]`. Runs the
// built package.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Foretoken } from '../../dist/index.js';
import { BucketTable } from '../../dist/table/table.js';

const [mode, ...args] = isMainThread ? process.argv.slice(2) : workerData.argv;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const thread = (argv, share) => new Worker(new URL(import.meta.url), { workerData: { argv, share } });
const ended = (worker) => new Promise((resolve) => worker.once('exit', resolve));

const modes = {
  /** Opens a table by name and says what it finds; then does what it is told on stdin, line by line, until told to end. */
  async share(name, options) {
    const foretoken = await Foretoken.open({
      name,
      ratePerSec: 1000,
      burst: 100,
      control: false,
      ...JSON.parse(options ?? '{}'),
    });
    say('open');
    process.stdin.setEncoding('utf8');
    for await (const lines of process.stdin)
      for (const line of lines.split('\n').filter(Boolean)) {
        const answer = await new Function('foretoken', `return (async () => (${line}))()`)(foretoken);
        say(answer ?? null);
      }
    await foretoken.close();
  },
  /** Waits in line for ever. */
  async wait(name, target, cost) {
    const foretoken = await Foretoken.open({ name, ratePerSec: 1000, burst: 100, control: false });
    const wait = foretoken.target(target).acquire(Number(cost), { deadlineMs: 600_000 });
    say('waiting');
    await wait;
    say('admitted');
  },
  /** Threads that attach and end in different ways, again and again; the table must survive them all. */
  async threads(ways) {
    const foretoken = await Foretoken.open({ ratePerSec: 1e9, control: false });
    const target = foretoken.addTarget('a');
    for (const way of ways.split(',')) {
      const worker = thread([way], foretoken.share());
      worker.on('error', () => {});
      if (way === 'terminated') setTimeout(() => worker.terminate(), 100);
      if (way === 'attaches') worker.once('message', () => setTimeout(() => worker.terminate(), 5));
      await ended(worker);
    }
    say(target.tryAcquire());
    say(target.totals().admitted > ways.split(',').length);
    await foretoken.close();
  },
  /** Many threads load and unload the addon at once, the main thread never. */
  async unload() {
    for (let round = 0; round < 3; round++)
      await Promise.all(Array.from({ length: 4 }, (_, i) => ended(thread([i % 2 ? 'own' : 'ownExits'], undefined))));
    say('done');
  },
  /** Ends while a thread uses the table, in the way it is told. */
  async ends(way) {
    const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 10, control: false });
    const target = foretoken.addTarget('a');
    thread(['busy'], foretoken.share());
    const waiting = target.acquire(10).then(() => target.acquire(10, { deadlineMs: 600_000 }));
    waiting.catch(() => {});
    await sleep(150);
    if (way === 'exit') process.exit(3);
    if (way === 'throw') throw new Error('thrown on purpose');
    if (way === 'signal') process.kill(process.pid, 'SIGTERM');
    if (way === 'close') {
      await foretoken.close();
      process.exitCode = 4;
      process.exit();
    }
  },
  /** Ends by having nothing more to do, its waits over, nobody having closed. */
  async idle() {
    const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 10, control: false });
    const target = foretoken.addTarget('a');
    await Promise.all(Array.from({ length: 100 }, () => target.acquire()));
    const { settled } = await foretoken.close().then(() => ({ settled: true }));
    say(settled);
  },

  // ---- what threads do ----
  async returns() {
    for (let i = 0; i < 100; i++) this.attached().tryAcquire();
  },
  async exits() {
    this.attached().tryAcquire();
    process.exit(5);
  },
  async throws() {
    this.attached().tryAcquire();
    throw new Error('thrown on purpose');
  },
  async terminated() {
    const target = this.attached();
    for (;;) target.tryAcquire();
  },
  async attaches() {
    parentPort.postMessage('attaches');
    for (;;) this.attached().tryAcquire();
  },
  async waits() {
    const target = this.attached();
    for (let i = 0; i < 10; i++) await target.acquire();
    target.acquire(1e8).catch(() => {});
    setImmediate(() => process.exit());
  },
  async busy() {
    const target = this.attached();
    for (;;) {
      for (let i = 0; i < 1000; i++) target.tryAcquire();
      await sleep(1);
    }
  },
  async own() {
    const table = BucketTable.create({ capacity: 10, ratePerSec: 10, burst: 10, clock: 'monotonic' });
    const handle = table.addTarget({ mayBorrow: true });
    for (let i = 0; i < 1000; i++) table.tryAcquire(handle, 1);
  },
  async ownExits() {
    const foretoken = await Foretoken.open({ ratePerSec: 10, control: false });
    foretoken.addTarget('a').tryAcquire();
    process.exit(1);
  },
  attached: () => Foretoken.attach(workerData.share).target('a'),
};

await modes[mode](...args);
