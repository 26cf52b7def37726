import { ControlLoop, type StepReport } from '../../src/control/loop.js';
import { Roster } from '../../src/control/roster.js';
import { ForecastEngine } from '../../src/forecast/engine.js';
import { Random } from '../../src/learn/random.js';
import { type ForetokenOptions, type ResolvedOptions, resolveOptions } from '../../src/options.js';
import { ShadowFeed } from '../../src/shadow/feed.js';
import type { ShadowFigures, ShadowSpec } from '../../src/shadow/protocol.js';
import { Shadows } from '../../src/shadow/shadows.js';
import { BucketTable } from '../../src/table/table.js';
import { TargetBook, type TargetSpec } from '../../src/targets.js';

const wallStart = 1_700_000_000_000;

export interface Outcome {
  /** 1 or 0 for each request, in order. */
  decisions: string;
  offered: number;
  /** Requests that got no. */
  refused: number;
  /** Tokens asked for, and of them those that got no. */
  tokens: { asked: number; refused: number };
  figures: ShadowFigures | undefined;
  reports: StepReport[];
  events: string[];
}

/** At a time, ms, one of the targets asks for so many tokens. */
export type Request = readonly [timeMs: number, target: number, cost: number];

export interface Traffic {
  targets: readonly TargetSpec[];
  /** In time order. */
  requests: Iterable<Request>;
}

export interface LiveRun {
  options?: Partial<ForetokenOptions>;
  seconds: number;
  /** Default: `bursts`. */
  traffic?: Traffic;
  /** Default: those of the option. */
  specs?: readonly ShadowSpec[];
  /** Default true. */
  shadowed?: boolean;
  /** The resource's limit from a second on, tokens/s. */
  limit?: (second: number) => number;
}

/** Four targets send single requests at random, each in bursts of its own of 0.7 s, together about 1500 a second. */
function* bursts(seconds: number): Generator<Request> {
  const random = new Random(7);
  for (let ms = 1; ms <= seconds * 1000; ms++)
    for (const [i, mean] of [0.15, 0.4, 0.2, 0.2].entries()) {
      const isBurst = (Math.floor(ms / 700) + i) % 3 === 0;
      for (let left = (isBurst ? 4 : 0.4) * mean; left > 0; left--) if (random.uniform() < left) yield [ms, i, 1];
    }
}

/** A live table and its loop on a virtual clock, with shadows told what it sees. The resource serves 1000 tokens/s. */
export async function runLive({
  options: given,
  seconds,
  specs,
  shadowed = true,
  limit,
  traffic = {
    targets: [{ name: 'a', reservation: 50 }, { name: 'b', weight: 2 }, { name: 'c' }, { name: 'd', limit: 150 }],
    requests: bursts(seconds),
  },
}: LiveRun): Promise<Outcome> {
  const capacity = traffic.targets.length;
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
  const known = new TargetBook(table, options).add(traffic.targets);
  for (const { name, handle, settings } of known) loop.put({ name, handle, ...settings });
  loop.settle();
  const decisions: number[] = [];
  const reports: StepReport[] = [];
  const tokens = { asked: 0, refused: 0 };
  const requests = traffic.requests[Symbol.iterator]();
  let next = requests.next();
  for (let ms = 100; ms <= seconds * 1000; ms += 100) {
    for (; !next.done && next.value[0] <= ms; next = requests.next()) {
      const [timeMs, target, cost] = next.value;
      table.advanceTo(timeMs);
      const isAdmitted = table.tryAcquire(known[target]!.handle, cost) > 0;
      decisions.push(isAdmitted ? 1 : 0);
      tokens.asked += cost;
      if (!isAdmitted) tokens.refused += cost;
    }
    table.advanceTo(ms);
    loop.tick(wallStart + ms);
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
    tokens,
    figures,
    reports,
    events,
  };
}
