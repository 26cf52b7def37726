// Builds the addon with cmake-js unless a usable binary is already there. Runs as npm's `install`
// script, so everything it needs to say when a prerequisite is missing it says here, in words.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const force = process.argv.includes('--force');
const require = createRequire(import.meta.url);
const built = join(root, 'build', 'Release', 'foretoken.node');
const prebuilt = join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'foretoken.node');

function loads(file) {
  if (!existsSync(file)) return false;
  const probe = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(file)})`]);
  return probe.status === 0;
}

function fail(message) {
  console.error(`foretoken: ${message}`);
  process.exit(1);
}

if (!force && !existsSync(join(root, '.git')) && (loads(prebuilt) || loads(built))) process.exit(0);

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 17)) fail(`Node 20.17 or newer is needed, this is ${process.version}`);

const cmake = spawnSync('cmake', ['--version'], { encoding: 'utf8' });
if (cmake.error) fail('CMake 3.20 or newer is needed. Debian/Ubuntu: apt-get install cmake; macOS: brew install cmake');
const version = /version (\d+)\.(\d+)/.exec(cmake.stdout);
if (version && Number(version[1]) === 3 && Number(version[2]) < 20)
  fail(
    `CMake 3.20 or newer is needed, found ${version[1]}.${version[2]}. Debian/Ubuntu: apt-get install cmake; macOS: brew install cmake`,
  );

const compilers = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean);
const compiler = compilers.find((name) => {
  const probe = spawnSync(name, ['-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], {
    input: '#include <atomic>\n#include <concepts>\nint main(){}',
  });
  return probe.status === 0;
});
if (!compiler) fail('a C++20 compiler is needed. Debian/Ubuntu: apt-get install g++; macOS: xcode-select --install');
if (!['make', 'ninja'].some((tool) => !spawnSync(tool, ['--version']).error))
  fail('make or ninja is needed. Debian/Ubuntu: apt-get install make; macOS: xcode-select --install');

const cmakeJs = require.resolve('cmake-js/bin/cmake-js');
const run = spawnSync(
  process.execPath,
  [cmakeJs, 'compile', '--CDCMAKE_BUILD_TYPE=Release', '-d', root, '-l', 'error'],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
process.exit(run.status ?? 1);
