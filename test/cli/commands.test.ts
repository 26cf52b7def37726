import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installWithout } from '../forecast/install.js';

const bin = fileURLToPath(new URL('../../bin/foretoken.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'foretoken-commands-'));
const file = join(folder, 'file');
writeFileSync(file, 'something');
afterAll(() => rmSync(folder, { recursive: true }));

/** As typed; one that does not end is found hanging. */
function run(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...argv], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 40_000,
    killSignal: 'SIGKILL',
  });
  return { status, stdout, stderr };
}

/** Takes no files, whoever asks. */
const impossible = existsSync('/proc/self') ? '/proc/none' : '/dev/null/none';
/** No new files, though permissions allow them. */
const unwritten = existsSync('/proc/self') ? '/proc/x.onnx' : '/dev/fd/x.onnx';

describe('a command that is to write where nothing can be written', () => {
  it.each([
    ['demo', ['--seconds', '10', '--out', file], /--out: expected a folder that can be written, got ".*no folder/],
    ['demo', ['--seconds', '10', '--out', impossible], /--out: expected a folder that can be written/],
    ['train', ['--out', join(impossible, 'x.onnx')], /--out: expected a folder that can be written/],
    ['train', ['--out', join(file, 'x.onnx')], /--out: expected a folder that can be written/],
    ['train', ['--out', unwritten], /--out: expected a file that can be written/],
  ])('%s %j says so before it begins', (name, argv, reason) => {
    const { status, stdout, stderr } = run(name, ...argv);
    expect(stderr).toMatch(reason);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it.skipIf(!existsSync('/dev/full'))('says so in one line when its result is lost, and fails', () => {
    const line = `'${process.execPath}' '${bin}' --help > /dev/full`;
    const { status, stderr } = spawnSync('sh', ['-c', line], { encoding: 'utf8' });
    expect(stderr).toMatch(/^foretoken: standard output cannot be written: ENOSPC.*\n$/);
    expect(status).toBe(1);
  });
});

describe('an option', () => {
  it.each([
    [
      'replay',
      ['x', '--rate', '-1'],
      '--rate: expected tokens/s or a multiple of the mean demand such as 4x, got "-1"',
    ],
    ['replay', ['x', '--step', '-5s'], '--step: expected a duration above 0 such as 500ms, 5s, 2m or 1h, got "-5s"'],
    ['demo', ['--seconds', '-1'], '--seconds: expected a whole number from 10 to 50, got "-1"'],
    ['replay', ['x', '--rate', '--json'], "Option '--rate' argument is ambiguous; see --help"],
  ])('%s %j says what is wrong with its value', (name, argv, reason) => {
    expect(run(name, ...argv)).toEqual({ status: 2, stdout: '', stderr: `foretoken ${name}: ${reason}\n` });
  });
});

describe('a script that is to read traces where there are none', () => {
  it.each(['bench/figures.js', 'scripts/evaluate.js', 'scripts/refinement.js'])('%s says so in one line', (script) => {
    const path = fileURLToPath(new URL(`../../${script}`, import.meta.url));
    for (const none of [join(folder, 'missing'), folder]) {
      const { status, stdout, stderr } = spawnSync(process.execPath, [path, none], { encoding: 'utf8' });
      expect(stderr).toMatch(/^n.* traces .*\n$/);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    }
  });
});

it('evaluate.js passes over a trace that is too short to score, and says so', () => {
  const traces = mkdtempSync(join(tmpdir(), 'foretoken-short-'));
  writeFileSync(join(traces, 'short.csv'), 'time_ms,target,op,bytes\n0,a,r,1\n4000,a,r,1\n');
  const path = fileURLToPath(new URL('../../scripts/evaluate.js', import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [path, traces], { encoding: 'utf8' });
  rmSync(traces, { recursive: true });
  expect(stderr).toMatch(/^short\.csv: --horizons: expected one of at most 2s.*got 5s\n$/);
  expect(status).toBe(1);
});

describe('foretoken regions', () => {
  it.each([['list', '--force'], ['--stale'], ['rm', 'name', '--json'], ['rm', 'name', '--stale'], ['rm']])(
    '%s %s is refused, because a switch that does nothing misleads',
    (...argv) => {
      expect(run('regions', ...argv)).toMatchObject({ status: 2, stderr: expect.stringContaining('see --help') });
    },
  );
});

describe('without an inference runtime that loads', () => {
  const place = mkdtempSync(join(tmpdir(), 'foretoken-no-runtime-'));
  const trace = join(place, 'trace.csv');
  beforeAll(() => {
    installWithout('onnxruntime-node', place);
    symlinkSync(fileURLToPath(new URL('../../build', import.meta.url)), join(place, 'build'));
    const lines = Array.from({ length: 240 }, (_, i) => `${i * 500},t${i % 3},r,1`);
    writeFileSync(trace, ['time_ms,target,op,bytes', ...lines].join('\n'));
  });
  afterAll(() => rmSync(place, { recursive: true }));

  const runHere = (...argv: string[]) => {
    const main = `import { main } from './dist/cli/main.js'; process.exitCode = await main(${JSON.stringify(argv)});`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', main], {
      cwd: place,
      encoding: 'utf8',
    });
    return { status, stdout, stderr };
  };

  it('evaluate scores classical forecasters, and says so', () => {
    const { status, stdout, stderr } = runHere('evaluate', trace, '--horizons', '5s', '--json');
    expect(stderr).toMatch(/^foretoken evaluate: no model, classical forecasters instead: .*no such module.*\n$/);
    expect(status).toBe(0);
    expect(Object.keys((JSON.parse(stdout) as { engines: object }).engines)).toEqual(['auto']);
  });

  it.each([
    ['evaluate', ['--horizons', '5s']],
    ['replay', []],
  ])('%s fails where a model is asked for by name', (name, argv) => {
    const { status, stdout, stderr } = runHere(name, trace, ...argv, '--model', 'models/foretoken-lstm.onnx');
    expect(stderr).toMatch(/^foretoken \w+: .*no such module.*\n$/);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  });

  it('train fails in one line, before it begins', () => {
    const { status, stdout, stderr } = runHere('train', trace, '--out', 'own.onnx');
    expect(stderr).toBe('foretoken train: the inference runtime cannot be loaded: no such module here\n');
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(runHere('train', '--help').status).toBe(0);
  });

  it('replay goes on with classical forecasters, and says so once', () => {
    const { status, stdout, stderr } = runHere('replay', trace, '--arms', 'foretoken', '--pareto', '--json');
    expect(stderr).toMatch(/^foretoken replay: no model, classical forecasters instead: .*no such module.*\n$/);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ arms: { foretoken: { lawViolations: 0 } } });
  });
});
