import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { onTestFinished, vi } from 'vitest';
import { workerFile } from '../../src/paths.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * What befalls the inference worker that next takes a task: it never answers; its runtime blocks the thread until it is let go,
 * while the first or the second model computes or while one is opened; it throws; its thread exits.
 */
export type Harm = 'hang' | 'block' | 'block-second' | 'block-open' | 'throw' | 'exit';

const script = (folder: string) => `
  import { existsSync, renameSync } from 'node:fs';
  import { createRequire } from 'node:module';
  import infer from ${JSON.stringify(workerFile('forecast/lstm-worker'))};
  const ort = createRequire(${JSON.stringify(join(root, 'package.json'))})('onnxruntime-node');
  const place = (name) => ${JSON.stringify(`${folder}/`)} + name;
  const suffers = (harm) => {
    if (existsSync(place(harm + '-always'))) return true;
    if (!existsSync(place(harm))) return false;
    renameSync(place(harm), place('suffered'));
    return true;
  };
  const block = () => {
    while (existsSync(place('held'))) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  };
  const { run } = ort.InferenceSession.prototype;
  let first = true;
  ort.InferenceSession.prototype.run = function (...given) {
    if (suffers('block')) block();
    if (existsSync(place('block-second'))) {
      if (!first && suffers('block-second')) block();
      first = false;
    }
    return run.apply(this, given);
  };
  const { create } = ort.InferenceSession;
  ort.InferenceSession.create = function (...given) {
    if (suffers('block-open')) block();
    return create.apply(this, given);
  };
  export default async function (task) {
    if (suffers('exit')) process.exit(1);
    if (suffers('throw')) throw new Error('it is broken');
    if (suffers('hang')) await new Promise(() => {});
    return infer(task);
  }`;

/** Inference workers of this test are ours to harm. */
export function sabotage() {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-harm-'));
  const filename = join(folder, 'worker.mjs');
  writeFileSync(filename, script(folder));
  writeFileSync(join(folder, 'held'), '');
  const { run } = Piscina.prototype;
  const runs = vi.spyOn(Piscina.prototype, 'run').mockImplementation(function (this: Piscina, task, options) {
    return run.call(this, task, 'graph' in task ? { ...options, filename } : options);
  });
  const ended = vi.spyOn(Worker.prototype, 'terminate');
  const letGo = () => rmSync(join(folder, 'held'), { force: true });
  onTestFinished(() => {
    letGo();
    vi.restoreAllMocks();
    vi.useRealTimers();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    /** The next worker, or every one until it is healed. */
    harm: (harm: Harm, always = false) => writeFileSync(join(folder, always ? `${harm}-always` : harm), ''),
    heal: (harm: Harm) => rmSync(join(folder, `${harm}-always`), { force: true }),
    suffered: () =>
      vi.waitFor(() => existsSync(join(folder, 'suffered')) || Promise.reject(new Error('not yet')), 10_000),
    letGo,
    /** Tasks handed over. */
    runs,
    /** Threads ended. */
    ended,
  };
}
