import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Controller } from '../../src/control/controller.js';
import type { ControllerData } from '../../src/control/protocol.js';

const place = vi.hoisted(() => ({ worker: '' }));
vi.mock('../../src/paths.js', async (original) => ({
  ...(await original<typeof import('../../src/paths.js')>()),
  workerFile: () => place.worker,
}));

// As where a thread of its own hangs in the inference runtime, which Node waits for.
const script = `
  import { parentPort } from 'node:worker_threads';
  parentPort.on('message', ({ type }) => {
    if (type === 'stop') parentPort.postMessage({ type: 'ended' });
    if (type === 'remove') process.exit();
  });
  parentPort.postMessage({ type: 'ready', history: '' });`;

it('does not wait for a thread that has closed everything and cannot end', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'foretoken-stop-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  place.worker = join(folder, 'worker.mjs');
  writeFileSync(place.worker, script);
  const onEvent = vi.fn();
  const controller = await Controller.start({} as Omit<ControllerData, 'ended'>, onEvent);
  const asked = expect(controller.shadows()).rejects.toMatchObject({ code: 'NO_CONTROLLER' });
  await controller.stop();
  await asked;
  expect(onEvent).not.toHaveBeenCalled();
  expect(controller.alive).toBe(false);
  await controller.stop();
}, 8_000);
