import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export const childFile = fileURLToPath(new URL('./child.js', import.meta.url));

/** A name no other test or run has. */
let names = 0;
export const freshName = (): string => `test-${process.pid}-${Date.now().toString(36)}-${++names}`;

/** A child process that answers line by line. */
export class Peer {
  readonly process: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiting: ((line: string) => void)[] = [];

  constructor(mode: string, ...args: string[]) {
    this.process = spawn(process.execPath, [childFile, mode, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.process.stdout! }).on('line', (line) => {
      const next = this.#waiting.shift();
      if (next) next(line);
      else this.#lines.push(line);
    });
    onTestFinished(() => void this.process.kill('SIGKILL'));
  }

  /** What it says next. */
  hears(): Promise<unknown> {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(JSON.parse(line));
    return new Promise((resolve, reject) => {
      this.#waiting.push((text) => resolve(JSON.parse(text)));
      this.process.once('exit', (code, signal) => reject(new Error(`the child ended: ${code ?? signal}`)));
    });
  }

  /** Has it evaluate something with its `foretoken`. */
  does(expression: string): Promise<unknown> {
    this.process.stdin!.write(`${expression}\n`);
    return this.hears();
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exited;
  }

  async ends(): Promise<number | null> {
    this.process.stdin!.end();
    if (this.process.exitCode === null) await once(this.process, 'exit');
    return this.process.exitCode;
  }
}

/** Opens a table of 1000 tokens/s and 100 at once by name in another process. */
export async function peerOf(name: string, options: object = {}): Promise<Peer> {
  const peer = new Peer('share', name, JSON.stringify(options));
  await peer.hears();
  return peer;
}
