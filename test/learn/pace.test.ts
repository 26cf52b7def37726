import { describe, expect, it } from 'vitest';
import { Pace, type PaceClock } from '../../src/learn/pace.js';

/** A clock that a test moves: work takes processor time and time, sleep only time. */
class HandClock implements PaceClock {
  cpu = 7;
  now = 100;
  naps: number[] = [];
  cpuMs = () => this.cpu;
  nowMs = () => this.now;
  sleep = async (ms: number) => {
    this.naps.push(ms);
    this.now += ms;
  };
  work(cpuMs: number, waitedMs = 0) {
    this.cpu += cpuMs;
    this.now += cpuMs + waitedMs;
  }
}

describe('the pace of refinement', () => {
  it.each([0.1, 0.001])('keeps processor time to a part of %f of the time that passes', async (part) => {
    const clock = new HandClock();
    const pace = new Pace(part, clock);
    for (let run = 0; run < 50; run++) {
      clock.work(1 + (run % 9));
      await pace.rest();
      expect(pace.usedMs / (clock.now - 100) / part).toBeCloseTo(1);
    }
  });

  it('does not rest where other threads already held it up', async () => {
    const clock = new HandClock();
    const pace = new Pace(0.1, clock);
    clock.work(10, 200);
    await pace.rest();
    expect(clock.naps).toEqual([]);
  });

  it('makes up for a long piece of work over several rests', async () => {
    const clock = new HandClock();
    const pace = new Pace(0.1, clock);
    clock.work(500);
    await pace.rest();
    expect(clock.now).toBe(100 + 500 + 1000);
    for (let run = 0; run < 10; run++) await pace.rest();
    expect(pace.usedMs / (clock.now - 100)).toBeCloseTo(0.1);
  });

  it('ends a rest soon after it is told to stop', async () => {
    const clock = new HandClock();
    const pace = new Pace(0.1, clock);
    clock.work(50);
    await pace.rest(() => clock.naps.length >= 2);
    expect(clock.naps).toHaveLength(2);
  });

  it('knows the processor time of its own thread', () => {
    const pace = new Pace(1);
    let sum = 0;
    for (let i = 0; i < 5e6; i++) sum += Math.sqrt(i);
    expect(sum).toBeGreaterThan(0);
    expect(pace.usedMs).toBeGreaterThan(0);
  });
});
