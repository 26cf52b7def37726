import { describe, expect, it } from 'vitest';
import type { AllocatorName } from '../../src/allocate/allocator.js';
import { runLive } from './live.js';

/** Part of what is denied live by which a shadow of the same engine and allocator may be off here. */
const precision = 0.02;

describe('shadows', () => {
  it.each([true, false])(
    'change no decision, and one of the same engine and allocator denies what is denied live (borrow: %s)',
    async (borrow) => {
      const shadow = [{}, { allocator: 'credit' }, { allocator: 'proportional' }, { engine: 'last' }] as const;
      const tried = await runLive({ options: { borrow, shadow }, seconds: 40 });
      const figures = tried.figures!;
      expect(tried.events).toEqual([]);
      expect(figures).toMatchObject({
        steps: 40,
        asked: tried.offered,
        askedTokens: tried.offered,
        denied: tried.refused,
        deniedTokens: tried.refused,
      });
      const [same, ...others] = figures.shadows;
      expect(Math.abs(same!.deniedTokens - tried.refused)).toBeLessThan(precision * tried.refused);
      expect(others.map(({ name }) => name)).toEqual(['ewma/credit', 'ewma/proportional', 'last/max-min']);
      for (const { denied, deniedTokens, deniedTokensBySlot } of figures.shadows) {
        expect(denied).toBeGreaterThan(0);
        // What leases and batches cost may differ; here every request costs one token.
        expect(deniedTokens).toBeCloseTo(denied, 6);
        expect(deniedTokensBySlot.reduce((sum, tokens) => sum + tokens, 0)).toBeCloseTo(deniedTokens, 6);
      }
      const alone = await runLive({ options: { borrow }, seconds: 40, shadowed: false });
      expect(alone.decisions).toBe(tried.decisions);
    },
  );

  it('tell engines and allocators apart: without borrowing the last value denies more than moving averages', async () => {
    const { figures } = await runLive({ options: { borrow: false, shadow: [{}, { engine: 'last' }] }, seconds: 40 });
    const [averages, last] = figures!.shadows;
    expect(last!.deniedTokens).toBeGreaterThan(averages!.deniedTokens);
  });

  it('deny by the limit that is in force live, also where that moves', async () => {
    const limit = (second: number) => (second < 15 ? 1000 : second < 30 ? 600 : 1400);
    const { figures, refused, events } = await runLive({ options: { shadow: [{}] }, seconds: 40, limit });
    expect(events).toEqual([]);
    expect(Math.abs(figures!.shadows[0]!.deniedTokens - refused)).toBeLessThan(precision * refused);
  });

  it('find the same whether the table enforces or is itself in shadow and denies nobody', async () => {
    const shadow = [{}, { engine: 'last', allocator: 'proportional' }] as const;
    const enforced = await runLive({ options: { shadow }, seconds: 20 });
    const inShadow = await runLive({ options: { shadow, mode: 'shadow' }, seconds: 20 });
    expect(inShadow.refused).toBe(0);
    expect(inShadow.figures).toEqual(enforced.figures);
    const passed = inShadow.reports.reduce((sum, { shadowDeniedTokens }) => sum + shadowDeniedTokens, 0);
    expect(inShadow.figures!.deniedTokens).toBeCloseTo(passed, 6);
  });

  it('are asked nothing of what the mode off lets pass', async () => {
    const { figures, offered, refused } = await runLive({ options: { shadow: [{}], mode: 'off' }, seconds: 10 });
    expect(offered).toBeGreaterThan(0);
    expect(refused).toBe(0);
    expect(figures).toMatchObject({ asked: 0, askedTokens: 0, denied: 0, deniedTokens: 0 });
    expect(figures!.shadows[0]).toMatchObject({ denied: 0, deniedTokens: 0 });
  });

  it('go on without one that fails, which is one event, and so does the live loop', async () => {
    const specs = [
      { name: 'broken', engine: 'ewma', allocator: 'no such rule' as AllocatorName },
      { name: 'whole', engine: 'ewma', allocator: 'max-min' },
    ] as const;
    const tried = await runLive({ specs, seconds: 20 });
    expect(tried.events).toEqual([expect.stringMatching(/^shadow broken failed and is left out; everything else/)]);
    expect(tried.figures!.shadows.map(({ name }) => name)).toEqual(['whole']);
    const alone = await runLive({ seconds: 20, shadowed: false });
    expect(alone.decisions).toBe(tried.decisions);
  });
});
