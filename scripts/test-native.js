// The C++ core's tests, without Node: configured by CMake into build/native-<name>/, once plain and once for
// each sanitizer the compiler has. `--only plain|asan|tsan` picks one, `--long` runs ten times the random
// tests and tries interleavings with one more preemption, a quarter of an hour in all; anything else is passed on as a
// part of the sentence of the tests to run.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, long: { type: 'boolean', default: false } },
});

const builds = [
  { name: 'plain', sanitize: '' },
  { name: 'asan', sanitize: 'address,undefined' },
  { name: 'tsan', sanitize: 'thread' },
].filter((build) => !values.only || build.name === values.only);
if (builds.length === 0) {
  console.error(`--only: expected plain, asan or tsan, got ${values.only}`);
  process.exit(2);
}

const jobs = Math.max(1, Math.min(4, availableParallelism()));
// Against hanging, not against being slow: a machine busy with other work takes many times as long.
const minutesPerProgram = values.long ? 60 : 6;
const minutesPerBuild = 10;
const environment = {
  ...process.env,
  FORETOKEN_TEST_SCALE: values.long ? '10' : (process.env.FORETOKEN_TEST_SCALE ?? '1'),
  ASAN_OPTIONS: 'detect_stack_use_after_return=0',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=1 second_deadlock_stack=1',
};

function run(command, args, minutes) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.stderr.on('data', (chunk) => {
      output += chunk;
    });
    const timer = setTimeout(() => {
      output += `\nstopped after ${minutes} minutes\n`;
      child.kill('SIGKILL');
    }, minutes * 60_000);
    child.on('error', (error) => {
      clearTimeout(timer);
      resolve({ status: -1, output: `${output}${error.message}\n` });
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ status: status ?? -1, output });
    });
  });
}

// A compiler may know the flag and lack the runtime library, and the library may refuse the kernel's memory
// layout: only a program that ran proves that a sanitizer is there.
function reasonWithout(sanitize) {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-sanitizer-'));
  try {
    writeFileSync(join(folder, 'probe.cc'), 'int main() { return 0; }\n');
    const compiler = process.env.CXX ?? 'c++';
    const built = spawnSync(compiler, [`-fsanitize=${sanitize}`, 'probe.cc', '-o', 'probe'], {
      cwd: folder,
      encoding: 'utf8',
    });
    if (built.status !== 0) return (built.stderr || String(built.error)).trim().split('\n')[0];
    const ran = spawnSync(join(folder, 'probe'), { encoding: 'utf8' });
    return ran.status === 0 ? undefined : (ran.stderr || 'its program does not run').trim().split('\n')[0];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

let passed = 0;
let failed = 0;

async function prepare({ name, sanitize }) {
  const folder = join(root, 'build', `native-${name}`);
  const configure = ['-S', root, '-B', folder, '-DFORETOKEN_TESTS=ON', `-DFORETOKEN_SANITIZE=${sanitize}`];
  for (const args of [configure, ['--build', folder, '--parallel', String(jobs)]]) {
    const step = await run('cmake', args, minutesPerBuild);
    if (step.status !== 0) {
      console.log(step.output);
      console.log(`${name}: does not build`);
      return undefined;
    }
  }
  return folder;
}

async function test(build) {
  const reason = build.sanitize && reasonWithout(build.sanitize);
  if (reason) {
    console.log(`${build.name}: skipped, the compiler has no working -fsanitize=${build.sanitize} (${reason})`);
    return;
  }
  const folder = await prepare(build);
  if (!folder) {
    failed += 1;
    return;
  }
  const programs = readdirSync(join(root, 'native', 'test'))
    .filter((file) => file.endsWith('.test.cc'))
    .map((file) => file.slice(0, file.indexOf('.')));
  for (const program of programs) {
    const started = performance.now();
    const { status, output } = await run(join(folder, program), positionals, minutesPerProgram);
    const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed$/gm)].at(-1);
    const [good, bad] = counts ? [Number(counts[1]), Number(counts[2])] : [0, 0];
    // A program that a sanitizer stopped has no last line, or an exit code its tests do not explain.
    const crashed = status !== 0 && bad === 0 ? 1 : 0;
    passed += good;
    failed += bad + crashed;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    if (bad + crashed > 0) console.log(output.trimEnd());
    console.log(`${build.name}/${program}: ${good} passed, ${bad + crashed} failed, ${seconds} s`);
  }
}

if (spawnSync('cmake', ['--version']).error) {
  console.error('CMake 3.20 or newer is needed. Debian/Ubuntu: apt-get install cmake; macOS: brew install cmake');
  process.exit(1);
}
for (const build of builds) await test(build);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
