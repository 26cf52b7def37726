import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ForetokenError } from '../../src/errors.js';
import { maxLineBytes } from '../../src/workload/lines.js';
import { readTrace, type Trace } from '../../src/workload/trace.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'foretoken-trace-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

let files = 0;
async function fileOf(content: string | Uint8Array): Promise<string> {
  const path = join(folder, `trace-${files++}.csv`);
  await writeFile(path, content);
  return path;
}
const read = async (content: string | Uint8Array, cost: 'requests' | 'bytes' = 'requests'): Promise<Trace> =>
  readTrace(await fileOf(content), { cost });

const requests = 'time_ms,target,op,bytes\n0,a,r,512\n1.5,b,w,0\n1.5,a,-,4096\n';
const bins = 'time_ms,target,count\n0,a,2\n0,b,4\n1000,a,0\n1000,b,250\n3000,a,1.5\n3000,b,0\n';

describe('a trace of requests', () => {
  test('comes back as columns, names in order of first appearance', async () => {
    const trace = await read(requests);
    expect(trace.names).toEqual(['a', 'b']);
    expect([...trace.timesMs]).toEqual([0, 1.5, 1.5]);
    expect([...trace.target]).toEqual([0, 1, 0]);
    expect([...trace.op]).toEqual([1, 2, 0]);
    expect([...trace.bytes]).toEqual([512, 0, 4096]);
    expect([...trace.cost]).toEqual([1, 1, 1]);
    expect(trace).toMatchObject({ requests: 3, durationMs: 1.5 });
    expect(trace.binMs).toBeUndefined();
  });

  test('costs its bytes, at least 1, when asked to', async () => {
    expect([...(await read(requests, 'bytes')).cost]).toEqual([512, 1, 4096]);
  });

  test('reads the same plain, gzipped, with CRLF, with a byte order mark and without a last newline', async () => {
    const plain = { ...(await read(requests)), file: '' };
    for (const variant of [
      gzipSync(requests),
      Buffer.concat([gzipSync(requests.slice(0, 40)), gzipSync(requests.slice(40))]),
      requests.replaceAll('\n', '\r\n'),
      `\uFEFF${requests}`,
      requests.slice(0, -1),
      `${requests}\n\r\n`,
    ])
      expect({ ...(await read(variant)), file: '' }).toEqual(plain);
  });

  test('reads the same however its bytes are cut into chunks', async () => {
    const lines = Array.from({ length: 300 }, (_, i) => `${i / 4},tärget ${i % 7},r,${i}`);
    const text = `time_ms,target,op,bytes\n${lines.join('\n')}\n`;
    const whole = { ...(await read(text)), file: 'standard input' };
    const stdin = Object.getOwnPropertyDescriptor(process, 'stdin')!;
    try {
      for (const bytes of [Buffer.from(text), gzipSync(text)])
        for (const size of [1, 7, 100_000]) {
          const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
            bytes.subarray(i * size, (i + 1) * size),
          );
          Object.defineProperty(process, 'stdin', {
            value: Readable.from(chunks, { objectMode: false }),
            configurable: true,
          });
          expect(await readTrace('-')).toEqual(whole);
        }
    } finally {
      Object.defineProperty(process, 'stdin', stdin);
    }
  });
});

