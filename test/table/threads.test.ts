import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { addon } from '../../src/table/native.js';
import { BucketTable } from '../../src/table/table.js';
import { childFile } from './processes.js';

/** How a child ends that is given the time to, or is found hanging. */
function end(...args: string[]) {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [childFile, ...args], {
    encoding: 'utf8',
    timeout: 40_000,
    killSignal: 'SIGKILL',
  });
  return { status, signal, stdout, stderr };
}

describe('threads that share a table', () => {
  it('may end in every way, in any order, and the table goes on', () => {
    const ways = 'returns,exits,throws,terminated,waits,exits,returns,terminated';
    expect(end('threads', ways)).toEqual({ status: 0, signal: null, stdout: 'true\ntrue\n', stderr: '' });
  });

  it('may be terminated in the middle of attaching to a table', () => {
    const ways = 'attaches,attaches,attaches,attaches,returns';
    expect(end('threads', ways)).toEqual({ status: 0, signal: null, stdout: 'true\ntrue\n', stderr: '' });
  });

  it('may load and unload the addon many at once, without the main thread', () => {
    expect(end('unload')).toEqual({ status: 0, signal: null, stdout: '"done"\n', stderr: '' });
  });
});

describe('a process whose threads use a table', () => {
  it('ends with the code it exits with', () => {
    expect(end('ends', 'exit')).toEqual({ status: 3, signal: null, stdout: '', stderr: '' });
  });

  it('ends when it has closed, although threads are busy and requests waited', () => {
    expect(end('ends', 'close')).toEqual({ status: 4, signal: null, stdout: '', stderr: '' });
  });

  it('ends with its own error when that is thrown', () => {
    const { status, signal, stderr } = end('ends', 'throw');
    expect({ status, signal }).toEqual({ status: 1, signal: null });
    expect(stderr).toContain('thrown on purpose');
    expect(stderr).not.toMatch(/terminate called|Napi|FATAL/);
  });

  it('ends by a signal', () => {
    expect(end('ends', 'signal')).toMatchObject({ status: null, signal: 'SIGTERM', stderr: '' });
  });

  it('is kept by nothing once it has closed', () => {
    expect(end('idle')).toEqual({ status: 0, signal: null, stdout: 'true\n', stderr: '' });
  });
});

describe('a table that was closed', () => {
  it('keeps no memory of the process', async () => {
    const openAndClose = async (times: number) => {
      for (let i = 0; i < times; i++) {
        const table = BucketTable.create({ capacity: 16, ratePerSec: 1, burst: 1, clock: 'monotonic' });
        table.acquireBatch([table.addTarget({ mayBorrow: true })], 1, 4096);
        table.close();
        // Memory outside the heap is given back between turns of the loop.
        if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    // What is collected in its own time comes to its usual amount.
    await openAndClose(1000);
    const before = process.memoryUsage().rss;
    await openAndClose(2000);
    // What one frame holds is 80 kB: 160 MB, were they all kept.
    expect(process.memoryUsage().rss - before).toBeLessThan(80e6);
  });
});

describe('what is read while another thread adds targets', () => {
  it('has the targets there was room for, and the others the next time', () => {
    const { createTable, constants } = addon();
    const made = createTable({ capacity: 16, rate: 100, burst: 100, virtual: false, system: false, areaBytes: 0 });
    if (!made || 'refusal' in made) throw new Error('no table');
    const { columns, completions } = constants.collect;
    // Room for the reservoir and one target, made before the second was added.
    const few = new Float64Array(2 * columns);
    const [a, b] = [made.addTarget(1), made.addTarget(1)];
    const frame = new Float64Array(made.frame);
    for (const handle of [a, b]) {
      frame[constants.frame.handle] = handle;
      made.complete();
    }
    expect(made.collect(few)).toBe(2);
    expect(few[columns + completions]).toBe(1);
    const enough = new Float64Array(3 * columns);
    expect(made.collect(enough)).toBe(3);
    expect([enough[columns + completions], enough[2 * columns + completions]]).toEqual([0, 1]);
    expect(made.levels(new Float64Array(2 * constants.levels.columns))).toBe(2);
    expect(made.levels(new Float64Array(1))).toBe(constants.status.invalid);
    made.close();
  });
});
