import { afterEach, expect } from 'vitest';
import { type EngineEvent, type EngineOptions, ForecastEngine } from '../../src/forecast/engine.js';
import { quantileCount } from '../../src/forecast/forecaster.js';
import { flawOf, type Series } from './series.js';

const opened: ForecastEngine[] = [];
afterEach(async () => {
  for (const engine of opened.splice(0)) await engine.close();
});

/** An engine that repeats itself, closed after the test, and what it tells of. */
export async function openEngine(options: Pick<EngineOptions, 'rows' | 'horizonsMs'> & Partial<EngineOptions>) {
  const events: EngineEvent[] = [];
  const engine = await ForecastEngine.open({
    stepMs: 1000,
    refine: false,
    deterministic: true,
    onEvent: (event) => events.push(event),
    ...options,
  });
  opened.push(engine);
  return { engine, events };
}

/** The frame after each step. */
export async function run(engine: ForecastEngine, series: Series): Promise<Float32Array[]> {
  const frames: Float32Array[] = [];
  for (const demand of series) {
    const frame = await engine.step(Float64Array.from(demand), demand.length);
    expect(flawOf(frame)).toBeUndefined();
    frames.push(frame.quantiles.slice(0, demand.length * frame.horizonsMs.length * quantileCount));
  }
  return frames;
}
