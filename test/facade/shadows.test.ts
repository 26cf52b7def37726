import { describe, expect, it, onTestFinished } from 'vitest';
import { Foretoken, type ForetokenEvent, type ForetokenOptions, type StepReport } from '../../src/index.js';
import { freshName, peerOf } from '../table/processes.js';

async function openWith(options: Partial<ForetokenOptions>) {
  const events: ForetokenEvent[] = [];
  const foretoken = await Foretoken.open({
    ratePerSec: 1,
    burst: 20,
    engine: 'ewma',
    stepMs: 200,
    tickMs: 50,
    horizonsMs: [1000],
    onEvent: (event) => events.push(event),
    ...options,
  });
  onTestFinished(() => foretoken.close());
  return { foretoken, events };
}

/** Resolves with the first report by which shadows have played so many requests. */
const played = (foretoken: Foretoken, requests: number): Promise<StepReport> =>
  new Promise((resolve) => {
    foretoken.watch((report) => {
      if ((report.shadows?.asked ?? 0) >= requests) resolve(report);
    });
  });

describe('shadows of other engines and allocators', () => {
  it('are told of by shadows(), by watch and by explain', async () => {
    const { foretoken, events } = await openWith({ shadow: [{}, { engine: 'last', allocator: 'credit' }] });
    const tenant = foretoken.addTarget('tenant-a');
    expect(await foretoken.shadows()).toMatchObject({
      asked: 0,
      shadows: [
        { engine: 'ewma', allocator: 'max-min', denied: 0 },
        { engine: 'last', allocator: 'credit', denied: 0 },
      ],
    });
    const reported = played(foretoken, 200);
    let denied = 0;
    for (let i = 0; i < 200; i++) if (!tenant.tryAcquire()) denied++;
    const { shadows } = await reported;
    expect(shadows).toMatchObject({ asked: 200, askedTokens: 200, denied, deniedTokens: denied });
    const report = await foretoken.shadows();
    expect(report).toMatchObject({ asked: 200, denied });
    expect(report.timeMs).toBeGreaterThan(report.sinceMs);
    for (const { denied } of report.shadows) expect(denied).toBeGreaterThan(100);

    const explanation = await tenant.explain();
    expect(explanation.shadows).toMatchObject(
      report.shadows.map(({ engine, allocator, deniedTokens }) => ({ engine, allocator, deniedTokens })),
    );
    expect(explanation.text).toContain('Under engine last and allocator credit it would have ');
    expect(events).toEqual([]);
  });

  it('are none unless asked for', async () => {
    const { foretoken } = await openWith({});
    const tenant = foretoken.addTarget('tenant-a');
    tenant.tryAcquire();
    const report = await new Promise<StepReport>((resolve) => foretoken.watch(resolve));
    expect(report).not.toHaveProperty('shadows');
    expect(await foretoken.shadows()).toMatchObject({ asked: 0, denied: 0, shadows: [] });
    expect((await tenant.explain()).shadows).toEqual([]);
  });

  it('are those of the process that controls, where several share a table', async () => {
    const name = freshName();
    const { foretoken } = await openWith({ name, capacity: 1024, shadow: [{}] });
    const tenant = foretoken.addTarget('tenant-a');
    const reported = played(foretoken, 100);
    // The controller reads the roster at its next tick; before that a target is none of a shadow's.
    while ((await tenant.explain().catch(() => undefined)) === undefined)
      await new Promise((done) => setTimeout(done, 5));
    for (let i = 0; i < 100; i++) tenant.tryAcquire();
    const { shadows } = await reported;
    expect(shadows!.denied).toBeGreaterThanOrEqual(75);
    expect(shadows!.shadows[0]!.denied).toBeGreaterThanOrEqual(75);
    const peer = await peerOf(name, { control: true, ratePerSec: 1, burst: 20 });
    const asked = `foretoken.shadows().then(() => 'told', ({ code }) => code)`;
    expect(await peer.does(asked)).toBe('NO_CONTROLLER');
    await peer.ends();
  });

  it('answer with a code once there is nobody to ask', async () => {
    const { foretoken } = await openWith({ control: false });
    await expect(foretoken.shadows()).rejects.toMatchObject({ code: 'NO_CONTROLLER' });
    await foretoken.close();
    await expect(foretoken.shadows()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it.each<[unknown, RegExp]>([
    [{}, /^shadow: expected an array of at most 4 shadows, got/],
    [[{}, {}, {}, {}, {}], /^shadow: expected an array of at most 4 shadows, got/],
    [[{ engine: 'oracle' }], /^shadow\[0\]\.engine: expected one of/],
    [[{}, { allocator: 'all' }], /^shadow\[1\]\.allocator: expected one of/],
    [[{ engin: 'last' }], /engin/],
    [[{}, { engine: 'ewma' }], /^shadow\[1\]: expected each only once, got "ewma\/max-min"/],
  ])('are refused when wrong: %j', async (shadow, message) => {
    await expect(openWith({ shadow: shadow as never })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(message),
    });
  });

  it('need a controller', async () => {
    await expect(openWith({ shadow: [{}], control: false })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });
});
