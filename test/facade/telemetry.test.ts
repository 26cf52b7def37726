import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { packageRoot } from '../../src/paths.js';

const run = promisify(execFile);
const dist = (file: string) => JSON.stringify(pathToFileURL(join(packageRoot, 'dist', file)).href);

/** What a process of somebody who has just come leaves in its home. */
async function homeAfter(args: string[]): Promise<string[]> {
  const home = mkdtempSync(join(tmpdir(), 'foretoken-home-'));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  // The runtime gathers nothing where a build server runs it.
  const { CI: _, ORT_DISABLE_TELEMETRY: __, XDG_CACHE_HOME: ___, ...env } = process.env;
  await run(process.execPath, args, { env: { ...env, HOME: home }, cwd: home });
  expect(existsSync(home)).toBe(true);
  return readdirSync(home).filter((name) => !name.startsWith('trace'));
}

it('the inference runtime gathers nothing about who uses it', async () => {
  const live = `
    const { Foretoken } = await import(${dist('index.js')});
    const foretoken = await Foretoken.open({ ratePerSec: 100, stepMs: 100, horizonsMs: [500] });
    foretoken.addTarget('a').tryAcquire();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await foretoken.close();`;
  expect(await homeAfter(['--input-type=module', '-e', live])).toEqual([]);
});

it('nor while it trains, or a trace is evaluated', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-trace-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const trace = join(folder, 'trace.csv');
  const lines = Array.from({ length: 2000 }, (_, i) => `${i * 100},a,r,1`);
  writeFileSync(trace, ['time_ms,target,op,bytes', ...lines].join('\n'));
  const foretoken = join(packageRoot, 'bin', 'foretoken.js');
  expect(await homeAfter([foretoken, 'evaluate', trace, '--horizons', '5s'])).toEqual([]);
  const out = join(folder, 'model.onnx');
  const small = ['--steps', '2', '--hidden', '4', '--workloads', '1', '--periods', '1s'];
  expect(await homeAfter([foretoken, 'train', ...small, '--out', out])).toEqual([]);
  expect(existsSync(out)).toBe(true);
});
