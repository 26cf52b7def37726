import { accessSync, constants, statSync } from 'node:fs';
import { access, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { ForetokenError } from '../errors.js';
import { makeFolder } from '../folder.js';

const unwritable = (option: string, path: string, cause: unknown, what = 'file'): ForetokenError => {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ForetokenError(
    'INVALID_OPTION',
    `--${option}: expected a ${what} that can be written, got ${JSON.stringify(path)}: ${reason}`,
    { cause },
  );
};

/**
 * Makes a folder that an option asked for, if it is not there.
 * @throws ForetokenError INVALID_OPTION when it cannot be made or takes no files
 */
export function writableFolder(option: string, folder: string): void {
  try {
    makeFolder(folder);
    if (!statSync(folder).isDirectory()) throw new Error('it is no folder');
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unwritable(option, folder, error, 'folder');
  }
}

/**
 * A file that is there whole or not at all: written beside its place and moved there. What is no regular file, as a
 * device, is written as it stands.
 */
export class WholeFile {
  readonly #option: string;
  readonly #file: string;

  private constructor(option: string, file: string) {
    this.#option = option;
    this.#file = file;
  }

  /**
   * Finds out whether it can be written, before there is anything to write, and leaves nothing behind.
   * @param option name of the option that asked for the file, for the message
   * @throws ForetokenError INVALID_OPTION when it cannot be; so does `write`
   */
  static async at(option: string, file: string): Promise<WholeFile> {
    try {
      if (file === '') throw new Error('it has no name');
      const found = await stat(file).catch(() => undefined);
      if (found?.isDirectory()) throw new Error('it is a folder');
      // A new file is made in the folder and moved within it.
      if (!found || found.isFile()) {
        const beside = besideOf(await target(file));
        // Permissions do not tell everything: some folders take no files from anybody.
        await writeFile(beside, '');
        await rm(beside);
      }
      if (found) await access(file, constants.W_OK);
    } catch (error) {
      throw unwritable(option, file, error);
    }
    return new WholeFile(option, file);
  }

  async write(text: string | Uint8Array): Promise<void> {
    const found = await stat(this.#file).catch(() => undefined);
    const place = await target(this.#file);
    const beside = besideOf(place);
    try {
      if (found && !found.isFile()) {
        await writeFile(this.#file, text);
        return;
      }
      await writeFile(beside, text, found ? { mode: found.mode } : {});
      await rename(beside, place);
    } catch (error) {
      await rm(beside, { force: true });
      throw unwritable(this.#option, this.#file, error);
    }
  }
}

/** Where a file is written before it is moved to its place. */
const besideOf = (place: string): string => `${place}.${process.pid}.tmp`;

/** Where a link leads, so that the link stays one. */
const target = (file: string): Promise<string> => realpath(file).catch(() => file);
