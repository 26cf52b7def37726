// What the core's calls cost without Node: builds native/bench/ by CMake into build/native-bench/ and runs it.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'build', 'native-bench');

function run(command, args, stdio) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: root, stdio, encoding: 'utf8' });
  if (status === 0) return;
  if (error) console.error(`${command}: ${error.message}`);
  console.error(`${stdout ?? ''}${stderr ?? ''}`);
  process.exit(status ?? 1);
}

run('cmake', ['-S', root, '-B', folder, '-DFORETOKEN_BENCH=ON', '-DCMAKE_BUILD_TYPE=Release'], 'pipe');
run('cmake', ['--build', folder, '--parallel', '2'], 'pipe');
run(join(folder, 'core_bench'), [], 'inherit');
