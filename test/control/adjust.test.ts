import { describe, expect, it } from 'vitest';
import { Random } from '../../src/learn/random.js';
import { World } from './world.js';

/** A target forecast to ask for 200 tokens/s beside one that asks for as much as forecast. */
async function worldOf(borrow: boolean): Promise<World> {
  const world = await World.open({ borrow, ratePerSec: 2000, burst: 1000 });
  const wave = world.add('wave');
  const calm = world.add('calm');
  world.engine.script = (row) =>
    row === wave.slot ? [200, 210, 220, 240, 260] : row === calm.slot ? [300, 310, 320, 340, 360] : 0;
  await world.run(5000, () => ({ wave: 20, calm: 30 }));
  return world;
}

describe.each([true, false])('demand that jumps as a square wave (borrow: %s)', (borrow) => {
  /** Five waves of 3 s high and 3 s low, none of which is forecast; per edge, what the ticks after it saw. */
  async function waves(high: number) {
    const world = await worldOf(borrow);
    const rates: number[][] = [];
    const denied: number[][] = [];
    let calmDenied = 0;
    for (let n = 0; n < 5; n++) {
      const seen: number[] = [];
      const short: number[] = [];
      for (let tick = 0; tick < 30; tick++) {
        const admitted = await world.run(100, () => ({ calm: 30, wave: high }));
        seen.push(world.peek('wave').ratePerSec);
        short.push(high - admitted.wave!);
        calmDenied += 30 - admitted.calm!;
      }
      await world.run(3000, () => ({ wave: 20, calm: 30 }));
      rates.push(seen);
      denied.push(short);
    }
    return { world, rates, denied, calmDenied };
  }

  it('is served in full from the third tick after it rose on, as long as it lasts', async () => {
    const { rates, denied, calmDenied } = await waves(80);
    // Where it is lent what it lacks nobody need give it a rate of its own.
    for (const seen of borrow ? [] : rates) {
      expect(seen[1]).toBeGreaterThan(500);
      // No oscillation: once answered, the rate does not swing below what is asked for by more than the dead band.
      for (const rate of seen.slice(2, 10)) expect(rate).toBeGreaterThan(500);
    }
    for (const short of denied) expect(short.slice(2).reduce((a, b) => a + b, 0)).toBe(0);
    expect(calmDenied).toBe(0);
  });

  it('is corrected upwards a bounded number of times in a wave, and not at all within the dead band', async () => {
    const { world } = await waves(80);
    const corrections = world.reports.map((report) => report.corrections);
    // What has been answered is expected from then on: the answers to an edge become few, they do not go on.
    for (const count of corrections) expect(count).toBeLessThanOrEqual(6);
    const quiet = await worldOf(borrow);
    quiet.reports.length = 0;
    await quiet.run(12_000, (tick) => ({ calm: 30, wave: Math.floor(tick / 30) % 2 ? 24 : 17 }));
    expect(quiet.reports.map((report) => report.corrections)).toEqual(Array(12).fill(0));
  });
});

it('noise around a right forecast is left alone', async () => {
  const world = await worldOf(true);
  world.reports.length = 0;
  const random = new Random(9);
  const poisson = (mean: number) => {
    let n = 0;
    const gap = () => -Math.log(1 - random.uniform());
    for (let at = gap(); at < mean; at += gap()) n++;
    return n;
  };
  await world.run(60_000, () => ({ wave: poisson(20), calm: poisson(30) }));
  const corrections = world.reports.reduce((sum, report) => sum + report.corrections, 0);
  expect(corrections).toBeLessThan(12);
});
