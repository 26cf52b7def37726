import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'foretoken-package-'));
const checkout = join(scratch, 'checkout');
const user = join(scratch, 'user');
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function run(cwd: string, command: string, ...args: string[]) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', timeout: 150_000 });
  return { status, stdout, stderr: `${stderr}${error ?? ''}` };
}
function must(cwd: string, command: string, ...args: string[]): string {
  const { status, stdout, stderr } = run(cwd, command, ...args);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
  return stdout;
}

/** Packs a copy: packing the checkout itself would build it anew under the other tests' feet. */
function pack(): string {
  mkdirSync(join(checkout, 'build', 'Release'), { recursive: true });
  // Everything that may go into a package, and what it takes to build it.
  for (const name of readdirSync(root))
    if (!['node_modules', 'build', 'test', 'prebuilds', '.git', 'bench'].includes(name))
      cpSync(join(root, name), join(checkout, name), { recursive: true });
  cpSync(join(root, 'build', 'Release', 'foretoken.node'), join(checkout, 'build', 'Release', 'foretoken.node'));
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  if (!existsSync(join(checkout, 'dist', 'index.cjs'))) must(checkout, process.execPath, 'scripts/build.js');
  must(checkout, process.execPath, 'scripts/prepack.js');
  must(checkout, 'npm', 'pack', '--ignore-scripts', '--pack-destination', scratch);
  return join(scratch, readdirSync(scratch).find((name) => name.endsWith('.tgz'))!);
}

/** The same program, begun as an ES module or as CommonJS. */
const program = (load: string) => `${load}
const main = async () => {
  const plain = await Foretoken.open({ ratePerSec: 0.001, burst: 10, control: false });
  const a = plain.addTarget('a');
  let admitted = 0;
  for (let i = 0; i < 20; i++) if (a.tryAcquire()) admitted++;
  await plain.close();
  const refusal = await Foretoken.open({ ratePerSec: -1 }).catch((error) => error);
  const events = [];
  const controlled = await Foretoken.open({
    ratePerSec: 1000, stepMs: 100, history: { path: process.argv[2] }, onEvent: (event) => events.push(event.kind === 'resumed' ? event.kind : event.message),
  });
  const b = controlled.addTarget('b');
  const timer = setInterval(() => b.tryAcquire(), 5);
  await new Promise((resolve) => controlled.watch((step) => { if (step.forecastQ90PerSec > 0) resolve(); }));
  clearInterval(timer);
  await controlled.close();
  console.log(JSON.stringify({ admitted, code: refusal instanceof ForetokenError && refusal.code, events }));
};
void main();
`;

const typed = `import { type ErrorCode, Foretoken, ForetokenError, type ForetokenOptions, type StepReport, type Target } from 'foretoken';
export async function main(): Promise<void> {
  const options: ForetokenOptions = { ratePerSec: 10, history: { path: 'x' }, horizonsMs: [5000] };
  await using foretoken: Foretoken = await Foretoken.open(options);
  const target: Target = foretoken.addTarget('a', { reservation: 1 });
  const admitted: boolean = target.tryAcquire({ readBytes: 1 });
  foretoken.watch((report: StepReport) => void (report.targets + Number(admitted)));
  try {
    await target.acquire(1, { deadlineMs: 5 });
  } catch (error) {
    if (error instanceof ForetokenError) {
      const code: ErrorCode = error.code;
      console.log(code);
    }
  }
  // @ts-expect-error there is no such option
  await Foretoken.open({ ratePerSec: 1, nonsense: 1 });
  // @ts-expect-error a target does not tell its table
  console.log(target.table);
}
`;

let offline: string | undefined;
beforeAll(() => {
  const tarball = pack();
  mkdirSync(user);
  writeFileSync(join(user, 'package.json'), '{ "private": true }');
  const install = ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball];
  const { status, stderr } = run(user, 'npm', ...install);
  if (status === 0) return;
  // Without a registry and with an empty cache there is nothing to be said about the package.
  if (!/ENOTCACHED|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN/.test(stderr)) throw new Error(stderr);
  offline = stderr.slice(0, 200);
  console.warn(`the package's dependencies cannot be installed, its tests are skipped: ${offline}`);
}, 240_000);

describe('the package, installed into an empty folder without running any script', () => {
  for (const [kind, name, load] of [
    ['an ES module', 'main.mjs', `import { Foretoken, ForetokenError } from 'foretoken';`],
    ['CommonJS', 'main.cjs', `const { Foretoken, ForetokenError } = require('foretoken');`],
  ] as const)
    it(`works from ${kind}, with and without a controller`, (context) => {
      if (offline) context.skip(offline);
      writeFileSync(join(user, name), program(load));
      const { status, stdout, stderr } = run(user, process.execPath, name, join(user, `history-${name}`));
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      // No event: neither the model, nor the history, nor a worker was missing.
      expect(JSON.parse(stdout)).toEqual({ admitted: 10, code: 'INVALID_OPTION', events: [] });
    });

  it('has types for both kinds of module', (context) => {
    if (offline) context.skip(offline);
    for (const name of ['use.mts', 'use.cts']) writeFileSync(join(user, name), typed);
    writeFileSync(
      join(user, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          module: 'NodeNext',
          target: 'ES2022',
          lib: ['ES2023', 'ESNext.Disposable'],
          strict: true,
          noEmit: true,
          skipLibCheck: false,
          types: ['node'],
          typeRoots: [join(root, 'node_modules', '@types')],
        },
        files: ['use.mts', 'use.cts'],
      }),
    );
    const { status, stdout } = run(user, process.execPath, join(root, 'node_modules/typescript/bin/tsc'), '-p', '.');
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
  });

  it('carries no sources of tests and nothing of the machine it was made on', (context) => {
    if (offline) context.skip(offline);
    const installed = join(user, 'node_modules', 'foretoken');
    for (const name of ['dist', 'models', 'prebuilds', 'LICENSE', 'package.json'])
      expect(existsSync(join(installed, name)), name).toBe(true);
    for (const name of ['test', 'src', 'build', 'node_modules', join('native', 'test')])
      expect(existsSync(join(installed, name)), name).toBe(false);
  });

  it('builds from its own sources where no binary of it fits', (context) => {
    if (offline) context.skip(offline);
    const installed = join(user, 'node_modules', 'foretoken');
    rmSync(join(installed, 'prebuilds'), { recursive: true });
    must(installed, process.execPath, 'scripts/build-native.js');
    const code =
      "import('foretoken').then(async ({ Foretoken }) => (await Foretoken.open({ ratePerSec: 1, control: false })).close())";
    expect(run(user, process.execPath, '-e', code)).toMatchObject({ status: 0, stderr: '' });
  }, 240_000);
});
