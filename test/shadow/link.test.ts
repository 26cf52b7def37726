import type { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ForecastFrame } from '../../src/forecast/forecaster.js';
import { resolveOptions } from '../../src/options.js';
import { ShadowLink } from '../../src/shadow/link.js';
import { BucketTable } from '../../src/table/table.js';

const frame: ForecastFrame = {
  rows: 1,
  horizonsMs: [10_000],
  quantiles: new Float32Array(5),
  engines: ['ewma'],
  engine: new Uint8Array(1),
};

/** Shadows in their thread, as a controller has them; steps of 10 s, so that they may fall three behind. */
function link() {
  const options = resolveOptions({
    ratePerSec: 100,
    capacity: 4,
    engine: 'ewma',
    stepMs: 10_000,
    horizonsMs: [10_000],
    shadow: [{ allocator: 'credit' }],
  });
  const table = BucketTable.create({ capacity: 4, ratePerSec: 100, burst: 100, clock: 'virtual' });
  const begun = new Promise<Worker>((resolve) => process.once('worker', resolve));
  const events: string[] = [];
  const { cost: _cost, onEvent: _onEvent, ...plain } = options;
  const link = new ShadowLink(
    plain,
    table,
    () => undefined,
    (message) => events.push(message),
  );
  const step = () => {
    link.onlooker.ticked(table.collect(), 100, Date.now(), 100);
    link.onlooker.stepBegan();
    link.onlooker.forecast(frame, Date.now(), 1);
  };
  onTestFinished(async () => {
    await link.close();
    table.close();
  });
  return { link, begun, events, step };
}

describe('the thread of the shadows', () => {
  it('is given up once it is too far behind, with one event', async () => {
    const { link: shadows, events, step } = link();
    for (let i = 0; i < 3; i++) step();
    expect(events).toEqual([]);
    for (let i = 0; i < 3; i++) step();
    // Its end follows from that, and is not told of again.
    await shadows.close();
    expect(events).toEqual([expect.stringMatching(/^shadows ended; everything else goes on: they take longer/)]);
    expect(shadows.report().shadows).toEqual([]);
  });

  it('leaves its controller in peace when it dies, with one event', async () => {
    const { link: shadows, begun, events, step } = link();
    expect(shadows.report().shadows).toMatchObject([{ engine: 'ewma', allocator: 'credit', denied: 0 }]);
    const worker = await begun;
    await worker.terminate();
    step();
    await shadows.close();
    expect(events).toEqual(['shadows ended; everything else goes on: their thread ended']);
    expect(shadows.report().shadows).toEqual([]);
  });
});
