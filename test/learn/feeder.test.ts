import { describe, expect, it } from 'vitest';
import { featureCount } from '../../src/forecast/features.js';
import { PreparedSeries } from '../../src/learn/dataset.js';
import { Feeder } from '../../src/learn/feeder.js';
import { Random } from '../../src/learn/random.js';

describe('the feeder', () => {
  const steps = 600;
  const prepared = new PreparedSeries({
    name: 'one',
    stepMs: 1000,
    rows: 1,
    steps,
    data: new Float32Array(steps).fill(1),
  });
  /** Tells how long the row has been seen. */
  const age = 20;
  const window = 16;
  const batch = 400;

  // One lane in eight starts with its row, wherever the others do.
  it.each([
    [0, 0.5 * (7 / 8)],
    [1, 0.75 * (7 / 8)],
  ])('draws moments by how late they are to the power of %i', (recency, late) => {
    const source = { prepared, endStep: steps, weight: 1 };
    const feeder = new Feeder([source], [1], window, batch, new Random(1), undefined, recency);
    feeder.fill(new Float32Array(batch), new Float32Array(batch));
    const middle = prepared.features[Math.floor((steps - window) / 2) * featureCount + age]!;
    const lanes = Array.from({ length: batch }, (_, b) => feeder.x[b * featureCount + age]!);
    expect(lanes.filter((seen) => seen > middle).length / batch).toBeCloseTo(late, 1);
  });
});
