import { expect, it } from 'vitest';
import { ModelHealth } from '../../src/forecast/model-health.js';

const ill = 'classical forecasters for now: it is late';
const well = 'the model forecasts again';

/** What is told in so many steps that fail, so many that work, and so on. */
function told(stepMs: number, ...spells: number[]): string[] {
  const events: string[] = [];
  const health = new ModelHealth(stepMs, (message) => events.push(message));
  spells.forEach((steps, i) => {
    const fails = i % 2 === 0;
    for (let step = 0; step < steps; step++) {
      if (fails) health.failed('it is late');
      else health.worked();
      expect(health.works).toBe(!fails);
    }
  });
  return events;
}

it('tells of a failure at once, and when it is over', () => {
  expect(told(100, 1)).toEqual([ill]);
  expect(told(100, 500, 1)).toEqual([ill, well]);
});

it('tells of a relapse after a minute without one at once', () => {
  expect(told(100, 1, 600, 1, 1)).toEqual([ill, well, ill, well]);
  expect(told(100, 1, 599, 1, 1)).toEqual([ill, well]);
  // Also one that was not told of.
  expect(told(100, 1, 599, 1, 599, 1, 600, 1)).toEqual([ill, well, ill]);
});

it('tells of any other when it lasts for ten seconds', () => {
  expect(told(100, 1, 1, 99, 1)).toEqual([ill, well]);
  expect(told(100, 1, 1, 100)).toEqual([ill, well, ill]);
  expect(told(100, 1, 1, 300, 1)).toEqual([ill, well, ill, well]);
});

it('tells of every one where steps are long', () => {
  expect(told(60_000, 1, 1, 1, 1)).toEqual([ill, well, ill, well]);
});
