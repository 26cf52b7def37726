import { expect, it } from 'vitest';
import { autocorrelate } from '../../src/forecast/autocorrelation.js';
import { Random } from '../../src/learn/random.js';

it('sums the same products whichever way lags are taken together', () => {
  const random = new Random(3);
  for (const length of [1, 2, 5, 13, 64]) {
    const series = Float64Array.from({ length }, () => random.between(-1, 1));
    for (const first of [0, 1, 2, 3]) {
      const last = length - 1;
      const sums = new Float64Array(length);
      autocorrelate(series, length, first, last, sums);
      for (let lag = first; lag <= last; lag++) {
        let sum = 0;
        for (let i = lag; i < length; i++) sum += series[i]! * series[i - lag]!;
        expect(sums[lag], `length ${length}, lag ${lag}`).toBeCloseTo(sum, 12);
      }
    }
  }
});
