// The tarball carries the binary of the platform it was packed on: npm 11 and later do not run a
// dependency's install script unless the user allows it.
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const target = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
mkdirSync(target, { recursive: true });
cpSync(join(root, 'build', 'Release', 'foretoken.node'), join(target, 'foretoken.node'));
