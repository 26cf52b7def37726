import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The package as it is installed, but for one dependency that cannot be loaded. */
export function installWithout(dependency: string, place: string): void {
  for (const part of ['dist', 'models', 'package.json'])
    cpSync(join(root, part), join(place, part), { recursive: true });
  const from = join(root, 'node_modules');
  const to = join(place, 'node_modules');
  const scope = dirname(dependency);
  mkdirSync(join(to, scope), { recursive: true });
  const link = (name: string) => {
    if (name !== dependency && name !== scope) symlinkSync(join(from, name), join(to, name));
  };
  readdirSync(from).forEach(link);
  if (scope !== '.') for (const name of readdirSync(join(from, scope))) link(join(scope, name));
  mkdirSync(join(to, dependency));
  writeFileSync(join(to, dependency, 'package.json'), '{ "main": "index.js" }');
  writeFileSync(join(to, dependency, 'index.js'), 'throw new Error("no such module here");');
}
