import type { AllocatorName } from '../allocate/allocator.js';
import { allocatorNamed } from '../allocate/allocator.js';
import type { CreditBook } from '../allocate/credit.js';
import { entitle, withoutSurplus } from '../allocate/entitle.js';
import { commonQuantile, defaultThrottlingCost, Places, valueAt } from '../allocate/quantile.js';
import type { AllocationRules } from '../allocate/rules.js';
import { type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';

/** Everything a plan is made from. Arrays have one entry per slot; slot 0, the reservoir, is not planned for. */
export interface PlanInput {
  slots: number;
  live: Uint8Array;
  /** Rate each is owed whatever is forecast, tokens/s. */
  floorPerSec: Float64Array;
  weight: Float64Array;
  /** Tokens/s, Infinity: none. */
  limitPerSec: Float64Array;
  /** What denying each a token costs against keeping one idle for it; default `defaultThrottlingCost` each. */
  throttlingCost?: Float64Array | undefined;
  /** Least bucket of each, tokens. */
  leastBurst: number;
  /** What a request costs on average, tokens: with borrowing a bucket smaller than that is of no use. Default 0. */
  requestCost?: number;
  /** Undefined: no forecast, everyone counts as equal. Row i forecasts slot i. */
  frame?: ForecastFrame | undefined;
  /** Observed demand beyond the forecast, tokens/s, which the monitor found out. */
  extraPerSec?: Float64Array | undefined;
  /** Who asks for more than its share already, and would have spent a deposit at once. Default: nobody. */
  isGreedy?: ((slot: number) => boolean) | undefined;
  /** Who is to borrow whatever it asks for beyond what it is owed. Default: nobody. */
  mustBorrow?: ((slot: number) => boolean) | undefined;
  /** Tokens in each bucket now. */
  level: Float64Array;
  ratePerSec: number;
  burst: number;
  /** Burst that lies under deposits made earlier, tokens: it cannot be given out again. Default 0. */
  deposited?: number;
  stepMs: number;
  borrow: boolean;
  /**
   * Without borrowing: whether what nobody is expected to ask for stays in the reservoir, as with borrowing, instead
   * of being given out too. Default false.
   */
  keepsSurplus?: boolean | undefined;
  allocator: AllocatorName;
  /** What has been learnt about dividing; used by `proportional` where nothing can be lent. */
  rules?: AllocationRules | undefined;
  /** The accounts that `credit` goes by. */
  credits?: CreditBook | undefined;
}

export interface Plan {
  /** Rate and burst per slot, as the table's `allocate` takes them; slot 0 takes the rest. */
  pairs: Float64Array;
  /** Tokens to move into a bucket ahead of a burst, and for how long. */
  deposits: { slot: number; tokens: number; forMs: number }[];
  /** Probability with which each target's next step is covered. */
  probability: number;
  reasons: PlanReasons;
}

/** Why each slot got its rate: arrays by slot, 0 for slots that were not planned for. */
export interface PlanReasons {
  /** Probability with which its demand until the next step is to be covered. */
  quantile: Float64Array;
  /** Horizon of the forecast that this is taken from, ms; 0 without a forecast. */
  leadMs: Float64Array;
  /** What the allocator was told that it asks for, tokens/s. */
  demandPerSec: Float64Array;
}

const q90 = quantileLevels.indexOf(0.9);
/** With borrowing, this part of the burst is for the reservoir and for deposits out of it. */
const reservoirPart = 0.5;
/** Part of the burst that no deposit takes: a reservoir without burst cannot hold what flows back to it. */
const keptPart = 0.1;
/** Deposits may take this part of what the reservoir holds. */
const depositPart = 0.5;
/**
 * Keeping a token in a deposit costs this much more than in a rate: it is lent to nobody until it is used or expires.
 * At the default cost of throttling the 0.9 quantile is laid up.
 */
const depositCost = defaultThrottlingCost / 9;

/**
 * From forecasts to rates, bursts and deposits.
 *
 * With borrowing everyone is given a quantile of its own demand, set by the cost of throttling it against the cost
 * of withholding (the newsvendor ratio c / (1 + c)), as far as its share by weight reaches; what it leaves is lent
 * within a tick, so a high quantile costs the others little. Without it everything is allocated, and the demand
 * handed to the allocator is what makes every target's next step covered with the same probability, less what its
 * bucket holds already: the division with the least throttling to be expected (see `commonQuantile`).
 */
export function plan(input: PlanInput): Plan {
  const { slots, frame, level, ratePerSec, burst, borrow, requestCost = 0 } = input;
  const stepS = input.stepMs / 1000;
  const pairs = new Float64Array(slots * 2);
  const bySlot = () => new Float64Array(slots);
  const reasons: PlanReasons = { quantile: bySlot(), leadMs: bySlot(), demandPerSec: bySlot() };
  const rows = planned(input);
  const count = rows.length;
  if (count === 0) return { pairs, deposits: [], probability: 1, reasons };

  const at = frame ? horizonFor(frame, input.stepMs) : 0;
  const floor = new Float64Array(count);
  const costs = new Float64Array(count);
  const weights = new Float64Array(count);
  const limits = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const slot = rows[i]!;
    floor[i] = input.floorPerSec[slot]!;
    costs[i] = input.throttlingCost?.[slot] ?? defaultThrottlingCost;
    weights[i] = input.weight[slot]!;
    limits[i] = input.limitPerSec[slot]!;
  }
  const quantiles = quantilesOf(input, rows, at);
  const leastOfAll = Math.min(input.leastBurst, burst / count);
  const demand = new Float64Array(count);
  let burstShare: Float64Array | undefined;
  let probability = 1;
  const keepsSurplus = !borrow && (input.keepsSurplus ?? false);
  if (borrow || keepsSurplus) {
    const places = new Places();
    for (let i = 0; i < count; i++) {
      const covered = costs[i]! / (1 + costs[i]!);
      demand[i] = valueAt(quantiles, i * quantileCount, places.of(covered));
      // With borrowing what is held and not asked for is lent all the same; without it, it is as good as given.
      if (keepsSurplus) demand[i] = Math.max(0, demand[i]! - Math.max(0, level[rows[i]!]!));
      reasons.quantile[rows[i]!] = covered;
      if (covered < probability) probability = covered;
    }
  } else probability = divide();
  const leadMs = frame?.horizonsMs[at] ?? 0;
  for (let i = 0; i < count; i++) {
    demand[i]! /= stepS;
    reasons.demandPerSec[rows[i]!] = demand[i]!;
    reasons.leadMs[rows[i]!] = leadMs;
    if (!borrow && !keepsSurplus) reasons.quantile[rows[i]!] = probability;
  }
  const request = {
    demandPerSec: demand,
    floorPerSec: floor,
    weights,
    limits,
    ratePerSec,
    ...(input.credits && { accounts: { book: input.credits, slots: rows, seconds: stepS } }),
  };
  const kept = borrow ? entitle : keepsSurplus ? withoutSurplus : undefined;
  const rates = kept ? kept(input.allocator, request) : allocatorNamed(input.allocator)(request);

  // Room for what comes and, where nothing can be lent, for what is held, as far as it may be asked for: a bucket
  // that is full would else be cut for getting nothing. Burst that belongs to a rate which is kept is kept with it.
  const room = new Float64Array(count);
  const hasToBorrow = (i: number): boolean => borrow && input.mustBorrow?.(rows[i]!) === true;
  let wanted = 0;
  for (let i = 0; i < count; i++) {
    // What lies in the bucket of who has to borrow is always spent at once: it has room for what it is owed.
    if (borrow) room[i] = hasToBorrow(i) ? floor[i]! : rates[i]!;
    else {
      const mayNeed = quantiles[(i + 1) * quantileCount - 1]!;
      room[i] = rates[i]! + Math.min(Math.max(0, level[rows[i]!]!), mayNeed) / stepS;
    }
    wanted += room[i]!;
  }
  const spread = keepsSurplus ? Math.max(ratePerSec, wanted) : wanted;
  // Deposits come out of the reservoir's part alone: taken from the buckets' they would leave a target that
  // is owed its reservation without a bucket to collect it in.
  const free = Math.max(0, burst - (input.deposited ?? 0));
  const leastBurst = Math.min(input.leastBurst, free / count);
  const shared = Math.max(0, Math.min(burst * (borrow ? 1 - reservoirPart : 1), free) - leastBurst * count);
  for (let i = 0; i < count; i++) {
    const part = shared * (burstShare ? burstShare[i]! : spread > 0 ? room[i]! / spread : borrow ? 0 : 1 / count);
    // A bucket larger than a step fills would lie empty, while the reservoir is filled for everyone.
    const own = leastBurst + (borrow ? Math.min(part, room[i]! * Math.max(1, stepS)) : part);
    // What lies in a bucket that cannot hold a request is lost to everyone until it overflows.
    if (borrow && floor[i] === 0 && own < requestCost) continue;
    pairs[rows[i]! * 2] = rates[i]!;
    pairs[rows[i]! * 2 + 1] = own;
  }
  return { pairs, deposits: deposits(input, rows, costs, rates, pairs), probability, reasons };

  /** Fills `demand` with what each is to be counted with where nothing can be lent, tokens a step. */
  function divide(): number {
    const held = new Float64Array(count);
    const least = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      held[i] = Math.max(0, level[rows[i]!]!);
      least[i] = floor[i]! * stepS;
    }
    const gifts = new Float64Array(count);
    const budget = ratePerSec * stepS;
    const common = commonQuantile(
      { rows: count, quantiles, stride: quantileCount, offset: 0, held, least, budget, costs },
      gifts,
    );
    // Under overload the common quantile gives most to whoever asks for most, which is what `proportional` is
    // for; the others are to see what everyone would need, and cut the greedy themselves.
    for (let i = 0; i < count; i++) {
      const need = quantiles[i * quantileCount + q90]! - held[i]!;
      demand[i] = input.allocator === 'proportional' ? gifts[i]! : Math.max(gifts[i]!, need);
    }
    if (input.rules && learnsRules(input)) {
      const division = { slots: rows, quantiles, common: gifts, held, floor: least, budget, stepS };
      const divided = input.rules.divide({ ...division, leastBurst: leastOfAll, burst });
      demand.set(divided.demand);
      burstShare = divided.burstShare;
    }
    return common;
  }
}

