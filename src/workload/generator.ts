import { Random } from '../learn/random.js';

/** How a generated tenant behaves. */
export const behaviours = [
  'calm',
  'periodic',
  'rhythms',
  'on-off',
  'flash',
  'daily',
  'bulk',
  'clustered',
  'correlated',
] as const;
/** What else a tenant may be where tenants come and go, or work for one job together. */
export const furtherBehaviours = ['visitor', 'striped'] as const;
export type Behaviour = (typeof behaviours)[number] | (typeof furtherBehaviours)[number];

export interface WorkloadOptions {
  seed: number;
  targets: number;
  /** Time between two things that happen, as a multiple of what is usual at 1 s steps. Default 1. */
  timeScale?: number;
  /** Behaviours that occur, drawn in equal parts. Default: all. */
  mix?: readonly Behaviour[];
  /**
   * Tenants come and go: three in ten arrive late, as many leave for good, some only visit, and some are parts of one
   * job that is spread over many. What three in ten ask for changes its level from time to time, and in half of these
   * workloads that of all together does. Default false.
   */
  turnover?: boolean;
  /** Mean requests/s of a tenant, drawn between these, uniform in the logarithm. Default [0.05, 200]. */
  ratePerSec?: readonly [number, number];
}

/** Requests in time order, one array per column: what a trace file holds. */
export interface GeneratedRequests {
  names: string[];
  timesMs: Float64Array;
  /** Index into `names`. */
  target: Uint32Array;
  /** 0 unknown, 1 read, 2 write. */
  op: Uint8Array;
  bytes: Float64Array;
  requests: number;
  durationMs: number;
}

/** Expected requests in [fromS, toS). Called with ever later intervals that do not overlap. */
type Intensity = (fromS: number, toS: number) => number;

interface Tenant {
  name: string;
  behaviour: Behaviour;
  intensity: Intensity;
  random: Random;
  /** Requests come in clumps of this mean size. */
  clump: number;
  meanBytes: number;
  readShare: number;
}

/** An imagined multi-tenant workload. The same seed gives the same one. */
export class Workload {
  readonly tenants: readonly { name: string; behaviour: Behaviour }[];
  readonly #tenants: Tenant[] = [];
  #timeS = 0;

