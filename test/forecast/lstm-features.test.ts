import { describe, expect, it } from 'vitest';
import { FeatureBank, featureCount, forgetAfterSteps } from '../../src/forecast/features.js';
import { Random } from '../../src/learn/random.js';

/** Runs rows of demand through a bank; returns the features of each row after the last step. */
function run(bank: FeatureBank, demands: readonly (readonly number[])[]): Float32Array {
  const out = new Float32Array(bank.rows * featureCount);
  for (const demand of demands) {
    bank.advanceTotal(demand.reduce((sum, value) => sum + value, 0));
    demand.forEach((value, row) => void bank.advance(row, value, out, row * featureCount));
  }
  return out;
}

/** A bursty row with some noise, in whole requests. */
function bursty(steps: number, seed = 1): number[] {
  const random = new Random(seed);
  return Array.from({ length: steps }, (_, step) => random.poisson(step % 20 < 2 ? 60 : 1));
}

/** Columns of season and clock features: mean demand over the next 1, 5, 30 steps, as log(ratio + 0.02). */
const seasonAt = 23;
const clockAt = 26;
const ahead = (features: Float32Array, at: number, scale: number) =>
  [0, 1, 2].map((k) => (Math.exp(features[at + k]!) - 0.02) * scale);

describe('the features', () => {
  it('do not depend on the scale of the demand: requests, bytes, tenths', () => {
    const demand = bursty(400);
    const of = (factor: number) =>
      run(
        new FeatureBank(1),
        demand.map((value) => [value * factor]),
      );
    const plain = of(1);
    for (const factor of [0.125, 4096, 2 ** 30])
      of(factor).forEach((value, k) => void expect(value).toBeCloseTo(plain[k]!, 3));
  });

  it('are finite and bounded for silence, single bursts, and demand of any size', () => {
    const silent = new Array<number>(500).fill(0);
    for (const demand of [[5, ...silent], [1e15, ...silent, 1e-9], [1e-9, 1e15], [...silent, 1], bursty(3000)])
      for (const value of run(
        new FeatureBank(1),
        demand.map((one) => [one]),
      )) {
        expect(Number.isFinite(value)).toBe(true);
        expect(Math.abs(value)).toBeLessThanOrEqual(12);
      }
  });

  it('forget a row after long silence, and know nothing of it before its first demand', () => {
    const bank = new FeatureBank(2);
    run(bank, [[0, 3]]);
    expect(bank.isActive(0)).toBe(false);
    expect(bank.isActive(1)).toBe(true);
    run(bank, new Array(forgetAfterSteps).fill([0, 0]));
    expect(bank.isActive(1)).toBe(true);
    run(bank, [[0, 0]]);
    expect(bank.isActive(1)).toBe(false);
    expect(bank.scale(1)).toBe(0);
  });

  it('start a row that was reset as if it were new', () => {
    const used = new FeatureBank(1);
    run(
      used,
      bursty(100).map((value) => [value]),
    );
    used.reset(0);
    const fresh = new FeatureBank(1);
    run(
      fresh,
      bursty(100, 9).map((value) => [value]),
    );
    fresh.reset(0);
    const out = [new Float32Array(featureCount), new Float32Array(featureCount)] as const;
    used.advance(0, 7, out[0], 0);
    fresh.advance(0, 7, out[1], 0);
    // The last three tell of all rows together.
    expect(out[0].slice(0, -3)).toEqual(out[1].slice(0, -3));
  });

  it('find a period and foresee the next burst by it and by the clock of bursts', () => {
    const period = 20;
    const demand = Array.from({ length: 12 * period }, (_, step) => [step % period === 7 ? 100 : 0]);
    const bank = new FeatureBank(1);
    // The last step is 11·20 + 4: the next burst comes in the third step after it.
    const features = run(bank, demand.slice(0, 11 * period + 5));
    const scale = bank.scale(0);
    const [season1, season5, season30] = ahead(features, seasonAt, scale) as [number, number, number];
    expect(season1).toBeLessThan(1);
    expect(season5).toBeCloseTo(20, 0);
    expect(season30).toBeCloseTo(200 / 30, 0);
    const [clock1, clock5, clock30] = ahead(features, clockAt, scale) as [number, number, number];
    expect(clock1).toBeLessThan(10);
    expect(clock5).toBeGreaterThan(15);
    expect(clock5).toBeLessThan(25);
    expect(clock30).toBeGreaterThan(4);
    expect(clock30).toBeLessThan(9);
  });

  it('see no period in noise', () => {
    const random = new Random(3);
    const features = run(
      new FeatureBank(1),
      Array.from({ length: 600 }, () => [random.poisson(4)]),
    );
    expect(features[22]).toBeLessThan(0.35);
  });

  it('can be moved to another bank', () => {
    const from = new FeatureBank(2);
    run(
      from,
      bursty(300).map((value) => [0, value]),
    );
    const floats = new Float32Array(FeatureBank.rowFloats);
    from.readRow(1, floats, 0);
    const to = new FeatureBank(1);
    to.writeRow(0, floats, 0);
    to.total.set(from.total);
    const out = [new Float32Array(featureCount), new Float32Array(featureCount)] as const;
    for (const value of bursty(100, 2)) {
      from.advanceTotal(value);
      to.advanceTotal(value);
      from.advance(1, value, out[0], 0);
      to.advance(0, value, out[1], 0);
    }
    // The search for a period goes in turn by row, so its two features may differ for a while.
    const without = (features: Float32Array) => features.filter((_, k) => k < 21 || k > 25);
    expect(without(out[1])).toEqual(without(out[0]));
  });
});
