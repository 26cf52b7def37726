// What the history costs: `node bench/history.js [TARGETS] [STEPS]` (default 10,000 and 600), on the built package.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDuckDbHistory } from '../dist/history/duckdb.js';
import { openMemoryHistory } from '../dist/history/memory.js';

const targets = Number(process.argv[2] ?? 10_000);
const steps = Number(process.argv[3] ?? 600);

let state = 1;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};

/** Steps with requests of 4 KB at 3 a step and target, about Poisson; the same arrays each time, filled anew. */
function generator(count) {
  const names = Array.from({ length: count }, (_, i) => `target-${i}`);
  const column = () => new Float64Array(count);
  const record = {
    timeMs: 0,
    stepMs: 1000,
    targets: names,
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
  return (i) => {
    record.timeMs = 1_700_000_000_000 + i * 1000;
    for (let n = 0; n < count; n++) {
      let arrivals = 0;
      for (let p = random(); p > Math.exp(-3); p *= random()) arrivals += 1;
      const denied = arrivals > 5 ? arrivals - 5 : 0;
      record.arrivals[n] = arrivals;
      record.admitted[n] = arrivals - denied;
      record.denied[n] = denied;
      record.demandTokens[n] = arrivals;
      record.admittedTokens[n] = arrivals - denied;
      record.readBytes[n] = arrivals * 4096;
      record.writeBytes[n] = denied * 4096;
      record.completions[n] = arrivals - denied;
      record.durationNs[n] = Math.floor(random() * 1e6) * arrivals;
    }
    return record;
  };
}

const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const print = (what, value) => console.log(`${what.padEnd(64)} ${value}`);
const ms = (value) => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];

async function disk() {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-bench-'));
  const path = join(folder, 'history.duckdb');
  try {
    let began = performance.now();
    let store = await openDuckDbHistory({ path });
    print('open a new file', ms(performance.now() - began));
    const step = generator(targets);
    const callerMs = [];
    let workerCpuMs = 0;
    for (let i = 0; i < steps; i++) {
      const record = step(i);
      const cpu = cpuMs();
      began = performance.now();
      store.appendStep(record);
      callerMs.push(performance.now() - began);
      await store.flush();
      workerCpuMs += cpuMs() - cpu;
    }
    callerMs.sort((a, b) => a - b);
    print(`appendStep on the caller's thread, ${targets} targets, median`, ms(quantile(callerMs, 0.5)));
    print('  99 %', ms(quantile(callerMs, 0.99)));
    print('one step in all threads, CPU, mean, with rollups and checkpoints', ms(workerCpuMs / steps));
    for (let round = 0; round < 2; round++) {
      const cpu = cpuMs();
      began = performance.now();
      const { targets: names, steps: length } = await store.recentDemand(600, 1000);
      print(`recentDemand of ${names.length} targets and ${length} steps`, ms(performance.now() - began));
      print('  CPU', ms(cpuMs() - cpu));
    }
    began = performance.now();
    const points = await store.series('target-7', '10s', 0, Number.POSITIVE_INFINITY);
    print(`series of one target, 10 s, ${points.length} points`, ms(performance.now() - began));
    began = performance.now();
    await store.compact();
    print('compact', ms(performance.now() - began));
    began = performance.now();
    await store.close();
    print('close', ms(performance.now() - began));
    print('bytes a row on disk, rollups included', (statSync(path).size / (targets * steps)).toFixed(1));
    began = performance.now();
    store = await openDuckDbHistory({ path });
    print('open it again', ms(performance.now() - began));
    await store.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function memory(count, length) {
  const store = await openMemoryHistory();
  const step = generator(count);
  let appendMs = 0;
  for (let i = 0; i < length; i++) {
    const record = step(i);
    const began = performance.now();
    store.appendStep(record);
    appendMs += performance.now() - began;
  }
  print(
    `memory: appendStep, ${count} targets, mean of ${length} steps`,
    `${((appendMs / length) * 1000).toFixed(1)} µs`,
  );
  print('  resident memory afterwards', `${Math.round(process.memoryUsage().rss / 2 ** 20)} MB`);
}

await disk();
await memory(16, 100_000);
await memory(200, 20_000);
