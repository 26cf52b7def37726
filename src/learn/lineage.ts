import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeWeights, type LstmWeights, readWeights, sameShape } from './model.js';

/** Refined versions kept; the oldest go. */
const mostVersions = 5;
const fileOf = (version: number): string => `refined-${String(version).padStart(6, '0')}.weights.bin`;
const versionOf = (file: string): number => Number(/^refined-(\d{6,})\.weights\.bin$/.exec(file)?.[1] ?? Number.NaN);

/**
 * The refined models, newest last, on disk if there is a folder. A version is whole or not there: it is written
 * beside its place and moved in.
 */
export class Lineage {
  readonly #folder: string | undefined;
  readonly #versions: { version: number; weights: LstmWeights }[] = [];
  #last = 0;

  private constructor(folder: string | undefined) {
    this.#folder = folder;
  }

  /**
   * Reads the versions there are. What cannot be read, or is of another shape than `shipped`, is passed over: an
   * update may have changed the model.
   * @param folder need not exist; undefined: nothing is kept on disk
   */
  static async open(folder: string | undefined, shipped: LstmWeights): Promise<Lineage> {
    const lineage = new Lineage(folder);
    if (folder === undefined) return lineage;
    const files = await readdir(folder).catch((): string[] => []);
    const versions = files.map(versionOf).filter((version) => !Number.isNaN(version));
    for (const version of versions.sort((a, b) => a - b)) {
      lineage.#last = version;
      const weights = await readWeights(join(folder, fileOf(version))).catch(() => undefined);
      if (weights && weights.featureVersion === shipped.featureVersion && sameShape(weights.shape, shipped.shape))
        lineage.#versions.push({ version, weights });
    }
    return lineage;
  }

  /** The newest version, or undefined if only the shipped model is left. */
  get latest(): LstmWeights | undefined {
    return this.#versions.at(-1)?.weights;
  }

  /** Adds a version. It holds from the call on; the promise tells of the disk. */
  async promote(weights: LstmWeights): Promise<void> {
    const version = ++this.#last;
    this.#versions.push({ version, weights });
    const old = this.#versions.splice(0, Math.max(0, this.#versions.length - mostVersions));
    if (this.#folder === undefined) return;
    await mkdir(this.#folder, { recursive: true });
    const path = join(this.#folder, fileOf(version));
    const file = await open(`${path}.new`, 'w');
    try {
      await file.writeFile(encodeWeights(weights));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    for (const each of old) await this.#remove(each.version);
  }

  /** Gives up the newest version; the one before is the newest then. The promise tells of the disk. */
  async withdraw(): Promise<void> {
    const withdrawn = this.#versions.pop();
    if (withdrawn) await this.#remove(withdrawn.version);
  }

  async #remove(version: number): Promise<void> {
    if (this.#folder !== undefined) await rm(join(this.#folder, fileOf(version)), { force: true });
  }
}
