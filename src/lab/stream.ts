import { CsvFile } from './csv-file.js';
import type { DecisionSink } from './score.js';

/** Writes decisions as CSV `arm,time_ms,target,cost,admitted`, gzip if the name ends in `.gz`. */
export class DecisionFile implements DecisionSink {
  readonly #file: CsvFile;

  private constructor(file: CsvFile) {
    this.#file = file;
  }

  /** @throws as `CsvFile.open`, `drain` and `close` as its own */
  static async open(file: string): Promise<DecisionFile> {
    return new DecisionFile(await CsvFile.open('stream', file, 'arm,time_ms,target,cost,admitted'));
  }

  decide(arm: string, timeMs: number, target: string, cost: number, isAdmitted: boolean): void {
    this.#file.write(`${arm},${timeMs},${target},${cost},${isAdmitted ? 1 : 0}`);
  }

  drain(): Promise<void> {
    return this.#file.drain();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
