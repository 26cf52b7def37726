import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/^```js\n(.*?)^```/gms)].map(
  ([, code]) => code!,
);

const folder = mkdtempSync(join(tmpdir(), 'foretoken-readme-'));
mkdirSync(join(folder, 'node_modules'));
symlinkSync(root, join(folder, 'node_modules', 'foretoken'));
afterAll(() => rmSync(folder, { recursive: true }));

/** As a user types it: from a folder of its own, the code on the command line. */
function run(code: string) {
  const importLine = code.includes("from 'foretoken'") ? '' : "import { Foretoken } from 'foretoken';\n";
  return spawnSync(process.execPath, ['--input-type=module', '-e', importLine + code], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
  });
}

describe('the examples of the README', () => {
  it('are there', () => expect(blocks.length).toBeGreaterThanOrEqual(1));

  it.each(
    blocks.map((code) => [
      code
        .split('\n')
        .find((line) => line.includes('await'))!
        .trim(),
      code,
    ]),
  )(
    'run as printed and end by themselves: %s',
    (_, code) => {
      const { status, stderr, stdout } = run(code);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      if (code.includes("console.log('admitted')")) expect(stdout).toMatch(/^admitted\n/);
    },
    90_000,
  );
});
