import { describe, expect, it } from 'vitest';
import { Borrowing, type TickUse } from '../../src/allocate/borrowing.js';

const column = (...values: number[]) => Float64Array.from([0, ...values]);

/** A tick of 100 ms of 100 tokens/s; slot 1 is quiet, slots 2 and 3 ask for all there is. */
function tick(over: Partial<TickUse> = {}): TickUse {
  return {
    slots: 4,
    seconds: 0.1,
    demand: column(0, 50, 50),
    denied: column(0, 45, 45),
    borrowed: column(0, 5, 5),
    demandPerSec: column(0, 500, 500),
    forecastPerSec: column(Number.NaN, Number.NaN, Number.NaN),
    weights: column(1, 1, 1),
    meanCost: 1,
    ratePerSec: 100,
    burst: 100,
    reservoir: 60,
    reservoirBurst: 100,
    ...over,
  };
}

function afterTicks(ticks: number, over: Partial<TickUse> = {}): { borrowing: Borrowing; stock: number } {
  const borrowing = new Borrowing();
  let stock = 0;
  for (let i = 0; i < ticks; i++) {
    borrowing.settle(tick(over));
    stock = borrowing.divide(tick(over), 100);
  }
  return { borrowing, stock };
}

describe('borrowing', () => {
  it('keeps a stock for who took less than its share, as far as it did', () => {
    const early = afterTicks(1);
    expect(early.stock).toBeCloseTo(0, 9);
    const { borrowing, stock } = afterTicks(100);
    // Its share is half, and the burst is worth one second of it: capped by the room above two ticks' tokens.
    expect(stock).toBeCloseTo(borrowing.savedTokens[1]!, 9);
    expect(stock).toBeGreaterThan(30);
    expect(Array.from(borrowing.mayTakeStock.subarray(1, 4))).toEqual([1, 0, 0]);
    expect(borrowing.shares[1]).toBeGreaterThan(stock - 1e-9);
  });

  it('keeps a stock for who is forecast to leave its share, and shows who may take it', () => {
    /** After a quiet time slot 1 takes half as much again as its share, until what it saved is gone. */
    const busy = (forecast: number) => {
      const { borrowing } = afterTicks(100, { demand: column(1, 50, 50), demandPerSec: column(10, 500, 500) });
      const use = tick({
        demand: column(5, 50, 50),
        denied: column(0, 47, 47),
        borrowed: column(5, 3, 3),
        demandPerSec: column(50, 500, 500),
        forecastPerSec: column(forecast, 500, 500),
      });
      let stock = 0;
      for (let i = 0; i < 40; i++) {
        borrowing.settle(use);
        stock = borrowing.divide(use, 100);
      }
      return { borrowing, stock };
    };
    expect(busy(Number.NaN).stock).toBe(0);
    const { borrowing, stock } = busy(10);
    expect(stock).toBeGreaterThan(30);
    expect(Array.from(borrowing.mayTakeStock.subarray(1, 4))).toEqual([1, 0, 0]);
  });

  it('keeps nothing where everybody is greedy', () => {
    const everybody = { demand: column(50, 50, 50), denied: column(46, 47, 47), borrowed: column(4, 3, 3) };
    const { borrowing, stock } = afterTicks(100, { ...everybody, demandPerSec: column(500, 500, 500) });
    expect(stock).toBe(0);
    for (const slot of [1, 2, 3]) expect(borrowing.hasSaved(slot)).toBe(false);
  });

  it('lets those who are short have all that lies above the stock, by weight', () => {
    const weights = column(1, 1, 3);
    const { borrowing, stock } = afterTicks(100, { weights, borrowed: column(0, 2.5, 7.5) });
    const above = Math.max(60 - stock, 10);
    expect(borrowing.shares[2]! + borrowing.shares[3]!).toBeGreaterThanOrEqual(above - 1e-9);
    expect(borrowing.shares[3]! / borrowing.shares[2]!).toBeGreaterThan(1.5);
  });

  it('takes nothing of that from them for who comes with savings', () => {
    const { borrowing } = afterTicks(100);
    const comes = tick({ demand: column(20, 50, 50), denied: column(5, 45, 45), borrowed: column(15, 5, 5) });
    borrowing.settle(comes);
    const stock = borrowing.divide(comes, 100);
    expect(borrowing.hasSaved(1)).toBe(true);
    expect(borrowing.shares[2]! + borrowing.shares[3]!).toBeGreaterThanOrEqual(60 - stock - 1e-9);
  });

  it('makes good to whom fewer tokens came than to others of its weight', () => {
    const level = afterTicks(50).borrowing;
    const { borrowing } = afterTicks(50, { borrowed: column(0, 4, 6) });
    expect(level.shares[2]).toBeCloseTo(level.shares[3]!, 9);
    expect(borrowing.shares[2]! - borrowing.shares[3]!).toBeGreaterThan(5);
  });

  it('keeps less when a full reservoir is found beside those who were denied', () => {
    const small = { reservoirBurst: 20, reservoir: 10 };
    const passing = afterTicks(50, small);
    expect(passing.borrowing.passes).toBe(true);
    expect(passing.stock).toBeCloseTo(8, 9);
    const full = afterTicks(50, { ...small, reservoir: 20 });
    expect(full.borrowing.passes).toBe(false);
    expect(full.stock).toBeLessThan(0.01);
  });

  it('forgets a slot that was given to another', () => {
    const { borrowing } = afterTicks(100);
    borrowing.reset(1);
    expect(borrowing.savedTokens[1]).toBe(0);
    expect(borrowing.hasSaved(1)).toBe(false);
  });
});
