import { describe, expect, it } from 'vitest';
import { loadFitter } from '../../src/forecast/augurs.js';
import { FittedPath } from '../../src/forecast/fitted-path.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { fittedKinds } from '../../src/forecast/names.js';
import { Random } from '../../src/learn/random.js';

const bins = 240;
const horizonBins = [2, 10];
const request = (demand: Float64Array) => ({ demand, binS: 30, horizonBins, length: 60 });

function noisy(mean: (bin: number) => number, seed = 3): Float64Array {
  const random = new Random(seed);
  return Float64Array.from({ length: bins }, (_, bin) => random.poisson(mean(bin)));
}

describe.each(fittedKinds)('%s', (kind) => {
  it('forecasts what is steady, with quantiles as wide as it varies', async () => {
    const fitted = await loadFitter(kind);
    const path = new FittedPath(fitted(request(noisy(() => 100)))!);
    const out = new Float32Array(quantileCount);
    path.write(1, 0, 10, out, 0);
    // Ten bins of 100 ± 10 have a mean of 100 ± 3.2.
    expect(out[0]).toBeGreaterThan(93);
    expect(out[0]).toBeLessThan(107);
    expect(out[2]! - out[0]!).toBeGreaterThan(1);
    expect(out[2]! - out[0]!).toBeLessThan(15);
    for (let q = 1; q < quantileCount; q++) expect(out[q]).toBeGreaterThanOrEqual(out[q - 1]!);
  });

  it('gives the same for the same series', async () => {
    const fitted = await loadFitter(kind);
    const demand = noisy((bin) => 50 + 20 * Math.sin(bin / 9));
    expect(fitted(request(demand))).toEqual(fitted(request(demand)));
  });

  it.each([
    ['nothing at all', () => 0],
    ['one burst', (bin: number) => (bin === 200 ? 1e12 : 0)],
    ['what never varies', () => 7],
    ['what grows without end', (bin: number) => 2 ** (bin / 10)],
  ])('finds finite forecasts or none for %s', async (_, demandOf) => {
    const fitted = await loadFitter(kind);
    let found: ReturnType<typeof fitted>;
    try {
      found = fitted(request(Float64Array.from({ length: bins }, (_, bin) => demandOf(bin))));
    } catch {
      // Refusing is an answer too: the target has no forecast of this kind then.
    }
    for (const values of [found?.points, found?.reach, found?.spread])
      expect(values?.every(Number.isFinite) ?? true).toBe(true);
  });
});

describe('prophet', () => {
  it('finds a rhythm and goes on with it', async () => {
    const period = 24;
    const fitted = await loadFitter('prophet');
    const mean = (bin: number) => 400 + 300 * Math.sin((2 * Math.PI * bin) / period);
    const path = new FittedPath(fitted(request(noisy(mean)))!);
    for (const from of [3, 9, 15, 21]) {
      let expected = 0;
      for (let bin = 0; bin < 3; bin++) expected += mean(bins + from + bin) / 3;
      expect(path.mean(from, 3)).toBeGreaterThan(0.6 * expected);
      expect(path.mean(from, 3)).toBeLessThan(1.4 * expected + 20);
    }
  });
});

describe('ets', () => {
  it('follows a change of level without being fitted again', async () => {
    const fitted = await loadFitter('ets');
    const path = new FittedPath(fitted(request(noisy((bin) => (bin < 120 ? 30 : 90))))!);
    const before = path.mean(0, 10);
    for (let bin = 0; bin < 30; bin++) path.advance(Math.sqrt(400));
    expect(path.mean(0, 10)).toBeGreaterThan(2 * before);
  });
});
