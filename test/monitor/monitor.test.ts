import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/learn/random.js';
import { correct } from '../../src/monitor/adjuster.js';
import { Monitor, type TickView, Utilization } from '../../src/monitor/monitor.js';

function view(rows: { demand?: number; denied?: number; borrowed?: number; q50?: number; q90?: number }[]): TickView {
  const column = (pick: (row: (typeof rows)[number]) => number | undefined) =>
    // Slot 0 is the reservoir.
    Float64Array.from([0, ...rows.map((row) => pick(row) ?? 0)]);
  return {
    slots: rows.length + 1,
    demand: column((row) => row.demand),
    denied: column((row) => row.denied),
    borrowed: column((row) => row.borrowed),
    q50PerSec: column((row) => row.q50),
    q90PerSec: column((row) => row.q90),
    tickMs: 100,
  };
}

describe('a deviation', () => {
  it('upwards shows after two ticks at twice the forecast, and not after one', () => {
    const monitor = new Monitor(4);
    const twice = view([{ demand: 21, q50: 90, q90: 100 }]);
    const seen = [0, 1, 2].map(() => {
      monitor.observe(twice);
      return monitor.deviation(1, twice, 1);
    });
    expect(seen).toEqual([0, 1, 1]);
    const thrice = new Monitor(4);
    const more = view([{ demand: 30, q50: 90, q90: 100 }]);
    for (let tick = 0; tick < 2; tick++) thrice.observe(more);
    expect(thrice.deviation(1, more, 1)).toBe(1);
  });

  it('downwards shows when what was forecast stays away', () => {
    const monitor = new Monitor(4);
    const silent = view([{ demand: 0, q50: 100, q90: 120 }]);
    for (let tick = 0; tick < 3; tick++) monitor.observe(silent);
    expect(monitor.deviation(1, silent, 1)).toBe(-1);
  });

  it('of those whose forecast is right in the mean comes rarely, however Poisson their demand', () => {
    const random = new Random(5);
    const rate = 200;
    // Sums of a hundred draws, so that the forecast's quantiles are those of a step's demand.
    const poisson = () => {
      let n = 0;
      const next = () => -Math.log(1 - random.uniform());
      for (let t = next(); t < rate / 10; t += next()) n++;
      return n;
    };
    const monitor = new Monitor(2);
    let deviations = 0;
    for (let tick = 0; tick < 5000; tick++) {
      const seen = view([{ demand: poisson(), q50: rate, q90: rate * 1.1 }]);
      monitor.observe(seen);
      if (monitor.deviation(1, seen, 1) !== 0) deviations++;
    }
    expect(deviations).toBeLessThan(25);
  });

  it('of a few requests without any forecast is chance', () => {
    const monitor = new Monitor(4);
    const few = view([{ demand: 30 }]);
    monitor.observe(few);
    expect(monitor.deviation(1, few, 10)).toBe(0);
    expect(monitor.deviation(1, few, 9)).toBe(1);
  });

  it('never comes of demand within the dead band of the forecast, however long', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 1e6, noNaN: true }),
        fc.array(fc.double({ min: 0.76, max: 1.24, noNaN: true }), { minLength: 50, maxLength: 50 }),
        (rate, parts) => {
          const monitor = new Monitor(2);
          for (const part of parts) {
            const tick = view([{ demand: (rate / 10) * part, q50: rate, q90: rate }]);
            monitor.observe(tick);
            if (monitor.deviation(1, tick, 0.001) !== 0) return false;
          }
          return true;
        },
      ),
    );
  });
});

