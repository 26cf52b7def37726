// Everything `npm test` means: build, the C++ core under sanitizers, then the TypeScript tests. Ends with one
// line that adds both up.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const scratch = mkdtempSync(join(tmpdir(), 'foretoken-test-'));
let passed = 0;
let failed = 0;
let skipped = 0;

function node(args, options = {}) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', ...options });
}

function build() {
  const steps = ['scripts/build-native.js', 'scripts/build.js'];
  return steps.every((step) => node([join(root, step)]).status === 0);
}

function native() {
  const run = node([join(root, 'scripts/test-native.js')], { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
  process.stdout.write(run.stdout ?? '');
  const counts = [...(run.stdout ?? '').matchAll(/^(\d+) passed, (\d+) failed/gm)].at(-1);
  if (counts) {
    passed += Number(counts[1]);
    failed += Number(counts[2]);
  }
  if (run.status !== 0 && !(counts && Number(counts[2]) > 0)) failed += 1;
}

function unit() {
  const report = join(scratch, 'vitest.json');
  const vitest = join(dirname(require.resolve('vitest/package.json')), 'vitest.mjs');
  const run = node([vitest, 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]);
  try {
    const result = JSON.parse(readFileSync(report, 'utf8'));
    passed += result.numPassedTests;
    failed += result.numFailedTests;
    skipped += result.numPendingTests;
    if (run.status !== 0 && result.numFailedTests === 0) failed += 1;
  } catch {
    failed += 1;
  }
}

if (build()) {
  native();
  unit();
} else failed += 1;
rmSync(scratch, { recursive: true, force: true });
console.log(`\n${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