  constructor(options: WorkloadOptions) {
    const random = new Random(options.seed);
    const timeScale = options.timeScale ?? 1;
    const [low, high] = options.ratePerSec ?? [0.05, 200];
    const { turnover = false } = options;
    const mix: readonly Behaviour[] = options.mix ?? (turnover ? [...behaviours, ...furtherBehaviours] : behaviours);
    const groups = Array.from({ length: 3 }, () =>
      shared(flash(1, timeScale * random.logBetween(0.5, 2), random.fork())),
    );
    const season =
      turnover && random.uniform() < 0.5
        ? shared(regimes(constant(1), timeScale, new Random(options.seed + 104_729)))
        : undefined;
    const jobs = Array.from({ length: 2 }, (_, i) => shared(job(timeScale, new Random(options.seed + 7919 * (i + 1)))));
    for (let i = 0; i < options.targets; i++) {
      const own = random.fork();
      const behaviour = own.pick(mix);
      const rate = own.logBetween(low, high);
      let intensity = intensityOf(behaviour, rate, timeScale, own, own.pick(groups), jobs);
      if (turnover) {
        if (own.uniform() < 0.3) intensity = regimes(intensity, timeScale, own);
        if (season) intensity = seasonal(intensity, season);
        intensity = forALife(intensity, timeScale, own);
      }
      this.#tenants.push({
        name: `${behaviour}-${String(i).padStart(3, '0')}`,
        behaviour,
        intensity,
        random: own,
        clump: own.uniform() < 0.5 ? 1 : own.logBetween(1, 12),
        meanBytes: own.pick([512, 4096, 4096, 8192, 65536, 262144, 1048576]),
        readShare: own.pick([0, 0.1, 0.5, 0.7, 0.95, 1]),
      });
    }
    this.tenants = this.#tenants;
  }

  /** Counts of the next step, one per tenant, and if asked for their bytes. */
  next(stepMs: number, counts: Float64Array, bytes?: Float64Array): void {
    const from = this.#timeS;
    const to = from + stepMs / 1000;
    this.#timeS = to;
    this.#tenants.forEach((tenant, i) => {
      const mean = tenant.intensity(from, to) / tenant.clump;
      let count = tenant.random.poisson(mean);
      if (tenant.clump > 1 && count > 0) count += tenant.random.poisson(count * (tenant.clump - 1));
      counts[i] = count;
      if (bytes)
        bytes[i] = count > 0 ? count * tenant.meanBytes * Math.exp(tenant.random.normal() / Math.sqrt(count)) : 0;
    });
  }

  /** Demand of the next `steps` steps, `data[step · tenants + tenant]`, in requests or in bytes. */
  series(steps: number, stepMs: number, cost: 'requests' | 'bytes' = 'requests'): Float32Array {
    const tenants = this.#tenants.length;
    const data = new Float32Array(steps * tenants);
    const counts = new Float64Array(tenants);
    const bytes = new Float64Array(tenants);
    for (let step = 0; step < steps; step++) {
      this.next(stepMs, counts, cost === 'bytes' ? bytes : undefined);
      data.set(cost === 'bytes' ? bytes : counts, step * tenants);
    }
    return data;
  }

  /** The requests of the next `durationMs`, in time order; times count from where the last call ended. */
  requests(durationMs: number): GeneratedRequests {
    const sliceMs = 100;
    const startMs = this.#timeS * 1000;
    const counts = new Float64Array(this.#tenants.length);
    const columns: { timeMs: number; target: number; op: number; bytes: number }[] = [];
    for (let at = 0; at < durationMs; at += sliceMs) {
      const length = Math.min(sliceMs, durationMs - at);
      this.next(length, counts);
      const slice: typeof columns = [];
      this.#tenants.forEach(({ random, readShare, meanBytes }, target) => {
        for (let i = 0; i < counts[target]!; i++) {
          const op = random.uniform() < readShare ? 1 : 2;
          // Whole sectors, as disks ask for; the logarithm varies by half.
          const bytes = 512 * Math.max(1, Math.round((meanBytes / 512) * Math.exp(0.5 * random.normal() - 0.125)));
          slice.push({ timeMs: at + length * random.uniform(), target, op, bytes });
        }
      });
      slice.sort((a, b) => a.timeMs - b.timeMs);
      for (const request of slice) columns.push(request);
    }
    this.#timeS = (startMs + durationMs) / 1000;
    return {
      names: this.#tenants.map((tenant) => tenant.name),
      timesMs: Float64Array.from(columns, (request) => request.timeMs),
      target: Uint32Array.from(columns, (request) => request.target),
      op: Uint8Array.from(columns, (request) => request.op),
      bytes: Float64Array.from(columns, (request) => request.bytes),
      requests: columns.length,
      durationMs,
    };
  }
}

/** Something that happens from time to time: a rate for a while, then nothing until the next. */
interface Episode {
  startS: number;
  endS: number;
  ratePerSec: number;
}

/** Expected requests of episodes that follow one another; `next` makes each from the one before. */
function episodes(next: (previous: Episode) => Episode, first: Episode): Intensity {
  const open: Episode[] = [];
  let coming = first;
  return (fromS, toS) => {
    while (coming.startS < toS) {
      open.push(coming);
      coming = next(coming);
    }
    let sum = 0;
    for (let i = open.length - 1; i >= 0; i--) {
      const { startS, endS, ratePerSec } = open[i]!;
      sum += ratePerSec * Math.max(0, Math.min(toS, endS) - Math.max(fromS, startS));
      if (endS <= toS) open.splice(i, 1);
    }
    return sum;
  };
}

const constant =
  (ratePerSec: number): Intensity =>
  (fromS, toS) =>
    ratePerSec * (toS - fromS);

const plus =
  (...parts: Intensity[]): Intensity =>
  (fromS, toS) =>
    parts.reduce((sum, part) => sum + part(fromS, toS), 0);

/** Lets several tenants follow one intensity: all ask for the same interval in turn. */
function shared(intensity: Intensity): Intensity {
  let atS = -1;
  let value = 0;
  return (fromS, toS) => {
    if (fromS !== atS) {
      value = intensity(fromS, toS);
      atS = fromS;
    }
    return value;
  };
}

/** Wanders by a random walk of the logarithm that is drawn back to its mean. */
function drifting(intensity: Intensity, timeS: number, spread: number, random: Random): Intensity {
  let level = spread * random.normal();
  return (fromS, toS) => {
    const keep = Math.exp(-(toS - fromS) / timeS);
    level = level * keep + spread * Math.sqrt(1 - keep * keep) * random.normal();
    return intensity(fromS, toS) * Math.exp(level - (spread * spread) / 2);
  };
}