describe('a trace of bins', () => {
  test('becomes equal requests spread over each bin, merged in time order', async () => {
    const trace = await read(bins);
    expect(trace.binMs).toBe(1000);
    expect(trace.durationMs).toBe(4000);
    expect(trace.names).toEqual(['a', 'b']);
    const first = [...trace.timesMs].slice(0, 6).map((time, i) => [time, trace.names[trace.target[i]!], trace.cost[i]]);
    expect(first).toEqual([
      [0, 'a', 1],
      [0, 'b', 1],
      [250, 'b', 1],
      [500, 'a', 1],
      [500, 'b', 1],
      [750, 'b', 1],
    ]);
    // 250 tokens are 100 requests of 2.5; 1.5 tokens are 2 of 0.75.
    expect(trace.requests).toBe(6 + 100 + 2);
    expect([...trace.cost].slice(6, 106).every((cost) => cost === 2.5)).toBe(true);
    expect(trace.timesMs[105]).toBe(1990);
    expect([...trace.timesMs].slice(106)).toEqual([3000, 3500]);
    expect([...trace.cost].slice(106)).toEqual([0.75, 0.75]);
  });

  test.each([60_000, 300_000, 3_600_000])('begins whole seconds exactly, in bins of %i ms', async (binMs) => {
    const rows = Array.from({ length: 100 }, (_, i) => `0,t${i},${i + 1}`);
    const trace = await read(`time_ms,target,count\n${rows.join('\n')}\n${binMs},t0,0`);
    const off = trace.timesMs.filter((time) => time !== Math.round(time) && Math.abs(time - Math.round(time)) < 1e-6);
    expect([...off]).toEqual([]);
  });

  test('keeps the sum of the counts, the order of time and the bins, whatever the counts', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 400 })),
          {
            minLength: 1,
            maxLength: 30,
          },
        ),
        async (cells) => {
          const rows = [[0, 0, 1], [1, 0, 1], ...cells].sort((a, b) => a[0]! - b[0]!);
          const text = rows.map(([bin, target, count]) => `${bin! * 100},t${target},${count}`).join('\n');
          const trace = await read(`time_ms,target,count\n${text}`);
          const total = rows.reduce((sum, row) => sum + row[2]!, 0);
          expect(trace.cost.reduce((sum, cost) => sum + cost, 0)).toBeCloseTo(total, 6);
          const perBin = new Float64Array(20);
          for (let i = 0; i < trace.requests; i++) {
            if (i > 0) expect(trace.timesMs[i]!).toBeGreaterThanOrEqual(trace.timesMs[i - 1]!);
            perBin[Math.floor(trace.timesMs[i]! / trace.binMs!)]! += trace.cost[i]!;
          }
          for (const [bin] of rows) {
            const expected = rows.filter((row) => row[0] === bin).reduce((sum, row) => sum + row[2]!, 0);
            expect(perBin[Math.round((bin! * 100) / trace.binMs!)]!).toBeCloseTo(expected, 6);
          }
        },
      ),
      { seed: 7, numRuns: 60 },
    );
  });
});

