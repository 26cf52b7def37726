import { afterEach, describe, expect, it } from 'vitest';
import { Foretoken, type ForetokenError, type ForetokenOptions, type StepReport } from '../../src/index.js';
import { freshName, peerOf } from '../table/processes.js';

const open: Foretoken[] = [];
async function openWith(options: Partial<ForetokenOptions> = {}): Promise<Foretoken> {
  const foretoken = await Foretoken.open({ ratePerSec: 0.001, burst: 10, control: false, ...options });
  open.push(foretoken);
  return foretoken;
}
afterEach(async () => {
  for (const foretoken of open.splice(0)) await foretoken.close();
});

const refusal = (act: () => unknown): Partial<ForetokenError> => {
  try {
    act();
  } catch (error) {
    return error as ForetokenError;
  }
  return { message: 'nothing was refused' };
};
const ask = (target: { tryAcquire(): boolean }, times: number) =>
  Array.from({ length: times }, () => target.tryAcquire()).filter(Boolean).length;

describe('a resource in shadow', () => {
  it('admits everybody and counts whom it would have denied apart from whom it denied', async () => {
    const foretoken = await openWith({ mode: 'shadow' });
    const a = foretoken.addTarget('a');
    expect(ask(a, 15)).toBe(15);
    expect(a.totals()).toMatchObject({ admitted: 10, denied: 0, shadowDenied: 5, unmetered: 0 });
    expect(a.totals()).toMatchObject({ admittedTokens: 10, deniedTokens: 0, shadowDeniedTokens: 5 });
    foretoken.setMode('enforce');
    expect(ask(a, 3)).toBe(0);
    expect(a.totals()).toMatchObject({ admitted: 10, denied: 3, shadowDenied: 5, deniedTokens: 3 });
  });

  it('lets nobody wait, not even for more than a bucket can ever hold', async () => {
    const foretoken = await openWith({ mode: 'shadow' });
    const a = foretoken.addTarget('a');
    await a.acquire(10);
    await a.acquire(1000, { deadlineMs: 0 });
    expect(a.totals()).toMatchObject({ admitted: 1, shadowDenied: 1, shadowDeniedTokens: 1000 });
  });
});

describe('a resource that is off', () => {
  it('decides nothing and counts who came', async () => {
    const foretoken = await openWith({ mode: 'off', borrow: false });
    const a = foretoken.addTarget('a');
    expect(ask(a, 25)).toBe(25);
    await a.acquire(5);
    expect(a.totals()).toMatchObject({ admitted: 0, denied: 0, shadowDenied: 0, unmetered: 26, unmeteredTokens: 30 });
    expect(a.peek().tokens).toBeCloseTo(10, 3);
  });

  it('lets go whoever waits when it is switched off', async () => {
    const foretoken = await openWith();
    const a = foretoken.addTarget('a');
    a.tryAcquire(10);
    const waiting = [a.acquire(5), a.acquire(7)];
    foretoken.setMode('off');
    await Promise.all(waiting);
    expect(a.totals()).toMatchObject({ admitted: 1, unmetered: 2 });
  });

  it('goes on being watched by the controller, which takes nobody for short', async () => {
    const foretoken = await openWith({ ratePerSec: 1000, mode: 'off', control: true, stepMs: 200, tickMs: 20 });
    const a = foretoken.addTarget('a');
    const reports: StepReport[] = [];
    foretoken.watch((report) => reports.push(report));
    const sum = (pick: (report: StepReport) => number) => reports.reduce((total, report) => total + pick(report), 0);
    ask(a, 500);
    while (sum(({ unmeteredTokens }) => unmeteredTokens) < 500) await new Promise((done) => setTimeout(done, 20));
    expect(sum(({ arrivals }) => arrivals)).toBe(500);
    expect(sum(({ deniedTokens, shadowDeniedTokens }) => deniedTokens + shadowDeniedTokens)).toBe(0);
    expect(sum(({ admittedTokens }) => admittedTokens)).toBe(0);
  });
});

