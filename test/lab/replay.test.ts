import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ReplayResult, replay } from '../../src/lab/replay.js';
import type { ReplayOptions } from '../../src/lab/settings.js';
import { Workload } from '../../src/workload/generator.js';
import { readTrace, type Trace } from '../../src/workload/trace.js';

interface Decision {
  arm: string;
  timeMs: number;
  target: string;
  cost: number;
  isAdmitted: boolean;
}

async function played(trace: Trace, options: ReplayOptions): Promise<{ result: ReplayResult; decisions: Decision[] }> {
  const decisions: Decision[] = [];
  const result = await replay(trace, options, {
    sink: {
      decide: (arm, timeMs, target, cost, isAdmitted) => decisions.push({ arm, timeMs, target, cost, isAdmitted }),
      drain: async () => {},
    },
  });
  return { result, decisions };
}

/** What the decisions of one arm say by themselves: sums, and a bucket that starts full and never owes. */
function recount(decisions: readonly Decision[], isReal: (name: string) => boolean, ratePerSec: number, burst: number) {
  const offered = new Map<string, number>();
  const admitted = new Map<string, number>();
  let hogAdmitted = 0;
  let level = burst;
  let lastMs = decisions[0]?.timeMs ?? 0;
  let overruns = 0;
  for (const { timeMs, target, cost, isAdmitted } of decisions) {
    expect(timeMs).toBeGreaterThanOrEqual(lastMs);
    level = Math.min(burst, level + ((timeMs - lastMs) / 1000) * ratePerSec);
    lastMs = timeMs;
    if (isAdmitted) {
      level -= cost;
      if (level < -1e-6 * burst) overruns += 1;
    }
    if (!isReal(target)) {
      if (isAdmitted) hogAdmitted += cost;
      continue;
    }
    offered.set(target, (offered.get(target) ?? 0) + cost);
    if (isAdmitted) admitted.set(target, (admitted.get(target) ?? 0) + cost);
  }
  const sum = (map: Map<string, number>): number => [...map.values()].reduce((a, b) => a + b, 0);
  const all = sum(offered);
  const worst = Math.max(
    0,
    ...[...offered].filter(([, o]) => o >= 0.01 * all).map(([name, o]) => (o - (admitted.get(name) ?? 0)) / o),
  );
  return { offered: all, admitted: sum(admitted), worst, hogAdmitted, overruns };
}

/** Every figure of every arm, from the decisions alone. */
function checkFigures(trace: Trace, { result, decisions }: { result: ReplayResult; decisions: Decision[] }): void {
  const { ratePerSec, burst, warmup } = result.settings;
  const scoredFromMs = warmup * trace.durationMs;
  const scoredTokens = trace.cost.reduce((sum, cost, i) => (trace.timesMs[i]! >= scoredFromMs ? sum + cost : sum), 0);
  const real = new Set(trace.names);
  for (const [arm, score] of Object.entries(result.arms)) {
    const own = decisions.filter((decision) => decision.arm === arm);
    expect(Math.min(...own.map(({ timeMs }) => timeMs))).toBeGreaterThanOrEqual(scoredFromMs);
    const counted = recount(own, (name) => real.has(name), ratePerSec, burst);
    expect(counted.offered).toBeCloseTo(scoredTokens, 6);
    expect(score.offered).toBeCloseTo(counted.offered, 6);
    expect(score.admitted).toBeCloseTo(counted.admitted, 6);
    expect(score.throttled).toBeCloseTo(counted.offered - counted.admitted, 6);
    expect(score.throttledFraction).toBeCloseTo(score.throttled / score.offered, 9);
    expect(score.worstTargetThrottledFraction).toBeCloseTo(counted.worst, 9);
    expect(score.hogAdmitted).toBeCloseTo(counted.hogAdmitted, 6);
    const capacity = (ratePerSec * (trace.durationMs - scoredFromMs)) / 1000;
    expect(score.utilization).toBeCloseTo((counted.admitted + counted.hogAdmitted) / capacity, 9);
    expect(score.withheldFraction).toBeGreaterThanOrEqual(0);
    expect(score.withheldFraction).toBeLessThanOrEqual(1);
    expect({ arm, overruns: counted.overruns, lawViolations: score.lawViolations }).toEqual({
      arm,
      overruns: 0,
      lawViolations: 0,
    });
  }
  const { reactive, foretoken, oracle } = result.arms;
  const toSave = reactive!.throttled - oracle!.throttled;
  if (toSave < 0.005 * reactive!.offered) expect(result.capture).toBeNull();
  else expect(result.capture).toBeCloseTo((reactive!.throttled - foretoken!.throttled) / toSave, 9);
}