/** Keeps a level for minutes, then takes another at once: a release, a new customer, the end of a campaign. */
function regimes(intensity: Intensity, timeScale: number, random: Random): Intensity {
  const spanS = timeScale * random.logBetween(60, 2000);
  const spread = random.pick([0.5, 1, 1.6]);
  const level = () => Math.exp(spread * random.normal() - (spread * spread) / 2);
  let untilS = spanS * random.exponential();
  let factor = level();
  return (fromS, toS) => {
    if (fromS >= untilS) {
      untilS = fromS + spanS * random.exponential();
      factor = level();
    }
    return factor * intensity(fromS, toS);
  };
}

/** `season` has a mean of about 1 a second. */
function seasonal(intensity: Intensity, season: Intensity): Intensity {
  return (fromS, toS) => (season(fromS, toS) / (toS - fromS)) * intensity(fromS, toS);
}

/** Three tenants in ten come later than the workload begins, and as many leave for good. */
function forALife(intensity: Intensity, timeScale: number, random: Random): Intensity {
  const bornS = random.uniform() < 0.3 ? timeScale * 600 * random.exponential() : 0;
  const goneS = random.uniform() < 0.3 ? bornS + timeScale * random.logBetween(20, 1500) : Number.POSITIVE_INFINITY;
  return (fromS, toS) => {
    const expected = intensity(fromS, toS);
    return toS > bornS && fromS < goneS ? expected : 0;
  };
}

/** A job every `periodS`: never quite on time, never quite as large, now and then left out. */
function periodic(ratePerSec: number, periodS: number, random: Random): Intensity {
  const lengthS = periodS * random.logBetween(0.01, 0.4);
  const jitterS = periodS * random.pick([0, 0.01, 0.03, 0.1]);
  const missed = random.pick([0, 0, 0.02, 0.1]);
  const spread = random.pick([0.05, 0.2, 0.6]);
  const peak = (ratePerSec * periodS) / lengthS;
  let due = periodS * random.uniform();
  return episodes(
    () => {
      due += periodS;
      const startS = due + jitterS * random.normal();
      const present = random.uniform() >= missed;
      const size = present ? Math.exp(spread * random.normal() - (spread * spread) / 2) : 0;
      return { startS, endS: startS + lengthS, ratePerSec: peak * size };
    },
    { startS: due, endS: due + lengthS, ratePerSec: peak },
  );
}

/** On for a while, off for a while, both heavy-tailed (finite mean, infinite variance below shape 2). */
function onOff(ratePerSec: number, timeScale: number, random: Random): Intensity {
  const onS = timeScale * random.logBetween(1, 40);
  const offS = onS * random.logBetween(0.5, 20);
  const shape = random.between(1.2, 2.2);
  const spread = random.pick([0.2, 0.7, 1.2]);
  const peak = (ratePerSec * (onS + offS)) / onS;
  const heavy = (meanS: number) => ((meanS * (shape - 1)) / shape) * Math.min(200, random.pareto(shape));
  return episodes(
    (previous) => {
      const startS = previous.endS + heavy(offS);
      return {
        startS,
        endS: startS + heavy(onS),
        ratePerSec: peak * Math.exp(spread * random.normal() - (spread * spread) / 2),
      };
    },
    { startS: 0, endS: heavy(onS) * random.pick([0, 1]), ratePerSec: peak },
  );
}

/** A crowd arrives in seconds and leaves over minutes, in three stairs. */
function flash(ratePerSec: number, timeScale: number, random: Random): Intensity {
  const everyS = timeScale * random.logBetween(100, 1200);
  const halfLifeS = timeScale * random.logBetween(2, 40);
  const height = random.logBetween(5, 60);
  let startS = everyS * random.exponential();
  let stair = 0;
  let size = 1;
  const make = (): Episode => {
    const at = startS + stair * halfLifeS;
    return { startS: at, endS: at + halfLifeS, ratePerSec: (ratePerSec * height * size) / 2 ** stair };
  };
  return plus(
    constant(ratePerSec * random.pick([0.1, 0.5, 1])),
    episodes(() => {
      if (++stair > 3) {
        stair = 0;
        startS += 4 * halfLifeS + everyS * random.exponential();
        size = random.logBetween(0.3, 3);
      }
      return make();
    }, make()),
  );
}

/** A day's shape: a slow wave with a sharper peak, on a day that may be minutes long. */
function daily(ratePerSec: number, timeScale: number, random: Random): Intensity {
  const dayS = timeScale * random.pick([600, 1800, 3600, 86400]);
  const phase = random.uniform();
  const depth = random.between(0.5, 0.98);
  const sharpness = random.pick([1, 2, 4]);
  return (fromS, toS) => {
    const wave = ((1 + Math.sin(2 * Math.PI * ((fromS + toS) / 2 / dayS + phase))) / 2) ** sharpness;
    return ratePerSec * (1 - depth + 2 * depth * wave) * (toS - fromS);
  };
}

