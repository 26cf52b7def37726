/** What was seen of the resource in some time: sums. */
export interface LimiterSample {
  elapsedMs: number;
  /** Requests admitted, and their tokens. */
  admitted: number;
  admittedTokens: number;
  deniedTokens: number;
  /** Requests reported as done, and their processing times together. */
  completions: number;
  durationMs: number;
}

/**
 * Why the limit is what it is. `unproven`: too little has been reported. `probing`: it is used and the resource is at
 * ease, so it rises. `unused`: demand stays below it, so nothing is learnt. `holding`: processing takes longer than it
 * did, but the resource keeps up. `measuring`: as it has done so for long, or many are served at once below the limit,
 * less is admitted for a second or two to see whether a queue or a slower resource is why. `overloaded`: the resource
 * falls behind; the limit is what it was seen to serve, less what drains the queue.
 */
export type LimitReason = 'unproven' | 'probing' | 'unused' | 'holding' | 'measuring' | 'overloaded';

export interface LimiterBounds {
  minPerSec: number;
  maxPerSec: number;
}

/** Plain data that outlives the process; `bestMs` is 0 where nothing has been reported yet. */
export interface LimiterRecord {
  ratePerSec: number;
  bestMs: number;
  reported: number;
}

/** Least time and completions between two judgements. */
const windowMs = 500;
const leastCompletions = 20;
/** Processing takes that many times its best: the resource is queueing. */
const tolerance = 2;
/** Up to so many times its best it is at ease. */
const ease = 1.4;
/** Rises of a probe: near what the resource was seen to serve, the first beyond, which doubles, and the most. */
const leastRise = 0.02;
const firstRise = 0.05;
const mostRise = 0.25;
/** Judgements for which it is held, each cutting the limit by one of these parts, until it is measured at that part. */
const patience = 4;
const leastCut = 0.01;
const mostCut = 0.3;
const lookPart = 0.93;
/** Judgements that measuring takes: until processing times no longer fall by a quarter, or as a queue that drains has them. */
const leastFlat = 2;
const mostLooks = 8;
const stillFalls = 0.25;
/** Judgements besides, in which the lowered limit was not what was admitted. */
const mostUnmet = 20;
/** Below the limit, a queue is looked for where more than so many are served at once. */
const mostAtOnce = 2;
/** Kept of the processing time at which there was none, each judgement: looked for again after ten minutes or more. */
const forgotten = 0.9995;
/** It falls behind when it completes so much less than is admitted, and less than chance among so few would have it. */
const leastShort = 0.05;
/** A queue is drained over so many seconds, with at most that part of the capacity. */
const drainS = 1.5;
const mostDrain = 0.4;
/** What a resource that fell behind is given once its queue is drained, of what it was seen to serve. */
const afterQueue = 0.97;
/** The queue is steady when processing times change by less than that part of the time that passes. */
const steadyPart = 0.05;
/** The limit counts as used when that part of it was admitted. */
const usedPart = 0.85;

/**
 * Finds the rate that a resource can serve from how long it takes: the ratio of the best processing time to that of
 * now tells that it is queueing, as in the gradient limits of Netflix's concurrency-limits, and then what it completes
 * is what it can serve, as in BBR (Cardwell et al., 2016). That a limit on a rate needs both is because the queue a rate
 * builds is its excess summed up: a ratio alone tells neither how far to go down nor when to stop.
 */
export class RateLimiter {
  readonly #bounds: LimiterBounds;
  #ratePerSec: number;
  #reason: LimitReason = 'unproven';
  #bestMs = Number.NaN;
  #lastMs = Number.NaN;
  #held = 0;
  /** Admitted of late while held, tokens/s. */
  #inUsePerSec = 0;
  #looks = 0;
  #flat = 0;
  #unmet = 0;
  #isLowered = false;
  #lookPart = lookPart;
  /** What is given once measured: of a slower resource, and of one that had a queue. */
  #afterPerSec = 0;
  #drainedPerSec = 0;
  /** Processing time when measuring began, and when last no queue was found, ms. */
  #measuredMs = Number.NaN;
  #clearedMs = Number.NaN;
  /** Part of those admitted whose completion is reported. */
  #reported = 1;
  #isReportedKnown = false;
  #costPerRequest = 1;
  #capacityPerSec = Number.NaN;
  #rise = leastRise;
  #strained = 0;
  #sample: LimiterSample = emptySample();

  constructor(startPerSec: number, bounds: LimiterBounds) {
    this.#bounds = bounds;
    this.#ratePerSec = within(startPerSec, bounds);
  }

  get ratePerSec(): number {
    return this.#ratePerSec;
  }

  get reason(): LimitReason {
    return this.#reason;
  }

  record(): LimiterRecord {
    return { ratePerSec: this.#ratePerSec, bestMs: this.#bestMs > 0 ? this.#bestMs : 0, reported: this.#reported };
  }

