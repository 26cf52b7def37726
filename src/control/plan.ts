import type { AllocatorName } from '../allocate/allocator.js';
import { allocatorNamed } from '../allocate/allocator.js';
import { commonQuantile } from '../allocate/quantile.js';
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
  /** Least bucket of each, tokens. */
  leastBurst: number;
  /** Undefined: no forecast, everyone counts as equal. Row i forecasts slot i. */
  frame?: ForecastFrame | undefined;
  /** Observed demand beyond the forecast, tokens/s, which the monitor found out. */
  extraPerSec?: Float64Array | undefined;
  /** Tokens in each bucket now. */
  level: Float64Array;
  ratePerSec: number;
  burst: number;
  stepMs: number;
  borrow: boolean;
  allocator: AllocatorName;
}

export interface Plan {
  /** Rate and burst per slot, as the table's `allocate` takes them; slot 0 takes the rest. */
  pairs: Float64Array;
  /** Tokens to move into a bucket ahead of a burst, and for how long. */
  deposits: { slot: number; tokens: number; forMs: number }[];
  /** Probability with which each target's next step is covered. */
  probability: number;
}

const q90 = quantileLevels.indexOf(0.9);
/** With borrowing, this part of the burst stays in the reservoir for whoever is short. */
const reservoirPart = 0.5;
/** A deposit may take this part of what the reservoir holds; without borrowing nobody else could use it. */
const depositPart = (borrow: boolean): number => (borrow ? 0.5 : 1);

/**
 * From forecasts to rates, bursts and deposits. The demand handed to the allocator is what makes every
 * target's next step covered with the same probability, less what its bucket holds already; that is the
 * division with the least throttling to be expected (see `commonQuantile`).
 *
 * Without borrowing everything is allocated. With it, nobody gets more than the 0.9 quantile of its demand:
 * what is left serves whoever turns out to be short.
 */
export function plan(input: PlanInput): Plan {
  const { slots, live, frame, ratePerSec, burst, borrow } = input;
  const stepS = input.stepMs / 1000;
  const rows: number[] = [];
  for (let slot = 1; slot < slots; slot++) if (live[slot]) rows.push(slot);
  const count = rows.length;
  const pairs = new Float64Array(slots * 2);
  if (count === 0) return { pairs, deposits: [], probability: 1 };

  const at = frame ? horizonFor(frame, input.stepMs) : 0;
  const stride = (frame?.horizonsMs.length ?? 1) * quantileCount;
  const quantiles = new Float64Array(count * quantileCount);
  const held = new Float64Array(count);
  const least = new Float64Array(count);
  const floor = new Float64Array(count);
  rows.forEach((slot, i) => {
    floor[i] = input.floorPerSec[slot]!;
    least[i] = floor[i]! * stepS;
    held[i] = input.level[slot]!;
    const extra = input.extraPerSec?.[slot] ?? 0;
    for (let q = 0; q < quantileCount; q++) {
      const forecast = frame && slot < frame.rows ? frame.quantiles[slot * stride + at * quantileCount + q]! : 0;
      quantiles[i * quantileCount + q] = (forecast + extra) * stepS;
    }
  });
  const gifts = new Float64Array(count);
  const probability = commonQuantile(
    { rows: count, quantiles, stride: quantileCount, offset: 0, held, least, budget: ratePerSec * stepS },
    gifts,
  );
  // Under overload the common quantile gives most to whoever asks for most, which is what `proportional` is
  // for; `max-min` is to see what everyone would need, and cuts the greedy itself.
  const demand = gifts.map((gift, i) => {
    const need = quantiles[i * quantileCount + q90]!;
    const wanted = input.allocator === 'max-min' ? Math.max(gift, need - Math.max(0, held[i]!)) : gift;
    return (borrow ? Math.min(wanted, need) : wanted) / stepS;
  });
  const weights = Float64Array.from(rows, (slot) => input.weight[slot]!);
  const limits = Float64Array.from(rows, (slot) => input.limitPerSec[slot]!);
  let rates = allocatorNamed(input.allocator)({
    demandPerSec: demand,
    floorPerSec: floor,
    weights,
    limits,
    ratePerSec,
  });
  if (borrow) rates = rates.map((rate, i) => Math.max(floor[i]!, Math.min(rate, demand[i]!)));

  const spread = rates.reduce((a, b) => a + b, 0);
  const leastBurst = Math.min(input.leastBurst, burst / count);
  const shared = Math.max(0, burst - leastBurst * count) * (borrow ? 1 - reservoirPart : 1);
  rows.forEach((slot, i) => {
    pairs[slot * 2] = rates[i]!;
    pairs[slot * 2 + 1] = leastBurst + (spread > 0 ? (shared * rates[i]!) / spread : shared / count);
  });
  return { pairs, deposits: deposits(input, rows, rates, pairs), probability };
}

/** The shortest horizon that reaches to the end of the next step. */
function horizonFor(frame: ForecastFrame, stepMs: number): number {
  const index = frame.horizonsMs.findIndex((horizon) => horizon >= stepMs);
  return index < 0 ? frame.horizonsMs.length - 1 : index;
}

/**
 * What targets are forecast to need within the shortest horizon beyond their level and rate, from what the
 * reservoir will hold once the plan is published, in proportion when it cannot serve all.
 */
function deposits(input: PlanInput, rows: number[], rates: Float64Array, pairs: Float64Array): Plan['deposits'] {
  const { frame } = input;
  if (!frame) return [];
  const at = horizonFor(frame, input.stepMs);
  const horizonS = frame.horizonsMs[at]! / 1000;
  const stride = frame.horizonsMs.length * quantileCount;
  let available = Math.max(0, input.level[0]!);
  const found: Plan['deposits'] = [];
  let wanted = 0;
  rows.forEach((slot, i) => {
    available += Math.max(0, input.level[slot]! - pairs[slot * 2 + 1]!);
    if (slot >= frame.rows) return;
    const need = frame.quantiles[slot * stride + at * quantileCount + q90]! * horizonS;
    const tokens = need - Math.min(input.level[slot]!, pairs[slot * 2 + 1]!) - rates[i]! * horizonS;
    if (tokens <= 0) return;
    found.push({ slot, tokens, forMs: frame.horizonsMs[at]! + input.stepMs });
    wanted += tokens;
  });
  const scale = Math.min(1, (available * depositPart(input.borrow)) / wanted);
  for (const deposit of found) deposit.tokens *= scale;
  return found.filter((deposit) => deposit.tokens > 0);
}
