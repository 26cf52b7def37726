import { readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CsvFile } from '../../src/lab/csv-file.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'foretoken-csv-'));
});
afterEach(() => rm(folder, { recursive: true }));

describe('CsvFile', () => {
  it.each(['rows.csv', 'rows.csv.gz'])('has room for more in %s once it has been written', async (name) => {
    const path = join(folder, name);
    const file = await CsvFile.open('stream', path, 'n,random');
    const rows = Array.from({ length: 10_000 }, (_, n) => `${n},${Math.random()}`);
    for (const row of rows) file.write(row);
    // Until what was asked to be written is on the disk: nothing is left to wait for.
    for (let bytes = -1; bytes !== statSync(path).size; await sleep(50)) bytes = statSync(path).size;
    await file.drain();
    await file.close();
    const content = readFileSync(path);
    expect((name.endsWith('.gz') ? gunzipSync(content) : content).toString()).toBe(
      `${['n,random', ...rows].join('\n')}\n`,
    );
  });
});
