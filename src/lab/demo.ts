import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { StepReport } from '../control/loop.js';
import { Foretoken } from '../foretoken.js';
import type { ForetokenEvent } from '../options.js';
import { workerFile } from '../paths.js';
import type { ReportData } from '../report/report.js';
import { Workload } from '../workload/generator.js';
import type { Trace } from '../workload/trace.js';
import type { LoadData } from './demo-load.js';
import { ReferenceBucket } from './reference-bucket.js';
import { replay } from './replay.js';
import { sceneOf } from './scene.js';
import { Score } from './score.js';
import { Series } from './series.js';
import type { ReplayOptions } from './settings.js';

export interface DemoOptions {
  seconds: number;
  targets: number;
  threads: number;
  seed: number;
  /** Folder of the history. */
  out: string;
}

export interface DemoResult {
  report: ReportData;
  scoredFromS: number;
}

const stepMs = 1000;
/** Everything in the workload happens so much faster than usual, for a minute to show what an hour would. */
const timeScale = 0.15;
/** Load begins so long after the threads were told, so that all are ready. */
const leadMs = 600;
/** The resource serves this multiple of the mean demand. */
const headRoom = 2;

/** Offers a generated workload to a live table from several threads, then replays it to other arms. */
export async function runDemo(
  options: DemoOptions,
  hooks: { onStep?: (report: StepReport, atS: number) => void; onEvent?: (event: ForetokenEvent) => void } = {},
): Promise<DemoResult> {
  const trace = workloadTrace(options);
  // Budgets that cannot be lent: where a forecast pays most, and where the arms differ.
  const replayOptions: ReplayOptions = {
    rate: { timesMean: headRoom },
    burstMs: 500,
    stepMs,
    borrow: false,
    arms: ['static', 'reactive'],
    seed: options.seed,
  };
  const scene = sceneOf(trace, replayOptions);
  const { ratePerSec, burst } = scene.settings;

  await using foretoken = await Foretoken.open({
    ratePerSec,
    burst,
    capacity: options.targets,
    borrow: false,
    allocator: 'proportional',
    shadow: [{}, { engine: 'ewma' }, { engine: 'last' }, { allocator: 'credit' }],
    stepMs,
    horizonsMs: [stepMs, 5_000, 30_000],
    history: { path: options.out },
    seed: options.seed,
    ...(hooks.onEvent ? { onEvent: hooks.onEvent } : {}),
  });
  // As every arm of a replay: a tenth of the rate is everyone's in equal parts, whatever is forecast.
  foretoken.addTargets(trace.names.map((name) => ({ name, reservation: scene.floorRate })));

  const series = new Series(trace.names, stepMs);
  const startMs = performance.timeOrigin + performance.now() + leadMs;
  foretoken.watch(
    (report) => {
      const atS = (report.timeMs - startMs) / 1000;
      series.add(report, atS);
      hooks.onStep?.(report, atS);
    },
    { rows: true },
  );
  const loads = split(trace, options.threads).map((part) => offer(foretoken, trace, part, startMs));
  await Promise.all(loads.map(({ done }) => done));
  const shadows = await foretoken.shadows();
  const history = foretoken.historyLocation;
  await foretoken.close();

  const decisions = loads
    .flatMap(({ part, admitted, decidedMs }) =>
      Array.from(part, (request, i) => ({ request, isAdmitted: admitted[i] === 1, atMs: decidedMs[i]! })),
    )
    .sort((a, b) => a.atMs - b.atMs);
  const law = new ReferenceBucket(ratePerSec, burst);
  const score = new Score(scene);
  for (const { request, isAdmitted, atMs } of decisions) {
    if (isAdmitted) law.admit(atMs, 1);
    score.record(trace.timesMs[request]!, trace.target[request]!, 1, isAdmitted);
  }
  const { arms } = await replay(trace, replayOptions);
  const live = { ...score.result(0), lawViolations: law.violations };
  return {
    scoredFromS: scene.scoredFromMs / 1000,
    report: {
      title: 'Foretoken demo',
      command: `foretoken demo --seconds ${options.seconds} --targets ${options.targets} --threads ${options.threads} --seed ${options.seed}`,
      madeAtMs: Date.now(),
      resource: { ratePerSec, burst },
      durationS: options.seconds,
      stepS: stepMs / 1000,
      horizonS: stepMs / 1000,
      targetCount: options.targets,
      requestCount: trace.requests,
      history,
      law: { admissions: decisions.filter(({ isAdmitted }) => isAdmitted).length, violations: law.violations },
      arms: [
        ...Object.entries(arms).map(([name, arm]) => ({ name, ...arm })),
        { name: 'foretoken', variant: 'live', ...live },
      ],
      shadows,
      ...series.result(),
      notes: [
        `Generated tenants offered their requests from ${options.threads} threads to one shared table. The resource serves ${headRoom} times the mean demand, and targets cannot lend to each other.`,
        'The table of arms counts the second half. Static and reactive are replays of the same requests on a virtual clock; reactive is the best of 15 schemes in hindsight.',
      ],
    },
  };
}

function workloadTrace({ seed, targets, seconds }: DemoOptions): Trace {
  const workload = new Workload({
    seed,
    targets,
    timeScale,
    mix: ['periodic', 'rhythms', 'on-off', 'calm', 'correlated', 'clustered'],
    ratePerSec: [20, 400],
  });
  const requests = workload.requests(seconds * 1000);
  return { file: 'generated', ...requests, cost: new Float64Array(requests.requests).fill(1) };
}

/** Indices of each thread's requests: a target's all go to one thread. */
const split = (trace: Trace, threads: number): Uint32Array[] =>
  Array.from({ length: threads }, (_, thread) => {
    const own: number[] = [];
    for (let i = 0; i < trace.requests; i++) if (trace.target[i]! % threads === thread) own.push(i);
    return Uint32Array.from(own);
  });

function offer(foretoken: Foretoken, trace: Trace, part: Uint32Array, startMs: number) {
  const admitted = new SharedArrayBuffer(part.length);
  const decidedMs = new SharedArrayBuffer(8 * part.length);
  const workerData: LoadData = {
    share: foretoken.share(),
    timesMs: Float64Array.from(part, (i) => trace.timesMs[i]!),
    target: Uint32Array.from(part, (i) => trace.target[i]!),
    op: Uint8Array.from(part, (i) => trace.op[i]!),
    bytes: Float64Array.from(part, (i) => trace.bytes[i]!),
    names: trace.names,
    startMs,
    admitted,
    decidedMs,
  };
  const worker = new Worker(workerFile('lab/demo-load'), { workerData, execArgv: [] });
  const failed = once(worker, 'error').then(([error]) => Promise.reject(error));
  return {
    part,
    admitted: new Uint8Array(admitted),
    decidedMs: new Float64Array(decidedMs),
    done: Promise.race([once(worker, 'exit'), failed]),
  };
}
