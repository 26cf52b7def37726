import { quantileAt } from '../allocate/quantile.js';
import { type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';
import { grown } from '../grown.js';

/**
 * Whether a target is planned for by its forecasts: not yet, since too little came of them; yes; not any more, or not at
 * all, since they cost clearly more than a reactive estimate would have.
 */
export const verdicts = ['learning', 'trusted', 'distrusted'] as const;
export type Verdict = (typeof verdicts)[number];

/** What a target's trust rests on; plain data that outlives the process. */
export interface TrustRecord {
  verdict: Verdict;
  /** Spans that said something, while learning. */
  outcomes: number;
  /** Logarithms of the evidence that forecasts cost more than the reactive estimate, and that they cost less. */
  against: number;
  inFavour: number;
  /** What is usual of both costs together, tokens/s. */
  usualPerSec: number;
  /** The reactive estimate, tokens/s. */
  meanPerSec: number;
  deviationPerSec: number;
}

/** Evidence of all targets together. */
export type PooledTrust = Pick<TrustRecord, 'against' | 'inFavour' | 'usualPerSec'>;

/** Outcomes before a target is trusted: of its own accord, and where forecasts have proved themselves for all together. */
const leastOutcomes = 6;
const fewOutcomes = 2;
/**
 * Evidence of 200 to 1. Where forecasts are as good as the reactive estimate or better, a target is distrusted by chance
 * once in 200 outcomes at most, on average; where they are as bad or worse, trusted again as rarely.
 */
const enoughEvidence = Math.log(200);
/** Part of the evidence staked on each outcome. */
const stake = 0.5;
/** An outcome counts at most as one in which costs differ by so many times what is usual. */
const mostTimesUsual = 2;
/** Gains of the averages: of the demand, per step; of its deviation and of what costs are usual, per outcome. */
const meanGain = 1 / 4;
const deviationGain = 1 / 4;
const usualGain = 1 / 10;

/** Of a Laplace distribution, how far a quantile lies above the mean, in mean absolute deviations. */
const spreadAt = (probability: number): number =>
  probability < 0.5 ? Math.log(2 * probability) : -Math.log(2 * (1 - probability));
const spreads = quantileLevels.map(spreadAt);

const columns = [
  'outcomes',
  'against',
  'inFavour',
  'usual',
  'mean',
  'deviation',
  // Of the span under way: what each would have planned, the mean when it began, tokens since.
  'forecast',
  'reactive',
  'since',
  'total',
] as const;
type Column = (typeof columns)[number];

/**
 * Finds out for which targets forecasts pay. Until it is known, and where they do not, a reactive estimate stands in for
 * them: a moving average of what the target asked for, and around it as many of its mean absolute deviations as a quantile
 * takes (as retransmission timers do; Jacobson, 1988).
 *
 * Span by span, as long as the shortest horizon that a plan needs, both are charged with what they would have cost: the
 * target's cost of throttling for every token that the planned quantile was short of, 1 for every token beyond (the
 * newsvendor's cost). Differences, in units of what is usual for the target, are bets for and against the forecasts
 * (testing by betting): evidence is multiplied by 1 ± stake × difference, never falls below 1, and decides at 200. So an
 * undecided target stays as it is, and changes of mind are rare by construction: the mean time between false ones is at
 * least 200 outcomes.
 */
export class TrustBook {
  readonly #stepS: number;
  #size = 0;
  #verdict = new Uint8Array(0);
  #seen = new Uint8Array(0);
  /** Whether the span under way is one of the slot's. */
  #held = new Uint8Array(0);
  readonly #columns = Object.fromEntries(columns.map((name) => [name, new Float64Array(0)])) as Record<
    Column,
    Float64Array<ArrayBuffer>
  >;
  readonly #pooled: PooledTrust = { against: 0, inFavour: 0, usualPerSec: 0 };
  /** Steps of the span under way. */
  #steps = 0;
  #spanSteps = 0;
  #gated: ForecastFrame | undefined;

  constructor(stepMs: number) {
    this.#stepS = stepMs / 1000;
  }

  /** Index into `verdicts`. */
  verdictAt(slot: number): number {
    return this.#verdict[slot] ?? 0;
  }

  /**
   * Takes in what was asked for in the steps that ended, and the forecasts made at their end.
   * @param demand tokens a step, by slot
   * @param horizon index into the frame's horizons of the one that is planned with
   * @param costs of throttling, by slot
   */
  observe(
    demand: ArrayLike<number>,
    slots: number,
    steps: number,
    frame: ForecastFrame,
    horizon: number,
    costs: ArrayLike<number>,
  ): void {
    this.#grow(slots);
    const { mean, deviation, total } = this.#columns;
    const gain = 1 - (1 - meanGain) ** steps;
    for (let slot = 1; slot < slots; slot++) {
      const tokens = demand[slot]!;
      const perSec = tokens / this.#stepS;
      if (this.#seen[slot]) mean[slot]! += gain * (perSec - mean[slot]!);
      else if (tokens > 0) {
        this.#seen[slot] = 1;
        mean[slot] = perSec;
        // Of one sample its half stands for the deviation, as of a first round trip.
        deviation[slot] = perSec / 2;
      } else continue;
      total[slot]! += tokens * steps;
    }
    this.#steps += steps;
    if (this.#steps < this.#spanSteps) return;
    this.#score(costs);
    this.#spanSteps = Math.max(1, Math.round(frame.horizonsMs[horizon]! / 1000 / this.#stepS));
    this.#hold(Math.min(slots, frame.rows), frame, horizon, costs);
  }

  /** What is to be planned with: the frame itself, or a copy in which the reactive estimate stands in. */
  gate(frame: ForecastFrame): ForecastFrame {
    const rows = Math.min(frame.rows, this.#size);
    const stride = frame.horizonsMs.length * quantileCount;
    const { mean, deviation } = this.#columns;
    let gated: ForecastFrame | undefined;
    for (let slot = 1; slot < rows; slot++) {
      if (!this.#seen[slot] || verdicts[this.#verdict[slot]!] === 'trusted') continue;
      gated ??= this.#copy(frame);
      for (let at = slot * stride; at < (slot + 1) * stride; at++)
        gated.quantiles[at] = Math.max(0, mean[slot]! + spreads[at % quantileCount]! * deviation[slot]!);
    }
    return gated ?? frame;
  }

  /** Forgets a slot, because it was given to another target. */
  reset(slot: number): void {
    if (slot >= this.#size) return;
    this.#verdict[slot] = this.#seen[slot] = this.#held[slot] = 0;
    for (const column of Object.values(this.#columns)) column[slot] = 0;
  }

  /** Undefined for a slot that never asked for anything. */
  record(slot: number): TrustRecord | undefined {
    if (!this.#seen[slot]) return undefined;
    const c = this.#columns;
    return {
      verdict: verdicts[this.#verdict[slot]!]!,
      outcomes: c.outcomes[slot]!,
      against: c.against[slot]!,
      inFavour: c.inFavour[slot]!,
      usualPerSec: c.usual[slot]!,
      meanPerSec: c.mean[slot]!,
      deviationPerSec: c.deviation[slot]!,
    };
  }

  /** Takes a target up from where it was. */
  restore(slot: number, record: TrustRecord): void {
    this.#grow(slot + 1);
    this.reset(slot);
    this.#seen[slot] = 1;
    this.#verdict[slot] = verdicts.indexOf(record.verdict);
    const c = this.#columns;
    c.outcomes[slot] = record.outcomes;
    c.against[slot] = record.against;
    c.inFavour[slot] = record.inFavour;
    c.usual[slot] = record.usualPerSec;
    c.mean[slot] = record.meanPerSec;
    c.deviation[slot] = record.deviationPerSec;
  }

  recordPooled(): PooledTrust {
    return { ...this.#pooled };
  }

  restorePooled(pooled: PooledTrust): void {
    Object.assign(this.#pooled, pooled);
  }

  #hold(rows: number, frame: ForecastFrame, horizon: number, costs: ArrayLike<number>): void {
    this.#steps = 0;
    const { mean, deviation, forecast, reactive, total } = this.#columns;
    const stride = frame.horizonsMs.length * quantileCount;
    for (let slot = 1; slot < rows; slot++) {
      this.#held[slot] = this.#seen[slot]!;
      if (!this.#seen[slot]) continue;
      const covered = costs[slot]! / (1 + costs[slot]!);
      forecast[slot] = quantileAt(frame.quantiles, slot * stride + horizon * quantileCount, covered);
      reactive[slot] = Math.max(0, mean[slot]! + spreadAt(covered) * deviation[slot]!);
      this.#columns.since[slot] = mean[slot]!;
      total[slot] = 0;
    }
  }

  #score(costs: ArrayLike<number>): void {
    const { outcomes, usual, deviation, forecast, reactive, since, total } = this.#columns;
    const { against, inFavour } = this.#columns;
    const seconds = this.#steps * this.#stepS;
    let [pooledDifference, pooledSum] = [0, 0];
    for (let slot = 1; slot < this.#size; slot++) {
      if (!this.#held[slot]) continue;
      const actual = total[slot]! / seconds;
      deviation[slot]! += deviationGain * (Math.abs(actual - since[slot]!) - deviation[slot]!);
      const byForecast = costOf(actual, forecast[slot]!, costs[slot]!);
      const byReactive = costOf(actual, reactive[slot]!, costs[slot]!);
      const difference = byForecast - byReactive;
      const sum = byForecast + byReactive;
      // Silence that both expected tells nothing.
      if (actual === 0 && sum <= usual[slot]! / 100) continue;
      pooledDifference += difference;
      pooledSum += sum;
      outcomes[slot]!++;
      const bet = stake * betOf(difference, sum, usual[slot]!);
      against[slot] = Math.max(0, against[slot]! + Math.log1p(bet));
      inFavour[slot] = Math.max(0, inFavour[slot]! + Math.log1p(-bet));
      usual[slot] = nextUsual(usual[slot]!, sum);
      this.#judge(slot);
    }
    if (pooledSum === 0) return;
    const pooled = this.#pooled;
    const bet = stake * betOf(pooledDifference, pooledSum, pooled.usualPerSec);
    pooled.against = Math.max(0, pooled.against + Math.log1p(bet));
    pooled.inFavour = Math.max(0, pooled.inFavour + Math.log1p(-bet));
    pooled.usualPerSec = nextUsual(pooled.usualPerSec, pooledSum);
  }

  #judge(slot: number): void {
    const { outcomes, against, inFavour } = this.#columns;
    const decide = (verdict: Verdict): void => {
      this.#verdict[slot] = verdicts.indexOf(verdict);
      against[slot] = inFavour[slot] = 0;
    };
    if (against[slot]! >= enoughEvidence) decide('distrusted');
    else if (inFavour[slot]! >= enoughEvidence) decide('trusted');
    else if (verdicts[this.#verdict[slot]!] === 'learning') {
      const { against: allAgainst, inFavour: allInFavour } = this.#pooled;
      const needed = allInFavour >= enoughEvidence ? fewOutcomes : leastOutcomes;
      // What speaks against forecasts elsewhere leaves it to the target's own evidence.
      if (outcomes[slot]! >= needed && against[slot]! <= inFavour[slot]! + 1 && allAgainst < enoughEvidence)
        this.#verdict[slot] = verdicts.indexOf('trusted');
    }
  }

  #copy(frame: ForecastFrame): ForecastFrame {
    let quantiles = this.#gated?.quantiles;
    if (quantiles?.length !== frame.quantiles.length) quantiles = new Float32Array(frame.quantiles.length);
    const used = frame.rows * frame.horizonsMs.length * quantileCount;
    quantiles.set(frame.quantiles.subarray(0, used));
    this.#gated = { ...frame, quantiles };
    return this.#gated;
  }

  #grow(slots: number): void {
    if (slots <= this.#size) return;
    this.#size = Math.max(64, slots * 2);
    this.#verdict = grown(this.#verdict, this.#size);
    this.#seen = grown(this.#seen, this.#size);
    this.#held = grown(this.#held, this.#size);
    for (const name of columns) this.#columns[name] = grown(this.#columns[name], this.#size);
  }
}

/** Of having planned for so much, tokens/s: idle ones count 1, missing ones the cost of throttling. */
const costOf = (actual: number, planned: number, throttlingCost: number): number =>
  actual > planned ? throttlingCost * (actual - planned) : planned - actual;

/** Between -1 and 1. The yardstick is known before the outcome, else a bet would not be fair; the first has none. */
function betOf(difference: number, sum: number, usual: number): number {
  if (usual === 0) return sum > 0 ? difference / (mostTimesUsual * sum) : 0;
  return Math.max(-1, Math.min(1, difference / (mostTimesUsual * usual)));
}

const nextUsual = (usual: number, sum: number): number => (usual === 0 ? sum : usual + usualGain * (sum - usual));