  /** Goes on from where another was. */
  restore({ ratePerSec, bestMs, reported }: LimiterRecord): void {
    this.#ratePerSec = within(ratePerSec, this.#bounds);
    if (bestMs > 0) this.#bestMs = bestMs;
    if (reported > 0 && reported <= 1) {
      this.#reported = reported;
      this.#isReportedKnown = true;
    }
  }

  /** @returns whether the limit was judged anew */
  observe(sample: LimiterSample): boolean {
    const sum = this.#sample;
    for (const key of Object.keys(sum) as (keyof LimiterSample)[]) sum[key] += Math.max(0, sample[key]);
    if (sum.elapsedMs < windowMs || sum.completions < leastCompletions) {
      // A window without completions says nothing, however long it was.
      if (sum.elapsedMs >= 10 * windowMs) this.#sample = emptySample();
      return false;
    }
    this.#sample = emptySample();
    this.#judge(sum);
    return true;
  }

  #judge(sum: LimiterSample): void {
    const seconds = sum.elapsedMs / 1000;
    const nowMs = sum.durationMs / sum.completions;
    if (!(nowMs > 0)) return;
    if (sum.admitted > 0) this.#costPerRequest += (sum.admittedTokens / sum.admitted - this.#costPerRequest) / 3;
    const admittedPerSec = sum.admittedTokens / seconds;
    const servedPerSec = (sum.completions * this.#costPerRequest) / this.#reported / seconds;
    const isUsed = sum.deniedTokens > 0 || admittedPerSec >= usedPart * this.#ratePerSec;
    if (!(nowMs > this.#bestMs)) this.#bestMs = nowMs;
    const risenMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    const inflation = nowMs / this.#bestMs;
    const queuedS = (nowMs - this.#bestMs) / 1000;
    // A shorter queue is what a probe by the least rise builds in a window: it cannot be told from one.
    const isQueueing = inflation > tolerance && queuedS > leastRise * seconds;
    const keptUp = 1 - Math.max(leastShort, 3 / Math.sqrt(sum.completions));
    const isLong = queuedS > seconds / 2;
    const isBehind = isLong || (this.#isReportedKnown && servedPerSec < keptUp * admittedPerSec && risenMs > 0);
    this.#strained = isQueueing && isBehind ? this.#strained + 1 : 0;
    const isOverloaded = this.#strained > 1 || (this.#strained === 1 && isUsed);
    // While it falls behind, and as long as the queue outlasts the window, what it serves is all it can.
    if (isOverloaded && this.#strained === 1) this.#capacityPerSec = servedPerSec;
    else if (isOverloaded && (isLong || !(this.#capacityPerSec > 0)))
      this.#capacityPerSec = this.#capacityPerSec > 0 ? (this.#capacityPerSec + servedPerSec) / 2 : servedPerSec;
    // Who reports a part of the completions does so also while the queue, if any, is steady.
    if (!isOverloaded && Math.abs(risenMs) < steadyPart * sum.elapsedMs && sum.admitted > 0) {
      const part = Math.min(1, sum.completions / sum.admitted);
      this.#reported += (this.#isReportedKnown ? 1 / 4 : 1) * (part - this.#reported);
      this.#isReportedKnown = true;
    }
    // Slowly forgotten, so that a queue that was taken for a slower resource is found in the end.
    this.#clearedMs *= isUsed ? 1 : forgotten;
    // Who comes again only once served builds no queue that grows, and asks for no more than the resource serves.
    const isCrowded = (sum.admitted / seconds) * (nowMs / 1000) > mostAtOnce && !(nowMs < tolerance * this.#clearedMs);
    if (isOverloaded) this.#drain(queuedS);
    else if (this.#reason === 'measuring') this.#look(nowMs, risenMs, sum.elapsedMs, admittedPerSec);
    else if ((isQueueing && isUsed) || (isCrowded && !isUsed))
      this.#hold(nowMs, isUsed, risenMs / sum.elapsedMs, admittedPerSec, 2 / Math.sqrt(sum.completions));
    else this.#probe(isUsed, inflation <= ease || queuedS <= leastRise * seconds);
  }

  #drain(queuedS: number): void {
    const leftPerSec = this.#capacityPerSec * (1 - Math.min(mostDrain, queuedS / drainS));
    this.#settle(Math.min(this.#ratePerSec, leftPerSec), 'overloaded');
  }

  /**
   * @param beyond part of what is admitted that is not served: by that processing times grow, a second each second
   * @param chance part by which what is served may differ by chance
   */
  #hold(nowMs: number, isUsed: boolean, beyond: number, inUsePerSec: number, chance: number): void {
    this.#inUsePerSec += (inUsePerSec - this.#inUsePerSec) / (this.#held > 0 ? 2 : 1);
    if (this.#reason === 'overloaded') {
      // What is left for draining shows as well what is queue and what is a slower resource.
      const isDraining = -beyond > (1 - lookPart) / 2;
      const servedPerSec = isDraining ? this.#capacityPerSec : Math.min(this.#capacityPerSec, inUsePerSec);
      const lowPerSec = Math.min(this.#ratePerSec, lookPart * servedPerSec);
      this.#measure(nowMs, lowPerSec, afterQueue * this.#capacityPerSec, afterQueue * this.#capacityPerSec);
    } else if (++this.#held <= patience) {
      const cut = Math.max(leastCut, Math.min(mostCut, beyond));
      this.#settle(isUsed ? this.#ratePerSec * (1 - cut) : this.#ratePerSec, isUsed ? 'holding' : 'unused');
    } else {
      const inUse = Math.min(this.#ratePerSec, this.#inUsePerSec);
      // Below the limit this happens once, so it may cost what it takes to tell a queue from chance.
      const part = isUsed ? lookPart : 1 - Math.min(mostCut, Math.max(1 - lookPart, chance));
      this.#measure(nowMs, part * inUse, this.#ratePerSec, afterQueue * inUse);
      this.#lookPart = part;
    }
  }

  #measure(nowMs: number, ratePerSec: number, afterPerSec: number, drainedPerSec: number): void {
    this.#looks = 0;
    this.#flat = 0;
    this.#unmet = 0;
    this.#isLowered = false;
    this.#lookPart = lookPart;
    this.#measuredMs = nowMs;
    this.#afterPerSec = afterPerSec;
    this.#drainedPerSec = drainedPerSec;
    this.#settle(ratePerSec, 'measuring');
  }

  /** The lowered limit has held for a window; as long as processing times fall, there was a queue. */
  #look(nowMs: number, risenMs: number, elapsedMs: number, admittedPerSec: number): void {
    // What was saved before is spent first.
    if (admittedPerSec > this.#ratePerSec * (1 + leastRise) && ++this.#unmet <= mostUnmet) return;
    if (this.#looks === 0 && admittedPerSec < this.#ratePerSec * lookPart && !this.#isLowered) {
      // A limit that is not reached shows nothing.
      this.#isLowered = true;
      this.#settle(Math.max(this.#lookPart * admittedPerSec, this.#ratePerSec * (1 - mostCut)), 'measuring');
      return;
    }
    this.#looks++;
    const drainedMs = ((1 - this.#lookPart) * elapsedMs) / 2;
    const falls = -risenMs > Math.min(stillFalls * nowMs, drainedMs);
    this.#flat = falls ? 0 : this.#flat + 1;
    const wasQueue = this.#measuredMs - nowMs > this.#looks * drainedMs || nowMs < this.#measuredMs / tolerance;
    // That a resource became that much slower at once takes more evidence, at a limit that lies lower still.
    const isLikely = wasQueue || nowMs < tolerance ** 2 * this.#bestMs;
    if (this.#flat < (isLikely ? leastFlat : 2 * leastFlat) && this.#looks < mostLooks) {
      if (this.#flat >= leastFlat) this.#settle(lookPart * this.#ratePerSec, 'measuring');
      return;
    }
    this.#bestMs = nowMs;
    this.#clearedMs = nowMs;
    this.#held = 0;
    this.#settle(Math.max(this.#ratePerSec, wasQueue ? this.#drainedPerSec : this.#afterPerSec), 'probing');
  }

  #probe(isUsed: boolean, isAtEase: boolean): void {
    this.#held = Math.max(0, this.#held - 1);
    // The queue is drained, so what was kept free for that is to be had again.
    const ratePerSec =
      this.#reason === 'overloaded' ? Math.max(this.#ratePerSec, afterQueue * this.#capacityPerSec) : this.#ratePerSec;
    const rise = isAtEase ? this.#riseFrom(ratePerSec) : leastRise;
    this.#settle(isUsed ? ratePerSec * (1 + rise) : ratePerSec, isUsed ? 'probing' : 'unused');
    if (isUsed) this.#rise = rise;
  }

  /** Cautious near what the resource was last seen to serve, then faster and faster. */
  #riseFrom(ratePerSec: number): number {
    const part = ratePerSec / this.#capacityPerSec;
    if (part > 0.9 && part < 1.05) return leastRise;
    return Math.min(mostRise, Math.max(this.#rise, firstRise) * 2);
  }

  #settle(ratePerSec: number, reason: LimitReason): void {
    this.#ratePerSec = within(ratePerSec, this.#bounds);
    this.#reason = reason;
    this.#rise = leastRise;
  }
}

const within = (ratePerSec: number, { minPerSec, maxPerSec }: LimiterBounds): number =>
  Math.max(minPerSec, Math.min(maxPerSec, ratePerSec));

/** Nothing seen yet. */
export const emptySample = (): LimiterSample => ({
  elapsedMs: 0,
  admitted: 0,
  admittedTokens: 0,
  deniedTokens: 0,
  completions: 0,
  durationMs: 0,
});
