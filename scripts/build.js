// TypeScript to dist/: ES modules with declarations by tsc, then one CommonJS bundle of the public
// entry (packages stay external) with declarations of its own. Workers are always the ES modules.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
// An installed package carries its dist; only a checkout has the sources to build it from.
if (!existsSync(join(root, 'src', 'index.ts'))) process.exit(0);

rmSync(join(root, 'dist'), { recursive: true, force: true });
const tsc = spawnSync(process.execPath, [require.resolve('typescript/bin/tsc'), '-p', root], {
  cwd: root,
  stdio: 'inherit',
});
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

const esbuild = await import('esbuild');
await esbuild.build({
  entryPoints: [join(root, 'dist', 'index.js')],
  outfile: join(root, 'dist', 'index.cjs'),
  bundle: true,
  packages: 'external',
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  define: { 'import.meta.url': 'importMetaUrl' },
  banner: { js: "const importMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
  logLevel: 'warning',
});

const { rollup } = await import('rollup');
const { dts } = await import('rollup-plugin-dts');
const bundle = await rollup({ input: join(root, 'dist', 'index.d.ts'), plugins: [dts()], external: [/^node:/] });
await bundle.write({ file: join(root, 'dist', 'index.d.cts'), format: 'cjs' });
await bundle.close();
