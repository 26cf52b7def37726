import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { replayCommand } from '../../src/cli/replay.js';
import { opNames } from '../../src/workload/trace.js';
import { bursty } from '../lab/bursty.js';
import { ownModel } from '../lab/own-model.js';

const folder = mkdtempSync(join(tmpdir(), 'foretoken-replay-'));
const file = join(folder, 'bursty.csv');
beforeAll(() => {
  const { requests, timesMs, target, names, op, bytes } = bursty(120);
  const lines = Array.from(
    { length: requests },
    (_, i) => `${timesMs[i]!.toFixed(3)},${names[target[i]!]},${opNames[op[i]!]},${bytes[i]}`,
  );
  writeFileSync(file, ['time_ms,target,op,bytes', ...lines].join('\n'));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const log = vi.spyOn(console, 'log').mockImplementation((text: string) => {
    out += `${text}\n`;
  });
  const error = vi.spyOn(console, 'error').mockImplementation((text: string) => {
    err += `${text}\n`;
  });
  try {
    return { code: await replayCommand(argv), out, err };
  } finally {
    log.mockRestore();
    error.mockRestore();
  }
}

const result = async (...argv: string[]) => {
  let text = '';
  const log = vi.spyOn(console, 'log').mockImplementation((line: string) => {
    text += line;
  });
  const code = await replayCommand(argv).finally(() => log.mockRestore());
  return { code, text };
};

/** What the page's script will read. */
const chartData = (html: string) =>
  JSON.parse(/<script type="application\/json" id="chart-data">(.*?)<\/script>/s.exec(html)![1]!) as {
    total: { timeS: number[] } | null;
    targets: { name: string; denied: number[]; demand: number[]; admitted: number[] }[];
  };

describe('the report of a replay', () => {
  const html = join(folder, 'report.html');

  it('shows every arm, its curve, a timeline of the scored part, every target, the law and the settings', async () => {
    const svg = join(folder, 'curves.svg');
    const { code, text } = await result(file, '--pareto', '--refine', 'off', '--html', html, '--svg', svg, '--json');
    expect(code).toBe(0);
    const json = JSON.parse(text) as {
      arms: Record<string, { throttled: number; offered: number }>;
      pareto: Record<string, { curve: unknown[] }>;
    };
    const page = readFileSync(html, 'utf8');
    for (const id of ['arms', 'pareto', 'all', 'one', 'targets', 'law', 'settings'])
      expect(page).toContain(`<h2 id="${id}">`);
    expect(page).toContain('✓ kept');
    // A mark of the figure for every point of every curve, and as many in the picture on its own.
    const points = Object.values(json.pareto).reduce((sum, { curve }) => sum + curve.length, 0);
    const marks = (text: string) => text.match(/<g class="mark">[^\n]*?<title>/g)!.length;
    expect(marks(page)).toBe(points);
    const picture = readFileSync(svg, 'utf8');
    expect(picture).toMatch(/^<svg [^>]*xmlns=/);
    expect(picture).toContain('prefers-color-scheme: dark');
    expect(marks(picture)).toBe(points);
    // The timelines are of the scored part, and of the target that was denied most first.
    const { total, targets } = chartData(page);
    expect(total!.timeS[0]).toBeGreaterThanOrEqual(59);
    const denied = targets.map((target) => target.denied.reduce((a, b) => a + b, 0));
    expect(denied[0]).toBe(Math.max(...denied));
    const all = denied.reduce((a, b) => a + b, 0);
    expect(all / json.arms.foretoken!.throttled).toBeGreaterThan(0.9);
    expect(all / json.arms.foretoken!.throttled).toBeLessThan(1.1);
  }, 120_000);

  it('is written without curves and without Foretoken too, over what was there, and leaves nothing else', async () => {
    writeFileSync(html, 'old');
    expect((await result(file, '--arms', 'static,pool', '--html', html)).code).toBe(0);
    const page = readFileSync(html, 'utf8');
    expect(page).toContain('<h2 id="targets">');
    expect(page).not.toContain('<h2 id="pareto">');
    expect(chartData(page)).toMatchObject({ total: null, targets: [] });
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('shows the target that is asked for first, or the holder it is on', async () => {
    const arms = ['--arms', 'foretoken', '--refine', 'off', '--html', html];
    const name = bursty(120).names.at(-1)!;
    expect((await result(file, ...arms, '--target', name)).code).toBe(0);
    expect(chartData(readFileSync(html, 'utf8')).targets[0]!.name).toBe(name);
    expect((await result(file, ...arms, '--target', name, '--holders', '2')).code).toBe(0);
    expect(chartData(readFileSync(html, 'utf8')).targets[0]!.name).toMatch(/^holder[12]$/);
  }, 60_000);

  it('goes through a link to the file it leads to', async () => {
    const link = join(folder, 'link.html');
    symlinkSync(html, link);
    writeFileSync(html, 'old');
    expect((await result(file, '--arms', 'static', '--html', link)).code).toBe(0);
    expect(readFileSync(html, 'utf8')).toContain('<!doctype html>');
  });
});

describe('what Foretoken forecasts with', () => {
  it('is the engine and the model asked for, which the settings name', async () => {
    const replayed = async (...argv: string[]) => {
      const { code, out, err } = await run(file, '--arms', 'foretoken', '--refine', 'off', '--json', ...argv);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      const { settings, arms } = JSON.parse(out) as {
        settings: { engine: string; model?: string };
        arms: Record<string, { throttled: number }>;
      };
      return { engine: settings.engine, model: settings.model, throttled: arms.foretoken!.throttled };
    };
    const model = ownModel(folder);
    const auto = await replayed();
    const last = await replayed('--engine', 'last');
    const own = await replayed('--engine', 'lstm', '--model', model);
    const lstm = await replayed('--engine', 'lstm');
    expect([auto, last, own]).toMatchObject([{ engine: 'auto' }, { engine: 'last' }, { engine: 'lstm', model }]);
    expect(auto.model).toBeUndefined();
    expect(last.throttled).not.toBe(auto.throttled);
    expect(own.throttled).not.toBe(lstm.throttled);
  }, 60_000);

  it('is told where an engine does not look that far ahead, once', async () => {
    const html = join(folder, 'ets.html');
    const argv = ['--arms', 'foretoken', '--engine', 'ets', '--pareto', '--refine', 'off', '--html', html];
    const { code, out, err } = await run(file, ...argv);
    expect(out).toMatch(/^Foretoken forecasts with ets$/m);
    expect(readFileSync(html, 'utf8')).toContain('not 1s: classical forecasters instead.');
    expect(err).toBe('foretoken replay: ets forecasts from 2m ahead on, not 1s: classical forecasters instead\n');
    expect(code).toBe(0);
  }, 60_000);
});

describe('a replay that is asked for what cannot be', () => {
  it.each([
    [['--html', folder], /--html: expected a file that can be written, got ".*it is a folder/],
    [['--html', join(folder, 'none', 'x.html')], /--html: expected a file that can be written/],
    [['--html', ''], /--html: expected a file that can be written, got ""/],
    [['--html', file], /--html: expected a file of its own, got ".*", the trace itself/],
    [['--stream', file], /--stream: expected a file of its own/],
    [['--stream', join(folder, 'same'), '--html', join(folder, '.', 'same')], /--html: .* that of --stream/],
    [['--svg', join(folder, 'x.svg')], /--svg: expected together with --pareto/],
    [['--target', 'x'], /--target: expected together with --html/],
    [
      ['--html', join(folder, 'x.html'), '--target', 'nobody'],
      /--target: expected the name of a target, as .*"nobody"/,
    ],
    [['--pareto', '--arms', 'pool'], /--pareto: expected an arm with head-room/],
    [['--borrow', 'on', '--holders', '2'], /--borrow: expected off with --holders/],
    [['--adjust', 'on', '--holders', '2'], /--adjust: expected off with --holders/],
    [['--arms', 'shared'], /--arms: expected shared only with --borrow on/],
    [['--arms', ''], /--arms: expected static or/],
    [['--rate', 'NaN'], /--rate: expected tokens\/s or a multiple/],
    [['--rate', '0x'], /--rate: expected/],
    [['--rate', '1e300'], /--rate: expected/],
    [['--warmup', 'NaN'], /--warmup: expected a number from 0 to 0.99, got "NaN"/],
    [['--engine', 'crystal'], /--engine: expected auto or lstm or ets or prophet or ewma or last, got "crystal"/],
    [
      ['--model', join(folder, 'none.onnx')],
      /--model: expected a model that foretoken train wrote, got ".*none\.weights\.bin/,
    ],
    [['--model', file], /--model: expected a model that foretoken train wrote, got ".*bursty\.csv": /],
    [['--model', 'own.onnx', '--engine', 'ewma'], /--model: expected together with --engine auto or lstm, got ewma/],
    [
      ['--model', join(folder, 'x.onnx'), '--stream', join(folder, 'x.onnx')],
      /--stream: expected a file of its own, got ".*", the model/,
    ],
    [['--hogs', '1.5'], /--hogs: expected a whole number/],
    [['--hogs', '-1'], /--hogs/],
    [['--seed', 'Infinity'], /--seed: expected a whole number/],
    [['--step', '0s'], /--step: expected a duration above 0/],
    [['--burst', '1e99s'], /--burst: expected a duration/],
  ])('refuses %j with option, expected and got, and prints no result', async (argv, reason) => {
    const before = readFileSync(file, 'utf8');
    const { code, out, err } = await run(file, ...argv);
    expect(err).toMatch(reason);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(readFileSync(file, 'utf8')).toBe(before);
  });

  it.each([
    ['missing', undefined, /expected a file that can be read/],
    ['empty', '', /expected the header/],
    ['of a header alone', 'time_ms,target,op,bytes\n', /expected at least one row/],
    ['garbled', '\u0000\u0001\u0002not a trace', /expected the header/],
    ['broken gzip', Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3]), /a whole gzip file/],
    ['of numbers that are none', 'time_ms,target,op,bytes\nNaN,a,r,1\n', /:2: expected time_ms/],
    ['of a line without an end', 'x'.repeat(200_000), /lines of at most/],
  ])('says what is wrong with a trace that is %s', async (name, content, reason) => {
    const path = join(folder, `${name}.csv`);
    if (content !== undefined) writeFileSync(path, content);
    const { code, out, err } = await run(path, '--arms', 'static');
    expect(err).toMatch(reason);
    expect({ code, out }).toEqual({ code: 1, out: '' });
  });

  it('says so when the trace is a folder', async () => {
    expect(await run(folder)).toMatchObject({ code: 1, err: expect.stringContaining('a file that can be read') });
  });

  it('replays a trace of one request, which lasts no time, at a rate in tokens', async () => {
    const path = join(folder, 'one.csv');
    writeFileSync(path, 'time_ms,target,op,bytes\n0,a,r,1\n');
    expect(await run(path)).toMatchObject({ code: 2, err: expect.stringContaining('no duration') });
    const { code, text } = await result(path, '--rate', '5', '--pareto', '--json');
    expect(code).toBe(0);
    expect(text).not.toMatch(/NaN|Infinity/);
  });
});

describe('a replay as a process', () => {
  const bin = new URL('../../bin/foretoken.js', import.meta.url).pathname;

  it('ends well when nobody reads its result, or what it says about errors', () => {
    const sh = (line: string) => spawnSync('bash', ['-c', `set -o pipefail; ${line}`], { encoding: 'utf8' });
    const quick = `'${process.execPath}' '${bin}' replay '${file}' --arms static,foretoken --refine off`;
    expect(sh(`${quick} | true`)).toMatchObject({ status: 0, stderr: '' });
    expect(sh(`'${process.execPath}' '${bin}' replay --nope 2>&1 | true`).status).toBe(2);
  }, 60_000);

  it('leaves no report behind, and no half of one, when it is interrupted', async () => {
    const html = join(folder, 'interrupted.html');
    const slow = ['--step', '10ms', '--arms', 'foretoken', '--html', html];
    const child = spawn(process.execPath, [bin, 'replay', file, ...slow], { stdio: ['ignore', 'pipe', 'pipe'] });
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    setTimeout(() => child.kill('SIGINT'), 1500);
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect({ code, signal, err }).toEqual({ code: null, signal: 'SIGINT', err: '' });
    expect(readdirSync(folder).filter((name) => name.startsWith('interrupted'))).toEqual([]);
  }, 60_000);
});
