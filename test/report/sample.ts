import type { ReportData } from '../../src/report/report.js';

/** A report of two minutes in which a burst every 20 s is foreseen better and better. */
export function sample(names: readonly string[] = ['tenant-07', 'nightly backup', 'web']): ReportData {
  const steps = 120;
  const timeS = Float64Array.from({ length: steps }, (_, i) => i);
  let seed = 7;
  const random = (): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
  const targets = names.map((name, index) => {
    const burst = (i: number) => (i + index * 7) % 20 < 5;
    const demand = timeS.map((_, i) => (burst(i) ? 900 + 300 * random() : 120 + 80 * random()));
    const mean = (i: number) => {
      let sum = 0;
      for (let k = i - 4; k <= i; k++) sum += burst(k) ? 1050 : 160;
      return sum / 5;
    };
    const learnt = (i: number) => Math.min(1, i / 60);
    const q50 = timeS.map((_, i) => (i < 5 ? Number.NaN : learnt(i) * mean(i) + (1 - learnt(i)) * 390));
    const q90 = q50.map((q, i) => q * (1.6 - 0.4 * learnt(i)));
    const admitted = demand.map((d, i) => (d > 800 ? Math.min(d, 650 + 400 * learnt(i)) : d));
    const denied = demand.map((d, i) => d - admitted[i]!);
    const level = timeS.map((_, i) => (burst(i + 2) || burst(i + 1) ? 700 * learnt(i) + 200 : burst(i) ? 60 : 220));
    return { name, timeS, demand, q50, q90, level, admitted, denied };
  });
  const total = (column: 'demand' | 'admitted') =>
    timeS.map((_, i) => targets.reduce((sum, target) => sum + target[column][i]!, 0));
  const arm = (name: string, throttledFraction: number, worst: number, variant?: string) => ({
    name,
    ...(variant === undefined ? {} : { variant }),
    offered: 128_400,
    admitted: 128_400 * (1 - throttledFraction),
    throttledFraction,
    worstTargetThrottledFraction: worst,
    utilization: 0.52 * (1 - throttledFraction),
    lawViolations: 0,
  });
  return {
    title: 'Foretoken on a bursty workload',
    madeAtMs: Date.UTC(2026, 10, 24, 9, 30),
    command: 'foretoken demo',
    resource: { ratePerSec: 2000, burst: 4000 },
    durationS: steps,
    stepS: 1,
    horizonS: 5,
    targetCount: 24,
    requestCount: 1_284_000,
    arms: [
      arm('static', 0.2137, 0.481),
      arm('reactive', 0.0792, 0.232, 'EWMA 5 × 2'),
      arm('foretoken', 0.0311, 0.094),
      arm('oracle', 0.0098, 0.02),
    ],
    capture: 0.69,
    law: { admissions: 1_244_068, violations: 0 },
    total: { timeS, demand: total('demand'), admitted: total('admitted') },
    targets,
    history: '/var/lib/foretoken/history.duckdb',
    notes: ['The LSTM was refined twice; one refinement was better on unseen steps and is in use.'],
  };
}