/** The slots that are planned for, ascending. */
function planned({ slots, live }: PlanInput): Int32Array {
  const rows = new Int32Array(slots);
  let count = 0;
  for (let slot = 1; slot < slots; slot++) if (live[slot]) rows[count++] = slot;
  return rows.subarray(0, count);
}

/** Of each row's demand in the step, what it was seen to ask for beyond its forecast included, tokens. */
function quantilesOf({ frame, extraPerSec, stepMs }: PlanInput, rows: Int32Array, horizon: number): Float64Array {
  const stepS = stepMs / 1000;
  const stride = (frame?.horizonsMs.length ?? 1) * quantileCount;
  const quantiles = new Float64Array(rows.length * quantileCount);
  for (let i = 0; i < rows.length; i++) {
    const slot = rows[i]!;
    const extra = extraPerSec?.[slot] ?? 0;
    const isForecast = frame !== undefined && slot < frame.rows;
    const from = slot * stride + horizon * quantileCount;
    const to = i * quantileCount;
    for (let q = 0; q < quantileCount; q++)
      quantiles[to + q] = ((isForecast ? frame.quantiles[from + q]! : 0) + extra) * stepS;
  }
  return quantiles;
}

/**
 * Where nothing can be lent, how to divide is the whole question, and it is learnt. With borrowing the
 * reservoir makes good what a division got wrong.
 */