describe("a target's own mode", () => {
  it("wins over the resource's, and is had back after the resource was off", async () => {
    const foretoken = await openWith();
    const [a, b] = foretoken.addTargets([{ name: 'a', mode: 'shadow' }, { name: 'b' }]) as [never, never];
    const modes = () => [a, b].map(({ mode }: { mode: string }) => mode);
    expect(modes()).toEqual(['shadow', 'enforce']);
    foretoken.setMode('off');
    expect(foretoken.mode).toBe('off');
    expect(modes()).toEqual(['off', 'off']);
    foretoken.setMode('shadow');
    foretoken.updateTarget('a', { mode: 'enforce' });
    expect(modes()).toEqual(['enforce', 'shadow']);
    foretoken.updateTarget('a', { weight: 2 });
    expect(modes()).toEqual(['enforce', 'shadow']);
    foretoken.updateTarget('a', { mode: 'inherit' });
    expect(modes()).toEqual(['shadow', 'shadow']);
    foretoken.removeTarget('b');
    expect(foretoken.addTarget('b').mode).toBe('shadow');
  });

  it('is forgotten with the target', async () => {
    const foretoken = await openWith();
    foretoken.addTarget('a', { mode: 'off' });
    foretoken.removeTarget('a');
    expect(foretoken.addTarget('a').mode).toBe('enforce');
  });

  it('that is none is refused with a code, as is a resource’s', async () => {
    const foretoken = await openWith();
    expect(refusal(() => foretoken.addTarget('a', { mode: 'on' as 'off' }))).toMatchObject({
      code: 'INVALID_OPTION',
      message: 'mode: expected one of "enforce", "shadow", "off", "inherit", got "on"',
    });
    expect(foretoken.has('a')).toBe(false);
    expect(refusal(() => foretoken.setMode('inherit' as 'off'))).toMatchObject({
      code: 'INVALID_OPTION',
      message: 'mode: expected one of "enforce", "shadow", "off", got "inherit"',
    });
    await expect(Foretoken.open({ ratePerSec: 1, mode: 'on' as 'off' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    });
  });

  it('set by one process holds for the others, and for those who add the target after it', async () => {
    const name = freshName();
    const mine = await openWith({ name, ratePerSec: 1000, burst: 100 });
    const a = mine.addTarget('a');
    const peer = await peerOf(name);
    expect(await peer.does(`foretoken.addTarget('a').mode`)).toBe('enforce');
    mine.updateTarget('a', { mode: 'shadow' });
    expect(await peer.does(`foretoken.target('a').mode`)).toBe('shadow');
    expect(await peer.does(`foretoken.setMode('off') ?? foretoken.target('a').mode`)).toBe('off');
    expect(a.mode).toBe('off');
    mine.setMode('enforce');
    const b = mine.addTarget('b', { mode: 'shadow' });
    expect(await peer.does(`foretoken.addTarget('b').mode`)).toBe('shadow');
    expect(b.mode).toBe('shadow');
    await peer.ends();
  });
});

describe('reservations', () => {
  for (const borrow of [true, false])
    it(`beyond the resource are refused, saying how much is reserved and how much there is (borrow: ${borrow})`, async () => {
      const foretoken = await openWith({ ratePerSec: 1000, burst: 100, borrow });
      foretoken.addTarget('a', { reservation: 600 });
      foretoken.addTarget('b', { reservation: 300 });
      const expected = {
        code: 'OVERCOMMITTED',
        message: 'reservations: expected at most 1000 tokens/s together, which the resource serves, got 1100',
      };
      expect(refusal(() => foretoken.addTarget('c', { reservation: 200 }))).toMatchObject(expected);
      expect(refusal(() => foretoken.updateTarget('b', { reservation: 500 }))).toMatchObject(expected);
      foretoken.updateTarget('b', { reservation: 400 });
    });

  it('change live: the rate follows, the tokens held stay and no more come of it', async () => {
    const foretoken = await openWith({ ratePerSec: 1000, burst: 100, control: true });
    const a = foretoken.addTarget('a', { reservation: 100 });
    const rateOf = async (ratePerSec: number) => {
      while (Math.abs(a.peek().ratePerSec - ratePerSec) > 0.01) await new Promise((done) => setTimeout(done, 10));
    };
    await rateOf(100);
    foretoken.updateTarget('a', { reservation: 900, weight: 5 });
    await rateOf(900);
    foretoken.updateTarget('a', { reservation: 10, limit: 20 });
    await rateOf(10);
    expect(a.peek().tokens).toBeLessThanOrEqual(20);
    expect(ask(a, 200)).toBeLessThanOrEqual(21);
  });
});
