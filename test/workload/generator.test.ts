import { describe, expect, it } from 'vitest';
import { behaviours, furtherBehaviours, Workload } from '../../src/workload/generator.js';

const total = (values: Iterable<number>) => [...values].reduce((sum, value) => sum + value, 0);

describe('the generated workload', () => {
  it('is the same for the same seed and another for another', () => {
    const series = (seed: number) => new Workload({ seed, targets: 12 }).series(200, 1000);
    expect(series(3)).toEqual(series(3));
    expect(series(3)).not.toEqual(series(4));
  });

  it('holds every behaviour, and counts that are whole and finite', () => {
    const workload = new Workload({ seed: 1, targets: 80, turnover: true });
    expect(new Set(workload.tenants.map((tenant) => tenant.behaviour))).toEqual(
      new Set([...behaviours, ...furtherBehaviours]),
    );
    const data = workload.series(300, 1000);
    expect(data).toHaveLength(300 * 80);
    expect(data.every((count) => Number.isInteger(count) && count >= 0)).toBe(true);
    expect(total(data)).toBeGreaterThan(0);
  });

  it('keeps calm tenants near their rate and lets bursty ones stand far above theirs', () => {
    const peakOverMean = (mix: 'calm' | 'bulk' | 'periodic') => {
      const ratios = Array.from({ length: 10 }, (_, seed) => {
        const data = new Workload({ seed, targets: 1, mix: [mix], ratePerSec: [50, 50] }).series(2000, 1000);
        return Math.max(...data) / Math.max(1e-9, total(data) / data.length);
      });
      return ratios.sort((a, b) => a - b)[5]!;
    };
    expect(peakOverMean('calm')).toBeLessThan(4);
    expect(peakOverMean('periodic')).toBeGreaterThan(4);
    expect(peakOverMean('bulk')).toBeGreaterThan(15);
  });

  it('offers as much in long steps as in short ones', () => {
    const options = { seed: 5, targets: 40, mix: ['periodic', 'calm'] as const };
    const short = total(new Workload(options).series(3000, 1000));
    const long = total(new Workload(options).series(600, 5000));
    expect(long / short).toBeGreaterThan(0.8);
    expect(long / short).toBeLessThan(1.25);
  });

  it('gives requests as a trace holds them: in time order, with known targets, operations and whole sectors', () => {
    const workload = new Workload({ seed: 2, targets: 20 });
    const requests = workload.requests(30_000);
    expect(requests.requests).toBeGreaterThan(100);
    expect(requests.names).toEqual(workload.tenants.map((tenant) => tenant.name));
    const { timesMs, target, op, bytes } = requests;
    expect(timesMs.every((time, i) => time < 30_000 && (i === 0 || time >= timesMs[i - 1]!))).toBe(true);
    expect(target.every((one) => one < 20)).toBe(true);
    expect(op.every((one) => one === 1 || one === 2)).toBe(true);
    expect(bytes.every((size) => size > 0 && size % 512 === 0)).toBe(true);
  });

  it('goes on where the last call ended', () => {
    const once = new Workload({ seed: 8, targets: 10 }).requests(20_000);
    const twice = new Workload({ seed: 8, targets: 10 });
    const halves = [twice.requests(10_000), twice.requests(10_000)];
    expect(halves[0]!.requests + halves[1]!.requests).toBe(once.requests);
    expect(halves[1]!.timesMs[0]! + 10_000).toBeCloseTo(once.timesMs[halves[0]!.requests]!, 6);
  });
});