export const learnsRules = ({ borrow, allocator }: Pick<PlanInput, 'borrow' | 'allocator'>): boolean =>
  !borrow && allocator === 'proportional';

/** Tokens that deposits may still take from a reservoir of so much burst. */
export const depositRoom = (reservoirBurst: number, burst: number): number =>
  Math.max(0, reservoirBurst - keptPart * burst);

/** The shortest horizon that reaches to the end of the next step. */
export function horizonFor(frame: Pick<ForecastFrame, 'horizonsMs'>, stepMs: number): number {
  const index = frame.horizonsMs.findIndex((horizon) => horizon >= stepMs);
  return index < 0 ? frame.horizonsMs.length - 1 : index;
}

/** The longest horizon of at most so many milliseconds, or else the shortest there is. */
export const horizonUpTo = (frame: Pick<ForecastFrame, 'horizonsMs'>, mostMs: number): number =>
  Math.max(
    0,
    frame.horizonsMs.findLastIndex((horizon) => horizon <= mostMs),
  );

/**
 * What targets are forecast to need beyond their level and rate, from what the reservoir will hold once the plan is
 * published, in proportion when it cannot serve all. Each has the horizon that asks for most: a token laid up for
 * longer costs as much more as it lies longer, so at a later horizon less of the demand is worth covering, and
 * who is dearer to throttle is provided for earlier.
 */
