import { expect, it } from 'vitest';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { baseCount } from '../../src/forecast/streams.js';
import { ownRate, Weights } from '../../src/forecast/weights.js';

it('weights of a row that slept for days still know who was better', () => {
  const weights = new Weights(0);
  weights.grow(1);
  // One base is always right, the others say far too much.
  const bases = new Float32Array(baseCount).fill(1000);
  bases[2] = 10;
  const median = (): number => {
    const out = new Float64Array(quantileCount);
    weights.mix(0, 0, false, bases, 0, [], 0, out, new Float64Array(quantileCount));
    return out[Math.floor(quantileCount / 2)]!;
  };
  for (let step = 0; step < 200; step++) weights.score(0, 0, 10, 10, bases, 0, [], 0, ownRate(1), false);
  expect(median()).toBeLessThan(30);
  weights.fade(0, 1_000_000, 1, 0);
  expect(median()).toBeLessThan(30);
});
