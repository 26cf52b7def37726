import { describe, expect, it, onTestFinished } from 'vitest';
import { type ForecastFrame, quantileCount } from '../../src/forecast/forecaster.js';
import { type ForetokenOptions, resolveOptions } from '../../src/options.js';
import { ShadowFeed } from '../../src/shadow/feed.js';
import { Shadows } from '../../src/shadow/shadows.js';
import { column, columns, type Traffic } from '../../src/shadow/traffic.js';
import { BucketTable } from '../../src/table/table.js';

const wallMs = 1_700_000_000_000;

/** So many requests of one token each of whoever has slot 1 live, all admitted there. */
function asked(requests: number): Traffic {
  const data = new Float64Array(columns);
  data[column.slot] = 1;
  data[column.arrivals] = requests;
  data[column.demandTokens] = requests;
  return { tickMs: 1000, rows: requests > 0 ? 1 : 0, data };
}

const entry = (name: string, handle: number, reservation = 0) => ({
  name,
  handle,
  reservation,
  weight: 1,
  limit: Number.POSITIVE_INFINITY,
});

/** A forecast of so much for slot 1, tokens/s. */
const frameOf = (perSec: number): ForecastFrame => ({
  rows: 2,
  horizonsMs: [1000],
  quantiles: new Float32Array(2 * quantileCount).fill(perSec, quantileCount),
  engines: ['live'],
  engine: new Uint8Array(2),
});

async function opened(options: Partial<ForetokenOptions>) {
  const events: string[] = [];
  const shadows = await Shadows.open(
    resolveOptions({ ratePerSec: 1000, burst: 1000, capacity: 4, horizonsMs: [1000], ...options }),
    (message) => events.push(message),
  );
  onTestFinished(() => shadows.close());
  const tick = (requests = 0) => shadows.take({ type: 'tick', wallMs, traffic: asked(requests), ratePerSec: 1000 });
  const step = async (steps = 1, live?: ForecastFrame) =>
    (await shadows.take({ type: 'step', wallMs, steps, live, model: undefined }))!.shadows[0]!;
  return { shadows, events, tick, step };
}

describe('shadows that are told', () => {
  it('of reservations that change hands take in first what is given up', async () => {
    const { shadows, events, tick, step } = await opened({ engine: 'ewma', shadow: [{}] });
    await shadows.take({ type: 'put', slot: 1, entry: entry('a', 1, 900) });
    await shadows.take({ type: 'put', slot: 2, entry: entry('b', 2) });
    await tick();
    await shadows.take({ type: 'put', slot: 2, entry: entry('b', 2, 900) });
    await shadows.take({ type: 'put', slot: 1, entry: entry('a', 1, 100) });
    await tick();
    expect(events).toEqual([]);
    const { ratePerSecBySlot } = await step(1, frameOf(0));
    expect(ratePerSecBySlot[1]).toBeCloseTo(100, 0);
    expect(ratePerSecBySlot[2]).toBeCloseTo(900, 0);
  });

  it('of a slot that was given to another target charge that with nothing of its predecessor', async () => {
    const { shadows, tick, step } = await opened({ engine: 'ewma', shadow: [{}] });
    await shadows.take({ type: 'put', slot: 1, entry: entry('a', 1) });
    await tick(5000);
    expect((await step(1, frameOf(0))).deniedTokensBySlot[1]).toBeGreaterThan(1000);
    await shadows.take({ type: 'remove', slot: 1 });
    await shadows.take({ type: 'put', slot: 1, entry: entry('b', 17) });
    await tick();
    const { deniedTokensBySlot, deniedTokens } = await step(1, frameOf(0));
    expect(deniedTokensBySlot[1]).toBe(0);
    expect(deniedTokens).toBeGreaterThan(1000);
  });

  it('of several steps at once spread over them what came', async () => {
    const { shadows, tick, step } = await opened({ engine: 'ewma', shadow: [{ engine: 'last' }] });
    await shadows.take({ type: 'put', slot: 1, entry: entry('a', 1) });
    for (let i = 0; i < 5; i++) await tick(100);
    const { ratePerSecBySlot } = await step(5, frameOf(0));
    expect(ratePerSecBySlot[1]).toBeGreaterThan(50);
    expect(ratePerSecBySlot[1]).toBeLessThan(300);
  });

  it('of no forecast of the model go by that of the mixture, as the live table does', async () => {
    const { shadows, tick, step } = await opened({ engine: 'auto', shadow: [{ engine: 'lstm' }] });
    await shadows.take({ type: 'put', slot: 1, entry: entry('a', 1) });
    await tick();
    expect((await step(1, frameOf(200))).ratePerSecBySlot[1]).toBeCloseTo(200, 0);
  });
});

it('what was collected in a step that failed before it forecast is told with the next', () => {
  const table = BucketTable.create({ capacity: 2, ratePerSec: 10, burst: 10, clock: 'virtual' });
  onTestFinished(() => table.close());
  const sent: string[] = [];
  const feed = new ShadowFeed(
    { collect: table.constants.collect, wantsLive: false, wantsModel: false, modelFrame: () => undefined },
    (message) => sent.push(message.type === 'tick' ? `tick ${message.wallMs}` : message.type),
  );
  const tick = (atMs: number) => feed.ticked(table.collect(), 100, atMs, 10);
  feed.put(1, entry('a', 1));
  tick(1);
  feed.stepBegan();
  tick(2);
  expect(sent).toEqual(['put', 'tick 1']);
  feed.stepBegan();
  tick(3);
  expect(sent).toEqual(['put', 'tick 1', 'tick 2']);
  feed.forecast(frameOf(0), wallMs, 1);
  expect(sent).toEqual(['put', 'tick 1', 'tick 2', 'step', 'tick 3']);
});
