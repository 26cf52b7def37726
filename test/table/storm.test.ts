import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { listRegions, removeRegion } from '../../src/index.js';
import { BucketTable } from '../../src/table/table.js';
import { Waiters } from '../../src/table/waiters.js';
import { freshName } from './processes.js';

/** The long form lasts 30 s: `npm run test:long`. */
const stormMs = Number(process.env.FORETOKEN_STORM_SECONDS ?? 4) * 1000;
/** However slow the machine: so many are killed at work. */
const leastKills = 12;
const processes = 8;
const childFile = fileURLToPath(new URL('./storm-child.js', import.meta.url));
const ratePerSec = 2000;
const burst = 500;

describe('a kill storm', () => {
  it(
    'of processes that acquire and adjust leaves counters and laws whole, and nobody hanging',
    async () => {
      const name = freshName();
      const folder = mkdtempSync(join(tmpdir(), 'foretoken-storm-'));
      /** With the file each writes to. */
      const children = new Map<ChildProcess, string>();
      onTestFinished(() => {
        for (const child of children.keys()) child.kill('SIGKILL');
        rmSync(folder, { recursive: true, force: true });
        if (listRegions().some((region) => region.name === name)) removeRegion(name, { force: true });
      });
      // It keeps the table for as long as the storm lasts, whoever is alive.
      const table = BucketTable.create({ name, capacity: 4096, ratePerSec, burst, clock: 'monotonic' });
      // So many targets that changing all of them takes a while, in which a process may be killed.
      for (let i = 0; i < 2000; i++) table.addTarget({ mayBorrow: true });
      const files: string[] = [];
      const failures: string[] = [];
      let seed = Number(process.env.FORETOKEN_SEED ?? 1);
      const random = (below: number): number => {
        seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
        return Math.floor((seed / 2 ** 32) * below);
      };
      const start = (): void => {
        const file = join(folder, `${files.length}`);
        files.push(file);
        const child = spawn(process.execPath, [childFile, name, file, `${random(1e9)}`], {
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        children.set(child, file);
        child.stderr!.on('data', (text) => failures.push(String(text)));
        child.on('exit', () => children.delete(child));
      };
      const kill = async (child: ChildProcess): Promise<void> => {
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      };
      for (let i = 0; i < processes; i++) start();
      const untilMs = performance.now() + stormMs;
      let kills = 0;
      while (performance.now() < untilMs || kills < leastKills) {
        await new Promise((resolve) => setTimeout(resolve, 20 + random(100)));
        const atWork = [...children].filter(([, file]) => existsSync(file));
        if (atWork.length === 0) continue;
        await kill(atWork[random(atWork.length)]![0]);
        kills++;
        start();
      }
      await Promise.all([...children.keys()].map(kill));
      expect(failures).toEqual([]);

      // Whoever comes next can change, wait and acquire, whatever was going on when the last of them died.
      const last = { reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY, limitBurst: 1, throttlingCost: 32 };
      const { handle } = table.putTarget('last', { mayBorrow: true, settings: last });
      const waiters = new Waiters(table, 10);
      await waiters.join(handle, 1, 50_000, undefined);
      waiters.close();

      const sums = table.sums();
      expect(sums.rate).toBeLessThanOrEqual(ratePerSec);
      expect(sums.burst).toBeLessThanOrEqual(burst);
      expect(sums.fallbackRate).toBeLessThanOrEqual(ratePerSec);
      expect(sums.fallbackBurst).toBeLessThanOrEqual(burst);

      const { collect } = table.constants;
      let admitted = 0;
      let tokens = 0;
      for (const { handle: each } of table.rosterSince(0)) {
        const totals = each === 0 ? undefined : table.totals(each);
        if (each === handle || !totals) continue;
        admitted += totals[collect.admitted]!;
        tokens += totals[collect.admittedTokens]!;
      }
      const written = files.reduce((sum, file) => {
        try {
          const bytes = readFileSync(file);
          return sum + (bytes.length === 8 ? bytes.readDoubleLE() : 0);
        } catch {
          return sum;
        }
      }, 0);
      const { repairs, term } = table.role();
      console.log(
        `storm: ${kills} killed at work, ${admitted} admissions, ${term} terms, ${repairs} repairs of a dead writer's work`,
      );
      expect(admitted).toBeGreaterThan(100);
      // One request per killed process may be counted and not written down, or taken and not counted.
      expect(Math.abs(admitted - written)).toBeLessThanOrEqual(files.length);
      expect(tokens).toBeLessThanOrEqual((ratePerSec * table.nowMs()) / 1000 + burst);
      table.close();
      expect(listRegions().filter((region) => region.name === name)).toEqual([]);
    },
    stormMs + 120_000,
  );
});
