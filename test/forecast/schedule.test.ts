import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mostInReplay, RecentDemand, RefinementSchedule } from '../../src/forecast/schedule.js';

describe('the refinement schedule', () => {
  it('never trains for more than its part of the time that has passed', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 100, max: 60_000 }),
        fc.double({ min: 0.5, max: 500, noNaN: true }),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 5, maxLength: 60 }),
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        (stepMs, costMs, gaps, cpuPart) => {
          const schedule = new RefinementSchedule({ stepMs, costMs, cpuPart });
          let steps = 0;
          let spent = 0;
          for (const gap of gaps) {
            steps += gap;
            const due = schedule.due(steps);
            expect(Number.isInteger(due) && due >= 0).toBe(true);
            expect(due).toBeLessThanOrEqual(500);
            if (steps < 200) expect(due).toBe(0);
            schedule.spent(due);
            spent += due;
            expect(spent * costMs).toBeLessThanOrEqual(cpuPart * steps * stepMs + 1e-6);
          }
        },
      ),
    );
  });

  it('comes again when there is half as much history again, and at last every 1,024 steps', () => {
    const schedule = new RefinementSchedule({ stepMs: 1000, costMs: 7, cpuPart: 0.1 });
    const at: number[] = [];
    for (let steps = 1; steps <= 6000; steps++) {
      const due = schedule.due(steps);
      if (due > 0) at.push(steps);
      schedule.spent(due);
    }
    expect(at).toEqual([200, 300, 450, 675, 1012, 1518, 2277, 3301, 4325, 5349]);
  });

  it('stops for good once a run has had what it may', () => {
    const schedule = new RefinementSchedule({ stepMs: 60_000, costMs: 1, cpuPart: 0.1, mostInAll: mostInReplay });
    let spent = 0;
    for (let steps = 1; steps <= 50_000; steps++) {
      const due = schedule.due(steps);
      schedule.spent(due);
      spent += due;
    }
    expect(spent).toBe(mostInReplay);
  });
});

describe('recent demand', () => {
  it.each([
    [3000, 300, 1],
    [2049, 2000, 2],
  ])(
    'of %i steps of %i rows is that of the busiest rows, oldest first, as far as memory goes',
    (pushed, rows, first) => {
      const recent = new RecentDemand();
      for (let step = 0; step < pushed; step++) {
        const demand = new Float64Array(rows);
        for (let row = 0; row < rows; row++) demand[row] = row;
        demand[5] = 1e6 + step;
        recent.push(demand, rows);
      }
      const kept = recent.matrix();
      expect(recent.steps).toBe(pushed);
      expect(kept.steps).toBe(pushed - first + 1);
      expect(kept.rows).toBe(Math.min(rows - 1, Math.floor(2 ** 19 / kept.steps)));
      expect([kept.data[0], kept.data[kept.rows]]).toEqual([1e6 + first - 1, 1e6 + first]);
      // In the order of the table.
      expect(kept.places).toEqual([5, ...Array.from({ length: kept.rows - 1 }, (_, i) => rows - kept.rows + 1 + i)]);
      expect(kept.data[kept.rows - 1]).toBe(rows - 1);
    },
  );

  it('is the same whether few or many ask', () => {
    const recent = new RecentDemand();
    const demands = Array.from({ length: 8204 }, (_, step) =>
      Float64Array.from({ length: 9 }, (_, row) =>
        (step >> 3) % 2 === 0 || row % 4 === step % 4 ? 1 + row + step : 0,
      ),
    );
    for (const demand of demands) recent.push(demand, 9);
    const last = demands.slice(-8192);
    const rows = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    expect([...recent.matrix().data]).toEqual(last.flatMap((demand) => rows.map((row) => demand[row]!)));
    for (const step of [13, 14, 20, 21, 8204])
      expect(rows.map((row) => recent.at(step, row))).toEqual(rows.map((row) => demands[step - 1]![row]!));
    expect([recent.at(12, 8), recent.at(8205, 8), recent.at(8204, 9)]).toEqual([0, 0, 0]);
    recent.reset(8);
    expect(recent.matrix().rows).toBe(8);
  });

  it('says how much it keeps and would keep, and of which rows', () => {
    const recent = new RecentDemand();
    for (let step = 0; step < 2; step++)
      recent.push(
        Float64Array.from({ length: 1000 }, (_, row) => row % 300),
        1000,
      );
    expect([recent.kept, recent.most]).toEqual([2, 2097]);
    const busiest = recent.busiest(2097);
    expect(busiest).toHaveLength(250);
    expect(busiest.every((row, i) => row % 300 >= 216 && (i === 0 || row > busiest[i - 1]!))).toBe(true);
    for (let step = 0; step < 9000; step++) recent.push(Float64Array.of(1, 2), 2);
    expect([recent.kept, recent.most, recent.busiest(8192)]).toEqual([8192, 8192, [0, 1]]);
  });

  it('copes with rows that come later, and forgets one that is reset', () => {
    const recent = new RecentDemand();
    recent.push(Float64Array.of(1), 1);
    recent.push(Float64Array.of(2, 7), 2);
    expect([...recent.matrix().data]).toEqual([1, 0, 2, 7]);
    recent.reset(1);
    expect(recent.matrix()).toMatchObject({ rows: 1, steps: 2 });
  });
});
