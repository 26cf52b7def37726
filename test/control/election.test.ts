import { afterEach, describe, expect, it } from 'vitest';
import { Election } from '../../src/control/election.js';
import type { ControllerData } from '../../src/control/protocol.js';
import { Foretoken, type ForetokenError, type ForetokenEvent, listRegions, removeRegion } from '../../src/index.js';
import { BucketTable } from '../../src/table/table.js';
import { freshName, peerOf } from '../table/processes.js';

const opened: { close(): unknown }[] = [];
const names: string[] = [];
afterEach(async () => {
  for (const it of opened.splice(0)) await it.close();
  for (const { name } of listRegions()) if (names.includes(name)) removeRegion(name, { force: true });
  names.length = 0;
});

const named = (): string => {
  const name = freshName();
  names.push(name);
  return name;
};
const tableBy = (name: string): BucketTable => {
  const table = BucketTable.create({ name, capacity: 1024, ratePerSec: 1000, burst: 100, clock: 'monotonic' });
  opened.push(table);
  return table;
};
const light = { engine: 'ewma', stepMs: 200, tickMs: 50, horizonsMs: [400], failSafeMs: 2000 } as const;
async function openBy(name: string, events: ForetokenEvent[] = [], options: object = {}): Promise<Foretoken> {
  const onEvent = (event: ForetokenEvent) => events.push(event);
  const foretoken = await Foretoken.open({ name, ratePerSec: 1000, burst: 100, ...light, ...options, onEvent });
  opened.push(foretoken);
  return foretoken;
}
const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as ForetokenError).code;
  }
  return 'none';
};
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('the controller role', () => {
  it('is held by one, and who had it is refused whatever it tries', () => {
    const name = named();
    const [first, second] = [tableBy(name), tableBy(name)];
    const handle = first.addTarget({ mayBorrow: true });
    expect(first.takeRole(60_000)).toBe(1);
    expect(second.takeRole(60_000)).toBe(0);
    first.extendValidity(60_000);
    expect(first.deposit(handle, 10, 10_000)).toBeGreaterThan(9);
    first.leaveRole();
    expect(second.takeRole(60_000)).toBe(2);
    expect(first.takeRole(60_000)).toBe(0);
    second.leaveRole();
    expect(first.takeRole(0)).toBe(3);
    expect(second.takeRole(60_000)).toBe(4);
    const pairs = new Float64Array(4);
    for (const act of [
      () => first.renewRole(1000),
      () => first.allocate(pairs, 2, true),
      () => first.tick(),
      () => first.extendValidity(100_000),
      () => first.setBorrowShares(new Float64Array(2), 2),
      () => first.setFallback(handle, 1, 1),
    ])
      expect(codeOf(act)).toBe('ROLE_LOST');
    expect(first.deposit(handle, 10, 10_000)).toBe(0);
    expect(first.withdraw(handle)).toBe(0);
    expect(second.withdraw(handle)).toBeGreaterThan(9);
    expect(second.role()).toMatchObject({ holder: process.pid, term: 4, valid: true });
  });

  it('is asked for no longer than allocations last, so that another has it before those of one that hangs lapse', async () => {
    for (const [failSafeMs, tickMs] of [
      [2000, 50],
      [60_000, 1000],
    ] as const) {
      const asked: number[] = [];
      const table = { takeRole: (forMs: number) => asked.push(forMs) - 1 } as unknown as BucketTable;
      const options = { failSafeMs, tickMs } as ControllerData['options'];
      const hooks = { onEvent: () => {}, onStep: () => {}, onTaken: () => {} };
      expect(await new Election(table, options, hooks).begin()).toBe(false);
      expect(asked).toHaveLength(1);
      // Whoever takes over does so at a tick, and allocates at the next.
      expect(asked[0]).toBeLessThan(failSafeMs - 2 * tickMs);
      expect(asked[0]).toBeGreaterThanOrEqual(2 * tickMs);
    }
  });

  it('goes to another process when its holder is killed, before allocations lapse', async () => {
    const name = named();
    // So long that nothing but the holder's death can be what the other goes by.
    const patient = { failSafeMs: 60_000 };
    const peer = await peerOf(name, { ...light, ...patient, control: true });
    await peer.does("foretoken.addTarget('theirs', { reservation: 30 }).handle");
    const events: ForetokenEvent[] = [];
    const mine = await openBy(name, events, patient);
    const a = mine.addTarget('mine', { reservation: 20 });
    expect(mine.role()).toMatchObject({ holder: peer.process.pid, term: 1 });
    await peer.kill();
    await until(() => mine.role().holder === process.pid);
    expect(mine.role()).toMatchObject({ term: 2, valid: true });
    // It knows the targets of the one that is gone, and acts for them.
    const report = await new Promise<{ rows?: { name: string }[] }>((resolve) => {
      mine.watch((step) => step.rows!.length === 2 && resolve(step), { rows: true });
    });
    expect(report.rows!.map((row) => row.name).sort()).toEqual(['mine', 'theirs']);
    expect(events.map(({ kind }) => kind)).not.toContain('resumed');
    expect(a.tryAcquire()).toBe(true);
  });

  it('goes to another process when its holder hangs, which does nothing any more when it goes on', async () => {
    const name = named();
    const peer = await peerOf(name, { ...light, control: true });
    await peer.does("void foretoken.addTarget('a', { reservation: 30 })");
    const mine = await openBy(name);
    expect(mine.role().holder).toBe(peer.process.pid);
    peer.process.kill('SIGSTOP');
    await until(() => mine.role().holder === process.pid);
    peer.process.kill('SIGCONT');
    expect(await peer.does('new Promise((r) => setTimeout(() => r(foretoken.role().holder), 300))')).toBe(process.pid);
    expect(mine.role().term).toBe(2);
    expect(await peer.does("foretoken.target('a').tryAcquire()")).toBe(true);
  });

  it('is given back by who closes, and a target added elsewhere is known to who takes it', async () => {
    const name = named();
    const first = await openBy(name);
    const events: ForetokenEvent[] = [];
    const second = await openBy(name, events);
    second.addTarget('late', { reservation: 500 });
    const { rows } = await new Promise<{ rows?: { name: string }[] }>((resolve) => {
      first.watch((step) => step.rows!.length === 1 && resolve(step), { rows: true });
    });
    expect(rows![0]!.name).toBe('late');
    await first.close();
    await until(() => events.some(({ kind }) => kind === 'role'));
    expect(second.role()).toMatchObject({ holder: process.pid, term: 2 });
    expect(second.controlled).toBe(true);
  });

  it('is given back when its history cannot be opened, and opening says so', async () => {
    const name = named();
    await expect(
      Foretoken.open({ name, ratePerSec: 1000, burst: 100, ...light, history: { path: '/dev/null/history' } }),
    ).rejects.toMatchObject({ code: 'HISTORY_UNAVAILABLE' });
    const mine = await openBy(name);
    expect(mine.role().holder).toBe(process.pid);
  });
});
