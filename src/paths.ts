import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('foretoken: its own package.json was not found above its code');
    folder = parent;
  }
  return folder;
}

/** The package's own folder, wherever it is installed. */
export const packageRoot: string = findRoot();

/**
 * A worker's entry file. Workers always run the built ES modules, also when the caller is the
 * CommonJS bundle or a test that runs the TypeScript sources.
 * @param name path under `src/` without extension, e.g. `control/worker`
 */
export const workerFile = (name: string): string => join(packageRoot, 'dist', `${name}.js`);

/** The folder of the models that ship with the package. */
export const modelsFolder: string = join(packageRoot, 'models');
