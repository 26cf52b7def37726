import { expect, it } from 'vitest';
import { featureCount } from '../../src/forecast/features.js';
import { PreparedSeries } from '../../src/learn/dataset.js';
import { Random } from '../../src/learn/random.js';

it('a row taken out of a table is seen as it was there: its period is searched in the same steps', () => {
  const random = new Random(3);
  const steps = 400;
  const data = Float32Array.from({ length: 3 * steps }, (_, i) =>
    random.poisson(Math.floor(i / 3) % (20 + (i % 3)) < 3 ? 30 : 1),
  );
  const table = new PreparedSeries({ name: 'table', stepMs: 1000, rows: 3, steps, data });
  const own = data.filter((_, i) => i % 3 === 2);
  const alone = new PreparedSeries({ name: 'row', stepMs: 1000, rows: 1, steps, data: own, places: [2] });
  // The last three features are of all rows together.
  const ofRow = (prepared: PreparedSeries, row: number) =>
    Array.from({ length: steps }, (_, step) => {
      const from = prepared.at(row, step) * featureCount;
      return prepared.features.slice(from, from + featureCount - 3);
    });
  expect(ofRow(alone, 0)).toEqual(ofRow(table, 2));
});
