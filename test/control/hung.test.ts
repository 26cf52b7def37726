import type { Worker } from 'node:worker_threads';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Foretoken, type ForetokenEvent } from '../../src/index.js';

vi.mock(import('../../src/paths.js'), async (original) => ({
  ...(await original()),
  workerFile: () => new URL('./hung.js', import.meta.url).pathname,
}));

it('a controller that hangs keeps nobody waiting who asked it before close() gave up on it', async () => {
  const begun = new Promise<Worker>((resolve) => process.once('worker', resolve));
  const events: ForetokenEvent[] = [];
  const foretoken = await Foretoken.open({ ratePerSec: 10, onEvent: (event) => events.push(event) });
  const worker = await begun;
  onTestFinished(async () => void (await worker.terminate()));
  const explained = foretoken.addTarget('a').explain();
  const shadows = foretoken.shadows();
  const refused = Promise.all([
    expect(explained).rejects.toMatchObject({ code: 'NO_CONTROLLER', message: expect.stringMatching(/^explain: /) }),
    expect(shadows).rejects.toMatchObject({ code: 'NO_CONTROLLER', message: expect.stringMatching(/^shadows: /) }),
  ]);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const closed = foretoken.close();
  await vi.advanceTimersByTimeAsync(10_000);
  await closed;
  await refused;
  expect(events.map(({ message }) => message)).toEqual(['its thread did not stop in time and was left behind']);
});