function deposits(
  input: PlanInput,
  rows: Int32Array,
  costs: Float64Array,
  rates: Float64Array,
  pairs: Float64Array,
): Plan['deposits'] {
  const { frame, level } = input;
  // Without borrowing all burst lies in the buckets already: there is no bank to move it from.
  if (!frame || !input.borrow) return [];
  // Beside greedy neighbours a stock is kept for all the others: a deposit would tie it to one of them.
  if (rows.some((slot) => input.mustBorrow?.(slot))) return [];
  const { horizonsMs, quantiles } = frame;
  const nearest = horizonFor(frame, input.stepMs);
  const stride = horizonsMs.length * quantileCount;
  const places = horizonsMs.map(() => new Places());
  let available = Math.max(0, level[0]!);
  let reservoirBurst = input.burst - (input.deposited ?? 0);
  const found: Plan['deposits'] = [];
  let wanted = 0;
  for (let i = 0; i < rows.length; i++) {
    const slot = rows[i]!;
    const own = pairs[slot * 2 + 1]!;
    available += Math.max(0, level[slot]! - own);
    reservoirBurst -= own;
    if (slot >= frame.rows) continue;
    const held = Math.min(level[slot]!, own);
    let most = 0;
    let forMs = 0;
    for (let at = nearest; at < horizonsMs.length; at++) {
      const cost = ((costs[i]! / depositCost) * horizonsMs[nearest]!) / horizonsMs[at]!;
      const place = places[at]!.of(cost / (1 + cost));
      const perSec = valueAt(quantiles, slot * stride + at * quantileCount, place);
      const tokens = (perSec - rates[i]!) * (horizonsMs[at]! / 1000) - held;
      if (tokens <= most) continue;
      most = tokens;
      forMs = horizonsMs[at]! + input.stepMs;
    }
    if (most <= 0 || input.isGreedy?.(slot)) continue;
    found.push({ slot, tokens: most, forMs });
    wanted += most;
  }
  const affordable = Math.min(available * depositPart, depositRoom(reservoirBurst, input.burst));
  const scale = Math.min(1, affordable / wanted);
  for (const deposit of found) deposit.tokens *= scale;
  return found.filter(({ slot, tokens }) => tokens > 0 && level[slot]! + tokens >= (input.requestCost ?? 0));
}
