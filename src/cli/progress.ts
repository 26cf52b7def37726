/** Of the bar, characters, and how often it is drawn at most. */
const width = 30;
const redrawMs = 100;

/** A progress bar on standard error, only where that is a terminal. */
export class ProgressBar implements Disposable {
  readonly #shown = process.stderr.isTTY;
  #drawnAt = 0;

  /** @param done from 0 to 1 */
  update(done: number, label: string): void {
    if (!this.#shown) return;
    const now = performance.now();
    if (now - this.#drawnAt < redrawMs) return;
    this.#drawnAt = now;
    const filled = Math.round(width * Math.min(1, done));
    process.stderr.write(
      `\r\x1b[2K${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${String(Math.floor(done * 100)).padStart(3)} % ${label}`,
    );
  }

  /** Makes room for a line of text; the next update draws it again. */
  clear(): void {
    if (this.#shown && this.#drawnAt > 0) process.stderr.write('\r\x1b[2K');
    this.#drawnAt = 0;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
