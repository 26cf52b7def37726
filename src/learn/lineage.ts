import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../errors.js';
import { encodeWeights, fingerprint, type LstmWeights, readWeights, sameShape } from './model.js';

/** Refined versions kept of a model, and of all others together; the oldest go. */
const mostVersions = 5;

interface Version {
  /** Counts on, whatever they were refined from. */
  version: number;
  file: string;
  weights: LstmWeights;
}

/**
 * The refined models of one they were refined from, newest last, on disk if there is a folder. A version is whole or not
 * there: it is written beside its place and moved in. Its name says which model it comes from: those of another, which was
 * used before an update or by another `modelPath`, wait until that comes back.
 */
export class Lineage {
  /** What could not be read, and why. */
  readonly damaged: readonly string[];
  readonly #folder: string | undefined;
  readonly #base: string;
  readonly #versions: Version[];
  /** Files of versions of other models, oldest first. */
  readonly #others: string[];
  #last: number;

  private constructor(
    folder: string | undefined,
    base: string,
    found: { versions: Version[]; others: string[]; damaged: string[]; last: number },
  ) {
    this.#folder = folder;
    this.#base = base;
    this.#versions = found.versions;
    this.#others = found.others;
    this.damaged = found.damaged;
    this.#last = found.last;
  }

  /**
   * Reads the versions there are of a model.
   * @param folder need not exist; undefined: nothing is kept on disk
   */
  static async open(folder: string | undefined, shipped: LstmWeights): Promise<Lineage> {
    const base = fingerprint(shipped.values).toString(16).padStart(8, '0');
    const found = { versions: [] as Version[], others: [] as string[], damaged: [] as string[], last: 0 };
    const names = folder === undefined ? [] : await readdir(folder).catch((): string[] => []);
    const files = names.flatMap((file) => {
      const [, version, of] = /^refined-(\d{6,})(?:-([0-9a-f]{8}))?\.weights\.bin$/.exec(file) ?? [];
      return version === undefined ? [] : [{ file, of, version: Number(version) }];
    });
    for (const { file, of, version } of files.sort((a, b) => a.version - b.version)) {
      found.last = version;
      if (of !== base) {
        found.others.push(file);
        continue;
      }
      try {
        const weights = await readWeights(join(folder!, file));
        if (weights.featureVersion === shipped.featureVersion && sameShape(weights.shape, shipped.shape))
          found.versions.push({ version, file, weights });
        else found.damaged.push(`${join(folder!, file)}: it does not fit the model it was refined from`);
      } catch (error) {
        found.damaged.push(messageOf(error));
      }
    }
    return new Lineage(folder, base, found);
  }

  /** The newest version, or undefined if only the shipped model is left. */
  get latest(): LstmWeights | undefined {
    return this.#versions.at(-1)?.weights;
  }

  /** Adds a version. It holds from the call on; the promise tells of the disk. */
  async promote(weights: LstmWeights): Promise<void> {
    const version = ++this.#last;
    const name = `refined-${String(version).padStart(6, '0')}-${this.#base}.weights.bin`;
    this.#versions.push({ version, file: name, weights });
    const old = this.#versions.splice(0, Math.max(0, this.#versions.length - mostVersions)).map(({ file }) => file);
    old.push(...this.#others.splice(0, Math.max(0, this.#others.length - mostVersions)));
    if (this.#folder === undefined) return;
    await mkdir(this.#folder, { recursive: true });
    const path = join(this.#folder, name);
    const file = await open(`${path}.new`, 'w');
    try {
      await file.writeFile(encodeWeights(weights));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    for (const file of old) await this.#remove(file);
  }

  /** Gives up the newest version; the one before is the newest then. The promise tells of the disk. */
  async withdraw(): Promise<void> {
    const withdrawn = this.#versions.pop();
    if (withdrawn) await this.#remove(withdrawn.file);
  }

  async #remove(file: string): Promise<void> {
    if (this.#folder !== undefined) await rm(join(this.#folder, file), { force: true });
  }
}
