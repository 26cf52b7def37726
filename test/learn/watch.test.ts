import { describe, expect, it } from 'vitest';
import { quantileCount, quantileLevels } from '../../src/forecast/forecaster.js';
import { Random } from '../../src/learn/random.js';
import { LiveWatch } from '../../src/learn/watch.js';

const horizonsMs = [1000, 5000];
const median = quantileLevels.indexOf(0.5);
const high = quantileLevels.indexOf(0.9);

/** Quantiles of all rows: a median and a q90, tokens/s, at every horizon. */
function says(rows: number, q50: number, q90: number): Float32Array {
  const quantiles = new Float32Array(rows * horizonsMs.length * quantileCount);
  for (let at = 0; at < quantiles.length; at += quantileCount) {
    quantiles[at + median] = q50;
    quantiles[at + high] = q90;
  }
  return quantiles;
}

/** Poisson demand of mean 4 a step, watched while two models say the same thing over and over. */
function watch(steps: number, shipped: Float32Array, refined: Float32Array, rows = 3): LiveWatch {
  const watched = new LiveWatch({ stepMs: 1000, horizonsMs });
  const random = new Random(1);
  for (let step = 0; step < steps; step++)
    watched.step(
      Float64Array.from({ length: rows }, () => random.poisson(4)),
      rows,
      shipped,
      refined,
    );
  return watched;
}

describe('the live watch over a refined model', () => {
  it('finds for the shipped model once the refined one is worse for minutes', () => {
    const { wins, gain } = watch(600, says(3, 4, 6), says(3, 9, 20)).verdict();
    expect(wins).toBe(true);
    expect(gain).toBeGreaterThan(0.2);
  });

  it('leaves a better or an equal one alone', () => {
    expect(watch(600, says(3, 9, 20), says(3, 4, 6)).verdict().wins).toBe(false);
    expect(watch(600, says(3, 4, 6), says(3, 4, 6)).verdict().wins).toBe(false);
  });

  it('says nothing after a minute, nor after another model was refined, which is trusted as the one before', () => {
    expect(watch(60, says(3, 4, 6), says(3, 9, 20)).verdict().wins).toBe(false);
    const watched = watch(600, says(3, 4, 6), says(3, 9, 20));
    watched.restart();
    expect(watched.verdict().wins).toBe(false);
    expect(watched.refinedShare(0)).toBeLessThan(0.01);
  });

  it('goes half way as long as nothing is known, and for each horizon where the record points', () => {
    expect(new LiveWatch({ stepMs: 1000, horizonsMs }).refinedShare(0)).toBe(0.5);
    const refined = says(3, 4, 6);
    // At the second horizon the refined one is far off.
    for (let row = 0; row < 3; row++) refined[(2 * row + 1) * quantileCount + median] = 30;
    const watched = watch(300, says(3, 9, 20), refined);
    expect(watched.refinedShare(0)).toBeGreaterThan(0.99);
    expect(watched.refinedShare(1)).toBeLessThan(0.01);
  });

  it('goes between models that err to either side', () => {
    const share = watch(600, says(3, 1, 3), says(3, 7, 9)).refinedShare(1);
    expect(share).toBeGreaterThan(0.3);
    expect(share).toBeLessThan(0.7);
  });

  it('tells models apart in a table of thousands of rows too', () => {
    expect(watch(240, says(3000, 4, 6), says(3000, 9, 20), 3000).verdict().wins).toBe(true);
  });
});