describe('a correction', () => {
  const levels = (level: number, deposit = 0) => ({ level: () => level, deposit: () => deposit });
  const over = (monitor: Monitor, tick: TickView) => {
    monitor.observe(tick);
    return tick;
  };

  it('leaves out who asks for more than its fair share', () => {
    const monitor = new Monitor(4);
    const tick = over(
      monitor,
      view([
        { demand: 50, denied: 50 },
        { demand: 50, denied: 50 },
      ]),
    );
    const isGreedy = (slot: number) => slot === 2;
    expect(correct(monitor, tick, levels(0), 1000, 1000, 1, undefined, undefined, isGreedy).map((c) => c.slot)).toEqual(
      [1],
    );
  });

  it('is bounded by a tenth of the burst, and not repeated without new evidence', () => {
    const monitor = new Monitor(4);
    const burst = over(monitor, view([{ demand: 5000, denied: 4000 }]));
    expect(correct(monitor, burst, levels(0), 1000, 1000, 1)).toEqual([{ slot: 1, tokens: 100 }]);
    const quiet = over(monitor, view([{ demand: 1, denied: 1 }]));
    expect(correct(monitor, quiet, levels(0), 1000, 1000, 1)).toEqual([]);
  });

  it('does not go to whoever runs over its forecast but is not short', () => {
    const monitor = new Monitor(4);
    const rich = over(monitor, view([{ demand: 50 }]));
    expect(correct(monitor, rich, levels(500), 1000, 1000, 1)).toEqual([]);
  });

  it('takes the deposit of whoever runs under its forecast first, and hands it on', () => {
    const monitor = new Monitor(4);
    const rows = view([
      { demand: 300, denied: 300 },
      { q50: 1000, q90: 1000 },
    ]);
    for (let tick = 0; tick < 3; tick++) monitor.observe(rows);
    const found = correct(monitor, rows, { level: () => 0, deposit: (slot) => (slot === 2 ? 40 : 0) }, 0, 1000, 1);
    expect(found).toEqual([
      { slot: 2, tokens: -40 },
      { slot: 1, tokens: 40 },
    ]);
  });

  it('that took a deposit back takes the next only on new evidence', () => {
    const monitor = new Monitor(4);
    const deposit = { level: () => 0, deposit: () => 40 };
    const silent = view([{ q50: 1000, q90: 1000 }]);
    for (let tick = 0; tick < 3; tick++) monitor.observe(silent);
    expect(correct(monitor, silent, deposit, 0, 1000, 1)).toEqual([{ slot: 1, tokens: -40 }]);
    const asForecast = over(monitor, view([{ demand: 100, q50: 1000, q90: 1000 }]));
    expect(correct(monitor, asForecast, deposit, 0, 1000, 1)).toEqual([]);
  });

  it('shares what is scarce by weight, not by who is over by most', () => {
    const monitor = new Monitor(4);
    const rows = over(
      monitor,
      view([
        { demand: 1000, denied: 1000 },
        { demand: 100, denied: 100 },
      ]),
    );
    const shares = correct(monitor, rows, levels(0), 60, 1000, 1, undefined, Float64Array.of(0, 1, 2));
    expect(shares).toEqual([
      { slot: 1, tokens: 20 },
      { slot: 2, tokens: 40 },
    ]);
  });

  it('together never adds more than there is, whatever is seen', () => {
    // Nothing lies between zero and what the table resolves: a product of denormals is not a number of tokens.
    const resolved = (value: number): number => (Math.abs(value) < 1e-9 ? 0 : value);
    const amount = fc.double({ min: 0, max: 1e6, noNaN: true }).map(resolved);
    const row = fc.record({
      demand: amount,
      denied: amount,
      borrowed: amount,
      q50: amount,
      q90: amount,
      level: fc.double({ min: -1e6, max: 1e6, noNaN: true }),
      deposit: fc.oneof(fc.constant(0), amount),
    });
    fc.assert(
      fc.property(
        fc.array(row, { maxLength: 12 }),
        fc.double({ min: -1000, max: 1e6, noNaN: true }).map(resolved),
        fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
        fc.double({ min: 1e-3, max: 1e3, noNaN: true }),
        (rows, reservoir, burst, meanCost) => {
          const monitor = new Monitor(2);
          const tick = view(rows);
          for (let i = 0; i < 3; i++) monitor.observe(tick);
          const found = correct(
            monitor,
            tick,
            { level: (slot) => rows[slot - 1]!.level, deposit: (slot) => rows[slot - 1]!.deposit },
            reservoir,
            burst,
            meanCost,
          );
          let given = 0;
          let returned = 0;
          for (const { slot, tokens } of found) {
            expect(Number.isFinite(tokens)).toBe(true);
            expect(tokens).toBeLessThanOrEqual(burst * 0.1);
            if (tokens >= 0) given += tokens;
            else {
              expect(tokens).toBe(-rows[slot - 1]!.deposit);
              expect(given).toBe(0);
              returned -= tokens;
            }
          }
          expect(given).toBeLessThanOrEqual((Math.max(0, reservoir) + returned) * (1 + 1e-9));
        },
      ),
    );
  });
});

describe('utilization', () => {
  it('nears the part of the limit that was admitted', () => {
    const utilization = new Utilization();
    for (let tick = 0; tick < 50; tick++) utilization.observe(40, 1000, 100, 0, 0);
    expect(utilization.fraction).toBeCloseTo(0.4, 3);
    expect(utilization.inflation).toBeNaN();
  });

  it('tells how much longer requests take than they did at best', () => {
    const utilization = new Utilization();
    utilization.observe(1, 1000, 100, 10, 10 * 2e6);
    utilization.observe(1, 1000, 100, 10, 10 * 6e6);
    expect(utilization.inflation).toBeCloseTo(6 / 2.02, 6);
    // A device that is slower for good is not called overloaded for ever.
    for (let tick = 0; tick < 200; tick++) utilization.observe(1, 1000, 100, 10, 10 * 6e6);
    expect(utilization.inflation).toBe(1);
  });
});
