import { ControlLoop, type StepReport } from '../../src/control/loop.js';
import { Roster } from '../../src/control/roster.js';
import { ForecastEngine } from '../../src/forecast/engine.js';
import { Random } from '../../src/learn/random.js';
import { type ForetokenOptions, type ResolvedOptions, resolveOptions } from '../../src/options.js';
import { ShadowFeed } from '../../src/shadow/feed.js';
import type { ShadowFigures, ShadowSpec } from '../../src/shadow/protocol.js';
import { Shadows } from '../../src/shadow/shadows.js';
import { BucketTable } from '../../src/table/table.js';
import { TargetBook } from '../../src/targets.js';

const wallStart = 1_700_000_000_000;
const capacity = 8;

export interface Outcome {
  /** 1 or 0 for each request, in order. */
  decisions: string;
  offered: number;
  /** Requests that got no. */
  refused: number;
  figures: ShadowFigures | undefined;
  reports: StepReport[];
  events: string[];
}

export interface LiveRun {
  options?: Partial<ForetokenOptions>;
  seconds: number;
  /** Default: those of the option. */
  specs?: readonly ShadowSpec[];
  /** Default true. */
  shadowed?: boolean;
  /** The resource's limit from a second on, tokens/s. */
  limit?: (second: number) => number;
}

/**
 * A live table and its loop on a virtual clock, with shadows told what it sees. Four targets send single requests at
 * random, each in bursts of its own of 0.7 s, together about 1.7 times what the resource serves of 1000 tokens/s.
 */
export async function runLive({ options: given, seconds, specs, shadowed = true, limit }: LiveRun): Promise<Outcome> {
  const resolved = resolveOptions({
    ratePerSec: 1000,
    burst: 300,
    capacity,
    engine: 'ewma',
    horizonsMs: [1000, 5000],
    ...given,
  });
  const options: ResolvedOptions = { ...resolved, shadow: specs ?? resolved.shadow };
  const { ratePerSec, burst, engine: engineName, horizonsMs } = options;
  const table = BucketTable.create({ capacity, ratePerSec, burst, clock: 'virtual' });
  const events: string[] = [];
  const shadows = await Shadows.open(options, (message) => events.push(message));
  let played: Promise<ShadowFigures | undefined> = Promise.resolve(undefined);
  const feed = new ShadowFeed(
    { collect: table.constants.collect, wantsLive: true, wantsModel: false, modelFrame: () => undefined },
    (message) => {
      played = played.then(async (before) => (await shadows.take(message)) ?? before);
    },
  );
  const engine = await ForecastEngine.open({
    rows: capacity + 1,
    stepMs: 1000,
    horizonsMs,
    engine: engineName,
    deterministic: true,
  });
  const loop = new ControlLoop({
    table,
    options,
    engine,
    roster: new Roster(),
    onlooker: shadowed ? feed : undefined,
    onEvent: ({ message }) => events.push(message),
  });
  table.extendValidity(2000);
  loop.tick(wallStart);
  const known = new TargetBook(table, options).add([
    { name: 'a', reservation: 50 },
    { name: 'b', weight: 2 },
    { name: 'c' },
    { name: 'd', limit: 150 },
  ]);
  for (const { name, handle, settings } of known) loop.put({ name, handle, ...settings });
  loop.settle();
  const random = new Random(7);
  const decisions: number[] = [];
  const reports: StepReport[] = [];
  for (let ms = 1; ms <= seconds * 1000; ms++) {
    table.advanceTo(ms);
    known.forEach(({ handle }, i) => {
      const isBurst = (Math.floor(ms / 700) + i) % 3 === 0;
      for (let left = (isBurst ? 4 : 0.4) * [0.15, 0.4, 0.2, 0.2][i]!; left > 0; left--)
        if (random.uniform() < left) decisions.push(table.tryAcquire(handle, 1) > 0 ? 1 : 0);
    });
    if (ms % 100 === 0) loop.tick(wallStart + ms);
    if (ms % 1000 !== 0) continue;
    reports.push((await loop.step(wallStart + ms))!);
    if (limit) loop.follow(limit(ms / 1000));
  }
  const figures = await played;
  await shadows.close();
  await engine.close();
  table.close();
  return {
    decisions: decisions.join(''),
    offered: decisions.length,
    refused: decisions.filter((decision) => decision === 0).length,
    figures,
    reports,
    events,
  };
}
