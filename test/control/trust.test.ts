import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readState, writeState } from '../../src/control/state-file.js';
import { TrustBook, verdicts } from '../../src/control/trust.js';
import { type ForecastFrame, quantileCount } from '../../src/forecast/forecaster.js';
import { Random } from '../../src/learn/random.js';
import { World, wallStart } from './world.js';

/** Steps of a second and a horizon of as much: every step is an outcome. */
class Bench {
  readonly book = new TrustBook(1000);
  readonly frame: ForecastFrame;
  readonly #costs: Float64Array;
  constructor(readonly targets: number) {
    const rows = targets + 1;
    this.frame = {
      rows,
      horizonsMs: [1000],
      quantiles: new Float32Array(rows * quantileCount),
      engines: ['scripted'],
      engine: new Uint8Array(rows),
    };
    this.#costs = new Float64Array(rows).fill(32);
  }

  /** A step in which each target asked for so much, and at whose end so much is forecast for the next: every quantile. */
  step(demand: readonly number[], forecast: readonly number[]): void {
    forecast.forEach((perSec, i) => {
      this.frame.quantiles.fill(perSec, (i + 1) * quantileCount, (i + 2) * quantileCount);
    });
    this.book.observe([0, ...demand], this.targets + 1, 1, this.frame, 0, this.#costs);
  }

  verdict(slot = 1): string {
    return verdicts[this.book.verdictAt(slot)]!;
  }

  /** What would be planned with, the lowest quantile and the highest. */
  planned(slot = 1): [number, number] {
    const { quantiles } = this.book.gate(this.frame);
    return [quantiles[slot * quantileCount]!, quantiles[(slot + 1) * quantileCount - 1]!];
  }
}

/** Twice as much in every fourth step. */
const rhythm = (step: number): number => (step % 4 === 0 ? 200 : 100);

describe('a target that is new', () => {
  it('is planned for by what it asked for until six outcomes do not speak against its forecasts', () => {
    const bench = new Bench(1);
    for (let step = 0; step < 6; step++) {
      bench.step([rhythm(step)], [rhythm(step + 1)]);
      expect(bench.verdict()).toBe('learning');
      const [low, high] = bench.planned();
      expect(low).toBeLessThan(high);
      expect(high).toBeGreaterThan(200);
    }
    bench.step([rhythm(6)], [777]);
    expect(bench.verdict()).toBe('trusted');
    expect(bench.planned()).toEqual([777, 777]);
    expect(bench.book.gate(bench.frame)).toBe(bench.frame);
  });

  it('learns nothing of silence that was expected', () => {
    const bench = new Bench(1);
    for (let step = 0; step < 4; step++) bench.step([100], [step < 3 ? 100 : 0]);
    for (let step = 0; step < 40; step++) bench.step([0], [0]);
    const before = bench.book.record(1)!;
    for (let step = 0; step < 500; step++) bench.step([0], [0]);
    const after = bench.book.record(1)!;
    expect(after.outcomes).toBe(before.outcomes);
    expect(after.usualPerSec).toBe(before.usualPerSec);
    expect(after.usualPerSec).toBeGreaterThan(1);
  });

  it('whose forecasts are bad from the beginning is never planned for by them', () => {
    const bench = new Bench(1);
    for (let step = 0; step < 60; step++) {
      bench.step([100], [step % 2 ? 5000 : 0]);
      expect(bench.verdict()).not.toBe('trusted');
      expect(bench.planned()[1]).toBeLessThan(1000);
    }
    expect(bench.verdict()).toBe('distrusted');
  });

  it('needs two outcomes where forecasts have proved themselves for the others', () => {
    const bench = new Bench(3);
    const others = (step: number) => [rhythm(step), rhythm(step + 1)];
    for (let step = 0; step < 100; step++) bench.step([...others(step), 0], [...others(step + 1), 0]);
    for (let step = 100; step < 102; step++) {
      bench.step([...others(step), rhythm(step)], [...others(step + 1), rhythm(step + 1)]);
      expect(bench.verdict(3)).toBe('learning');
    }
    bench.step([...others(102), rhythm(102)], [...others(103), rhythm(103)]);
    expect(bench.verdict(3)).toBe('trusted');
  });

  it('that asks for nothing proves nothing', () => {
    const bench = new Bench(1);
    for (let step = 0; step < 50; step++) bench.step([0], [0]);
    expect(bench.verdict()).toBe('learning');
    expect(bench.book.record(1)).toBeUndefined();
  });
});

describe('a target that is trusted', () => {
  const trusted = (): Bench => {
    const bench = new Bench(1);
    for (let step = 0; step < 40; step++) bench.step([rhythm(step)], [rhythm(step + 1)]);
    expect(bench.verdict()).toBe('trusted');
    return bench;
  };

  it('falls back when its forecasts turn bad, and comes back when they are good again, neither at the first sign', () => {
    const bench = trusted();
    const until = (verdict: string, forecast: (step: number) => number): number => {
      for (let step = 40; step < 400; step++) {
        bench.step([rhythm(step)], [forecast(step)]);
        if (bench.verdict() === verdict) return step - 40;
      }
      return Number.POSITIVE_INFINITY;
    };
    const fell = until('distrusted', () => 0);
    expect(fell).toBeGreaterThan(5);
    expect(fell).toBeLessThan(40);
    expect(bench.planned()[1]).toBeGreaterThan(150);
    const back = until('trusted', (step) => rhythm(step + 1));
    expect(back).toBeGreaterThan(5);
    expect(back).toBeLessThan(120);
  });

  it('does not change to and fro while forecasts and the past are equally good', () => {
    // Nothing tells the next step: the best forecast is a constant, about what the moving average comes to.
    let changes = 0;
    const outcomes = 3000;
    for (let seed = 1; seed <= 4; seed++) {
      const random = new Random(seed);
      const bench = trusted();
      let before = bench.verdict();
      for (let step = 0; step < outcomes; step++) {
        bench.step([100 + 40 * random.normal()], [180]);
        if (bench.verdict() !== before) changes++;
        before = bench.verdict();
      }
    }
    expect(changes / (4 * outcomes)).toBeLessThan(1 / 200);
  });
});

describe('a loop with the trust gate', () => {
  const open = async () => {
    const world = await World.open({ trust: true });
    world.add('a');
    return world;
  };
  const row = async (world: World) => (await world.loop.explain('a', wallStart + world.nowMs)).trust;

  it('tells of each target whether its forecasts are planned with, in reports and explanations', async () => {
    const world = await open();
    world.engine.script = () => 100;
    await world.run(2000, () => ({ a: 10 }));
    expect(await row(world)).toBe('learning');
    expect(world.reports.at(-1)!.trust).toEqual({ learning: 1, trusted: 0, distrusted: 0 });
    const { text } = await world.loop.explain('a', wallStart + world.nowMs);
    expect(text).toContain('yet to prove themselves');
    await world.run(40_000, () => ({ a: 10 }));
    expect(await row(world)).toBe('trusted');
    expect(world.reports.at(-1)!.trust).toEqual({ learning: 0, trusted: 1, distrusted: 0 });
  });

  it('does not give a newcomer what nothing but a forecast says, and a trusted one that turns bad no longer', async () => {
    const world = await open();
    world.engine.script = () => 900;
    await world.run(3000, () => ({ a: 10 }));
    expect(world.peek('a').ratePerSec).toBeLessThan(300);
    world.engine.script = () => 100;
    await world.run(60_000, () => ({ a: 10 }));
    expect(await row(world)).toBe('trusted');
    world.engine.script = () => 900;
    await world.run(1000, () => ({ a: 10 }));
    expect(world.peek('a').ratePerSec).toBeGreaterThan(400);
    await world.run(200_000, () => ({ a: 10 }));
    expect(await row(world)).toBe('distrusted');
    expect(world.peek('a').ratePerSec).toBeLessThan(300);
  });

  it('goes on from what was known before a restart, in steps of the same length', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'foretoken-trust-')), 'state.jsonl');
    onTestFinished(() => rmSync(join(path, '..'), { recursive: true, force: true }));
    const world = await open();
    world.engine.script = () => 100;
    await world.run(60_000, () => ({ a: 10 }));
    expect(await row(world)).toBe('trusted');
    await writeState(path, world.loop.state(1));
    for (const stepMs of [1000, 500]) {
      const kept = (await readState(path))!;
      const next = await World.open({ trust: true, stepMs });
      next.loop.restore(kept);
      next.add('a');
      next.engine.script = () => 100;
      await next.run(1000, () => ({ a: 10 }));
      expect(await row(next)).toBe(stepMs === 1000 ? 'trusted' : 'learning');
    }
  });
});
