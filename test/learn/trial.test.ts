import { describe, expect, it } from 'vitest';
import { quantileCount, quantileLevels } from '../../src/forecast/forecaster.js';
import { Random } from '../../src/learn/random.js';
import { Trial } from '../../src/learn/trial.js';

const median = quantileLevels.indexOf(0.5);
const high = quantileLevels.indexOf(0.9);

/** A median and a q90 of one row at one horizon of a step, tokens/s. */
function says(q50: number, q90: number): Float32Array {
  const quantiles = new Float32Array(quantileCount);
  quantiles[median] = q50;
  quantiles[high] = q90;
  return quantiles;
}

/** Demand of mean 4, Poisson, or none. */
function tried(
  steps: number,
  shipped: Float32Array,
  champion: Float32Array,
  challenger: Float32Array,
  mean = 4,
): Trial {
  const weights = { shape: { features: 1, hidden: 1, horizons: [1] }, values: new Float32Array(1), featureVersion: 1 };
  const trial = new Trial(weights as never, { stepMs: 1000, horizonsMs: [1000] });
  const random = new Random(2);
  for (let step = 0; step < steps; step++)
    trial.step([mean > 0 ? random.poisson(mean) : 0], 1, shipped, champion, challenger);
  return trial;
}

describe('a trial', () => {
  const [good, bad, worse] = [says(4, 6), says(9, 20), says(12, 30)];

  it('finds for a challenger that is better than what serves, and not for one that is worse', () => {
    expect(tried(100, bad, bad, good).gain()).toBeGreaterThan(0.3);
    expect(tried(100, bad, good, bad).gain()).toBeLessThan(-0.5);
  });

  it('holds nothing against a challenger that is worse than the shipped model, as it would not be heard then', () => {
    expect(tried(100, good, good, worse).gain()).toBe(0);
  });

  it('judges by the best mix with the shipped model', () => {
    expect(tried(100, says(1, 2), says(1, 2), says(7, 10)).gain()).toBeGreaterThan(0.2);
  });

  it('is over sooner where the challenger is clearly better', () => {
    expect(tried(59, bad, bad, good).isOver).toBe(false);
    expect(tried(60, bad, bad, good).isOver).toBe(true);
    expect(tried(60, bad, good, bad).isOver).toBe(false);
  });

  it('is over after some minutes, and says nothing where nothing came', () => {
    expect(tried(239, good, good, good).isOver).toBe(false);
    expect(tried(240, good, good, good).isOver).toBe(true);
    expect(tried(100, says(0, 0), says(0, 0), says(0, 0), 0).gain()).toBeNaN();
  });
});
