import { expect, it } from 'vitest';
import type { ForecastFrame } from '../../src/forecast/forecaster.js';
import { SharedForecasts } from '../../src/lab/shared-forecasts.js';
import { Scripted } from '../control/world.js';

function shared(parts: number) {
  const forecaster = new Scripted(2, [1000], (row, step) => 10 * row + step);
  const closed: string[] = [];
  forecaster.close = async () => void closed.push('closed');
  const all = new SharedForecasts(forecaster, parts);
  return { forecaster, closed, parts: Array.from({ length: parts }, () => all.part()) };
}
const demand = Float64Array.of(0, 5);
const median = ({ quantiles, horizonsMs }: ForecastFrame) => quantiles[horizonsMs.length * 5];

it('forecasts that are shared are computed once a step, when the last one asks', async () => {
  const { forecaster, parts } = shared(3);
  for (let step = 1; step <= 3; step++) {
    const asked = parts.slice(1).map((part) => part.step(demand, 2));
    expect(forecaster.seen).toHaveLength(step - 1);
    const frames = await Promise.all([parts[0]!.step(demand, 2), ...asked]);
    expect(forecaster.seen).toHaveLength(step);
    expect(frames.map(median)).toEqual([10 + step, 10 + step, 10 + step]);
  }
});

it('forecasts that are shared fail for all who asked, and the next step is asked anew', async () => {
  const { forecaster, parts } = shared(2);
  forecaster.during = async () => {
    forecaster.during = async () => {};
    throw new Error('no');
  };
  const outcomes = await Promise.allSettled(parts.map((part) => part.step(demand, 2)));
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect((await Promise.all(parts.map((part) => part.step(demand, 2)))).map(median)).toEqual([12, 12]);
});

it('forecasts that are shared are closed with the last one who closes', async () => {
  const { closed, parts } = shared(2);
  await parts[0]!.close();
  expect(closed).toEqual([]);
  await parts[1]!.close();
  expect(closed).toEqual(['closed']);
});