describe('a replay of a generated workload', () => {
  const seconds = 300;
  const workload = new Workload({
    seed: 11,
    targets: 8,
    timeScale: 0.15,
    mix: ['periodic', 'rhythms', 'on-off', 'calm'],
    ratePerSec: [4, 40],
  });
  const generated = workload.requests(seconds * 1000);
  const trace: Trace = { file: 'generated', ...generated, cost: new Float64Array(generated.requests).fill(1) };
  const options: ReplayOptions = { rate: { timesMean: 2 }, seed: 3 };
  let first: { result: ReplayResult; decisions: Decision[] };
  beforeAll(async () => {
    first = await played(trace, options);
  }, 120_000);

  it('says of every arm nothing that its decisions do not say', () => {
    expect(Object.keys(first.result.arms)).toEqual(['static', 'reactive', 'foretoken', 'oracle', 'pool']);
    checkFigures(trace, first);
  });

  it('comes out the same again, decision by decision, refinement included', async () => {
    const again = await played(trace, options);
    expect(again.result).toEqual(first.result);
    expect(again.decisions).toEqual(first.decisions);
  }, 120_000);

  it('throttles less with its forecasts than the best scheme in hindsight that follows the past', () => {
    const { reactive, foretoken } = first.result.arms;
    expect(reactive!.throttledFraction).toBeGreaterThan(0.01);
    expect(foretoken!.throttled).toBeLessThan(0.8 * reactive!.throttled);
    expect(first.result.capture).toBeGreaterThan(0.25);
  });

  it('with borrowing and hogs keeps the law and every figure too', async () => {
    const lent = await played(trace, {
      ...options,
      borrow: true,
      hogs: 2,
      arms: ['reactive', 'foretoken', 'oracle', 'shared'],
    });
    checkFigures(trace, lent);
    for (const arm of ['foretoken', 'shared'] as const) expect(lent.result.arms[arm]!.hogAdmitted).toBeGreaterThan(0);
    expect(lent.result.arms.foretoken!.throttledFraction).toBeLessThan(0.5);
  }, 120_000);

  it('between holders gives each target one holder, and keeps the law', async () => {
    const held = await played(trace, { ...options, holders: 3, arms: ['static', 'reactive', 'foretoken', 'oracle'] });
    checkFigures(trace, held);
  }, 120_000);
});

const recorded = new URL('../../../shared/traces/', import.meta.url).pathname;
describe.skipIf(!existsSync(recorded))(
  'a replay of recorded traffic (needs ../shared/traces beside the checkout)',
  () => {
    it.each(['cloudphysics', 'financial1'])(
      'an excerpt of %s: the figures are those of the decisions',
      async (name) => {
        const whole = await readTrace(join(recorded, `${name}.csv.gz`));
        const trace = head(whole, 12_000);
        checkFigures(trace, await played(trace, { stepMs: 5000 }));
      },
      120_000,
    );
  },
);

/** The first requests of a trace, as a trace of its own. */
function head(trace: Trace, requests: number): Trace {
  const seen = new Set(trace.target.subarray(0, requests));
  expect([...seen]).toEqual([...seen].sort((a, b) => a - b));
  const { file, names, timesMs, target, op, bytes, cost } = trace;
  return {
    file,
    requests,
    names: names.slice(0, seen.size),
    timesMs: timesMs.slice(0, requests),
    target: target.slice(0, requests),
    op: op.slice(0, requests),
    bytes: bytes.slice(0, requests),
    cost: cost.slice(0, requests),
    durationMs: timesMs[requests - 1]!,
  };
}