describe('a malformed trace names its file, line, what was expected and what was found', () => {
  const head = 'time_ms,target,op,bytes\n';
  const binHead = 'time_ms,target,count\n';
  const wrong: [string, string | Uint8Array, number, RegExp][] = [
    ['an empty file', '', 1, /expected the header .*, got an empty file/],
    ['an empty file in gzip', gzipSync(''), 1, /got an empty file/],
    ['no header', '0,a,r,512\n', 1, /expected the header time_ms,target,op,bytes or .*, got "0,a,r,512"/],
    ['unknown columns', 'time_ms,client,op,bytes\n0,a,r,1\n', 1, /got "time_ms,client,op,bytes"/],
    ['no rows', head, 2, /expected at least one row/],
    ['time going backwards', `${head}0,a,r,1\n5,a,r,1\n4.999,a,r,1\n`, 4, /not to go back from 5, got "4\.999"/],
    ['a time that is NaN', `${head}NaN,a,r,1\n`, 2, /time_ms.* number.*got "NaN"/],
    ['a negative time', `${head}-1,a,r,1\n`, 2, /got "-1"/],
    ['an infinite time', `${head}1e999,a,r,1\n`, 2, /got "1e999"/],
    ['a Unix time', `${head}1700000000000,a,r,1\n`, 2, /counted from the start of the trace.*got "1700000000000"/],
    ['a hexadecimal number', `${head}0,a,r,0x10\n`, 2, /bytes to be a number/],
    ['a number with blanks', `${head}0,a,r, 1\n`, 2, /got " 1"/],
    ['negative bytes', `${head}0,a,r,-5\n`, 2, /bytes to be a number from 0.*got "-5"/],
    ['no bytes', `${head}0,a,r,\n`, 2, /got ""/],
    ['bytes beyond exact integers', `${head}0,a,r,1e300\n`, 2, /got "1e300"/],
    ['an unknown op', `${head}0,a,read,1\n`, 2, /op to be r, w or -, got "read"/],
    ['an empty name', `${head}0,,r,1\n`, 2, /name of a target/],
    ['too few columns', `${head}0,a,r\n`, 2, /expected 4 columns, got 3/],
    ['too many columns', `${head}0,a,r,1,\n`, 2, /expected 4 columns, got 5/],
    ['an empty line between rows', `${head}0,a,r,1\n\n1,a,r,1\n`, 3, /got an empty line/],
    ['a line beyond all reason', `${head}0,a,r,1\n0,${'x'.repeat(maxLineBytes)},r,1\n`, 3, /at most 65536 bytes/],
    ['a file without lines', 'x'.repeat(3 << 20), 1, /at most 65536 bytes/],
    [
      'text that is not UTF-8',
      Buffer.concat([Buffer.from(`${head}0,a,r,1\n0,`), Buffer.from([0xff, 0x2c])]),
      3,
      /UTF-8/,
    ],
    ['four columns in a file of bins', `${binHead}0,a,r,1\n`, 2, /expected 3 columns, got 4/],
    ['a negative count', `${binHead}0,a,-1\n`, 2, /count to be a number/],
    ['bins that all begin at once', `${binHead}0,a,1\n0,b,2\n`, 4, /two different times/],
    ['bins without a single request', `${binHead}0,a,0\n1,a,0\n`, 4, /count above 0/],
    ['half a gzip', gzipSync(requests).subarray(0, 30), 1, /expected a whole gzip file/],
    ['a gzip with a flipped byte', flipped(), 1, /expected a whole gzip file/],
  ];

  function flipped(): Uint8Array {
    const bytes = gzipSync(requests);
    bytes[bytes.length - 6]! ^= 0xff;
    return bytes;
  }

  test.each(wrong)('%s', async (_, content, line, message) => {
    const path = await fileOf(content);
    const error = await readTrace(path).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ForetokenError);
    expect((error as ForetokenError).code).toBe('TRACE_MALFORMED');
    expect((error as ForetokenError).message).toMatch(message);
    expect((error as ForetokenError).message.startsWith(`${path}:${line}: expected `)).toBe(true);
  });

  test('half of a large gzip names the line at which it breaks off', async () => {
    let text = head;
    let state = 1;
    for (let i = 0; i < 200_000; i++) {
      state = (state * 48271) % 2147483647;
      text += `${i},t${state % 50},r,${state}\n`;
    }
    const packed = gzipSync(text);
    const error = await read(packed.subarray(0, packed.length / 2)).catch((reason: ForetokenError) => reason);
    expect(error).toBeInstanceOf(ForetokenError);
    const line = Number(/:(\d+): /.exec((error as ForetokenError).message)![1]);
    expect(line).toBeGreaterThan(50_000);
    expect(line).toBeLessThan(150_000);
  });

  test('a missing file and a folder', async () => {
    await expect(readTrace(join(folder, 'none.csv'))).rejects.toMatchObject({
      code: 'TRACE_MALFORMED',
      message: expect.stringMatching(/none\.csv:1: expected a file that can be read, got ENOENT/),
    });
    await expect(readTrace(folder)).rejects.toMatchObject({ code: 'TRACE_MALFORMED' });
  });

  test('a cost that is not offered', async () => {
    await expect(readTrace('x', { cost: 'pages' as 'bytes' })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });
});

const real = new URL('../../../shared/traces/', import.meta.url).pathname;
describe.skipIf(!existsSync(real))('the recorded traces beside the checkout', () => {
  test.each([
    ['cloudphysics', 113_872, 15],
    ['dtrs', 127_043, 15],
    ['wrccdc', 111_681, 166],
    ['disksim', 100_000, 14],
    ['financial1', 50_000, 16],
  ])('%s has the requests and targets its description says', async (name, count, targets) => {
    const trace = await readTrace(join(real, `${name}.csv.gz`));
    expect(trace.requests).toBe(count);
    expect(trace.names.length).toBe(targets);
  });

  test('nersc_10s has bins of ten seconds over an hour', async () => {
    const trace = await readTrace(join(real, 'nersc_10s.csv.gz'));
    expect(trace).toMatchObject({ binMs: 10_000, durationMs: 3_600_000 });
    expect(trace.names.length).toBe(128);
  });
});

test.skipIf(!existsSync('/proc/self/fd'))('a file in which a fault was found is let go of', async () => {
  // More than is read at once, so that the fault is found before the end.
  const content = `time_ms,target,op,bytes\nfault\n${'1,a,r,1\n'.repeat(200_000)}`;
  for (const path of [await fileOf(content), await fileOf(gzipSync(content))]) {
    await expect(readTrace(path)).rejects.toMatchObject({ code: 'TRACE_MALFORMED' });
    const open = async () => {
      const files = await Promise.all(
        (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
      );
      return files.includes(path);
    };
    await vi.waitFor(async () => expect(await open()).toBe(false));
  }
});
