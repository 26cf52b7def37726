import { describe, expect, it } from 'vitest';
import { Blend } from '../../src/forecast/blend.js';
import { type ForecastFrame, quantileCount } from '../../src/forecast/forecaster.js';
import type { LongRange } from '../../src/forecast/long-range.js';
import { carry } from './carry.js';

const stepMs = 30_000;
const stepS = stepMs / 1000;

/** Steps and a horizon of four of them; row 1 has a forecast of the one kind, unless it `lacks` one, row 0 has none. */
class Bench {
  lacks = false;
  /** What the kind forecasts of row 1, tokens/s. */
  said = 20;
  readonly blend: Blend;
  readonly frame: ForecastFrame = {
    rows: 2,
    horizonsMs: [4 * stepMs],
    quantiles: new Float32Array(2 * quantileCount),
    engines: ['mixture', 'kind'],
    engine: new Uint8Array(2),
  };

  constructor() {
    const longRange = {
      kinds: ['ets'],
      horizons: [0],
      rows: [1],
      write: (_kind: number, _horizon: number, row: number, out: Float32Array, at: number): boolean => {
        if (row !== 1 || this.lacks) return false;
        out.fill(this.said, at, at + quantileCount);
        return true;
      },
    } as unknown as LongRange;
    this.blend = new Blend(longRange, stepMs, [4 * stepMs]);
  }

  /** A step in which both rows asked for so much; the forecast of row 1 at its end, and what carried it. */
  step(demandPerSec: number, mixed: number): { quantiles: Float32Array; engine: number } {
    this.blend.observe([demandPerSec * stepS, demandPerSec * stepS], 2);
    this.frame.quantiles.fill(mixed);
    this.frame.engine.fill(0);
    this.blend.amend(this.frame, 0, 1);
    return { quantiles: this.frame.quantiles.slice(quantileCount), engine: this.frame.engine[1]! };
  }
}

describe('forecasts that are blended into a mixture', () => {
  it('count a fifth before anything is known, times each factor alike, and leave other rows alone', () => {
    const bench = new Bench();
    const { quantiles, engine } = bench.step(10, 10);
    const expected = 0.8 * 10 + (0.2 / 3) * (0.8 + 1 + 1.25) * 20;
    for (const value of quantiles) expect(value).toBeCloseTo(expected, 4);
    expect(engine).toBe(0);
    expect([...bench.frame.quantiles.subarray(0, quantileCount)]).toEqual(new Array(quantileCount).fill(10));
  });

  it('count the more the better they were, and the mixture where that was better', () => {
    const good = new Bench();
    for (let step = 0; step < 200; step++) good.step(20, 5);
    const { quantiles, engine } = good.step(20, 5);
    for (const value of quantiles) expect(value).toBeGreaterThan(17);
    expect(engine).toBe(1);
    const bad = new Bench();
    bad.said = 90;
    for (let step = 0; step < 200; step++) bad.step(20, 20);
    for (const value of bad.step(20, 20).quantiles) expect(value).toBeCloseTo(20, 0);
  });

  it('are not scored where they were made for rows that have other numbers now', async () => {
    const [bench, same, other] = [new Bench(), new Bench(), new Bench()];
    const before = bench.step(5, 10).quantiles;
    for (let step = 0; step < 2; step++) bench.step(5, 10);
    await carry(bench.blend, same.blend, [0, 1], [0, 1]);
    await carry(bench.blend, other.blend, [0, 1], [1, 0]);
    // Two steps on, the first forecast's horizon has passed; those that are made from now on have yet to.
    for (const each of [same, other]) each.step(5, 10);
    expect(same.step(5, 10).quantiles).not.toEqual(before);
    expect(other.step(5, 10).quantiles).toEqual(before);
  });

  it('leave it to the mixture where they lack, also when that was a hundred times worse', () => {
    const bench = new Bench();
    bench.said = 20.2;
    for (let step = 0; step < 400; step++) bench.step(20, 1e5);
    expect(bench.step(20, 1e5).quantiles[0]).toBeCloseTo(20, 0);
    bench.lacks = true;
    const { quantiles, engine } = bench.step(20, 30);
    expect([...quantiles]).toEqual(new Array(quantileCount).fill(30));
    expect(engine).toBe(0);
  });

  it('begin anew for a row that was given to another target', () => {
    const bench = new Bench();
    for (let step = 0; step < 200; step++) bench.step(20, 5);
    bench.blend.reset(1);
    const expected = 0.8 * 5 + (0.2 / 3) * (0.8 + 1 + 1.25) * 20;
    for (const value of bench.step(20, 5).quantiles) expect(value).toBeCloseTo(expected, 4);
  });
});
