import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { explainCommand } from '../../src/cli/explain.js';
import { Foretoken, type ForetokenOptions, type StepReport } from '../../src/index.js';
import { tempFolder } from '../history/records.js';
import { freshName, peerOf } from '../table/processes.js';

const open: Foretoken[] = [];
async function openWith(options: Partial<ForetokenOptions> = {}): Promise<Foretoken> {
  const foretoken = await Foretoken.open({ ratePerSec: 1000, burst: 100, engine: 'ewma', stepMs: 200, ...options });
  open.push(foretoken);
  return foretoken;
}
afterEach(async () => {
  for (const foretoken of open.splice(0)) await foretoken.close();
});

/** Asks for a few tokens until so many steps have been reported. */
async function steps(foretoken: Foretoken, count: number): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  foretoken.watch((report) => reports.push(report));
  while (reports.length < count) {
    for (const name of foretoken.names) foretoken.target(name).tryAcquire();
    await new Promise((done) => setTimeout(done, 5));
  }
  return reports;
}

describe('explain', () => {
  it('answers for a target, now and as of a time that is past, also after the process has closed', async () => {
    const folder = join(tempFolder(), 'history');
    const foretoken = await openWith({ history: { path: folder } });
    const tenant = foretoken.addTarget('tenant', { reservation: 100, mode: 'shadow' });
    const reports = await steps(foretoken, 3);
    const now = await tenant.explain();
    expect(now).toMatchObject({ target: 'tenant', mode: 'shadow', reservation: 100, weight: 1, allocator: 'max-min' });
    expect(now.forecasts.map(({ horizonMs }) => horizonMs)).toEqual([5_000, 30_000, 300_000]);
    expect(now.ratePerSec).toBeGreaterThanOrEqual(100);
    const past = await foretoken.explain('tenant', { atMs: reports.at(-1)!.timeMs });
    expect(past.timeMs).toBeLessThanOrEqual(reports.at(-1)!.timeMs);
    expect(past.text).toContain('tenant had ');
    await foretoken.close();
    const said = vi.spyOn(console, 'log').mockImplementation(() => {});
    const refused = vi.spyOn(console, 'error').mockImplementation(() => {});
    try {
      expect(await explainCommand(['tenant', '--history', folder, '--at', String(past.timeMs)])).toBe(0);
      expect(said).toHaveBeenCalledWith(past.text);
      expect(await explainCommand(['tenant', '--history', folder, '--json'])).toBe(0);
      expect(JSON.parse(said.mock.calls.at(-1)![0] as string)).toMatchObject({ target: 'tenant', reservation: 100 });
      expect(await explainCommand(['nobody', '--history', folder])).toBe(1);
      expect(await explainCommand(['tenant'])).toBe(2);
      expect(await explainCommand(['tenant', '--history', folder, '--at', 'noon'])).toBe(2);
      expect(await explainCommand(['tenant', '--history', join(folder, 'none')])).toBe(1);
      expect(refused).toHaveBeenLastCalledWith(expect.stringContaining('there is none'));
    } finally {
      said.mockRestore();
      refused.mockRestore();
    }
  });

  it('is refused with a code where nobody could answer', async () => {
    const foretoken = await openWith({ control: false });
    const a = foretoken.addTarget('a');
    await expect(a.explain()).rejects.toMatchObject({ code: 'NO_CONTROLLER' });
    using attached = Foretoken.attach(foretoken.share());
    await expect(attached.target('a').explain()).rejects.toMatchObject({ code: 'NO_CONTROLLER' });
    const controlled = await openWith();
    await expect(controlled.explain('a')).rejects.toMatchObject({ code: 'UNKNOWN_TARGET' });
    await expect(controlled.explain('a', { atMs: 5 })).rejects.toMatchObject({ code: 'UNKNOWN_TARGET' });
    await expect(controlled.explain('a', { atMs: Number.NaN })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    await controlled.close();
    await expect(controlled.explain('a')).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('is for the process that controls, where several share a table', async () => {
    const name = freshName();
    const mine = await openWith({ name, stepMs: 1000 });
    mine.addTarget('a');
    const peer = await peerOf(name, { control: true });
    const asked = `foretoken.explain('a').then(({ target }) => target, ({ code }) => code)`;
    expect(await peer.does(asked)).toBe('NO_CONTROLLER');
    // The controller reads the roster at its next tick.
    await vi.waitFor(async () => expect((await mine.explain('a')).target).toBe('a'), 20_000);
    await peer.ends();
  });
});