/** Comes, asks in fits and starts for a while, and is away for long, or for ever. */
function visitor(ratePerSec: number, timeScale: number, random: Random): Intensity {
  const staysS = timeScale * random.logBetween(2, 60);
  const awayS = staysS * random.logBetween(10, 200);
  const peak = (ratePerSec * (staysS + awayS)) / staysS;
  const within = onOff(peak, timeScale * 0.2, random);
  let arrivesS = awayS * random.exponential();
  let leavesS = arrivesS + staysS * random.exponential();
  return (fromS, toS) => {
    const expected = within(fromS, toS);
    if (fromS > leavesS) {
      arrivesS = fromS + awayS * random.exponential();
      leavesS = arrivesS + staysS * random.exponential();
    }
    return toS > arrivesS ? expected : 0;
  };
}

/** A job spread over many tenants, who all work at the same time: rounds of input or output, with pauses of any kind. */
function job(timeScale: number, random: Random): Intensity {
  const rounds =
    random.uniform() < 0.6 ? periodic(1, timeScale * random.logBetween(15, 120), random) : onOff(1, timeScale, random);
  return random.uniform() < 0.5 ? rounds : plus(rounds, flash(0.2, timeScale, random));
}

/** Rarely, a transfer far larger than everything else. */
function bulk(ratePerSec: number, timeScale: number, random: Random): Intensity {
  const everyS = timeScale * random.logBetween(150, 1500);
  const lengthS = timeScale * random.logBetween(1, 60);
  const peak = (ratePerSec * everyS) / lengthS;
  return plus(
    constant(ratePerSec * random.pick([0, 0.02, 0.2])),
    episodes(
      (previous) => {
        const startS = previous.endS + everyS * (0.2 + 0.8 * random.exponential());
        return {
          startS,
          endS: startS + lengthS * random.logBetween(0.3, 3),
          ratePerSec: peak * random.logBetween(0.3, 3),
        };
      },
      { startS: everyS * random.uniform(), endS: 0, ratePerSec: 0 },
    ),
  );
}

/** Requests that draw others after them, at once and over a while: the rate jumps and decays. */
function clustered(ratePerSec: number, timeScale: number, random: Random): Intensity {
  const decayS = timeScale * random.logBetween(2, 60);
  const branching = random.between(0.3, 0.95);
  let excited = 0;
  return (fromS, toS) => {
    const spanS = toS - fromS;
    const mean = ratePerSec * (1 - branching) * spanS + excited * (1 - Math.exp(-spanS / decayS));
    const jumps = random.poisson(mean);
    excited = excited * Math.exp(-spanS / decayS) + branching * jumps;
    return jumps;
  };
}

function intensityOf(
  behaviour: Behaviour,
  rate: number,
  timeScale: number,
  random: Random,
  group: Intensity,
  jobs: readonly Intensity[],
): Intensity {
  const period = () => timeScale * random.logBetween(4, 180);
  switch (behaviour) {
    case 'calm':
      return drifting(constant(rate), timeScale * random.logBetween(30, 3000), random.pick([0, 0.1, 0.4]), random);
    case 'periodic':
      return plus(periodic(rate, period(), random), constant(rate * random.pick([0, 0, 0.1, 0.5])));
    case 'rhythms':
      return plus(
        periodic(rate, period(), random),
        periodic(rate, timeScale * random.pick([5, 10, 30, 60, 120]), random),
        onOff(rate * random.pick([0, 0.3]), timeScale, random),
      );
    case 'on-off':
      return onOff(rate, timeScale, random);
    case 'flash':
      return flash(rate, timeScale, random);
    case 'daily':
      return drifting(daily(rate, timeScale, random), timeScale * 60, random.pick([0.1, 0.5]), random);
    case 'bulk':
      return bulk(rate, timeScale, random);
    case 'clustered':
      return clustered(rate, timeScale, random);
    case 'visitor':
      return visitor(Math.min(rate, 20), timeScale, random);
    case 'striped': {
      const work = random.pick(jobs);
      return drifting((fromS, toS) => rate * work(fromS, toS), timeScale * 300, random.pick([0.05, 0.3]), random);
    }
    case 'correlated': {
      const share = random.between(0.3, 1.5);
      return plus((fromS, toS) => rate * share * group(fromS, toS), onOff(rate * 0.3, timeScale, random));
    }
  }
}
