import { maxMinShares } from '../allocate/shares.js';
import type { Monitor, TickView } from './monitor.js';

export interface Correction {
  slot: number;
  /**
   * Tokens to add from the reservoir, 0 where it has none left: the rate can follow all the same. Negative: take
   * back what is left of its deposit.
   */
  tokens: number;
}

export interface AdjusterOptions {
  /** Most that one tick may add to one target, part of the resource's burst. Default 0.1. */
  boundFraction: number;
}

export const adjusterDefaults: AdjusterOptions = { boundFraction: 0.1 };

/**
 * Judges the monitor's deviations: whoever runs over its forecast and is short gets tokens now, whoever runs
 * under it gives its deposit back. Bounded per tick and target, and by what the reservoir has; a sum that led
 * to a correction starts anew, so the next one needs new evidence and an echo is not answered.
 *
 * What the reservoir cannot serve in full is shared by weight, max-min: whoever is over by most must not get
 * most for it.
 * @param weights per slot; default all equal
 * @param isGreedy whether a slot asks for more than its fair share: what it is given would be gone at once, and the
 *   burst under it would lie idle, so it has to borrow; default: nobody is
 */
export function correct(
  monitor: Monitor,
  view: TickView,
  levels: { level: (slot: number) => number; deposit: (slot: number) => number },
  reservoirTokens: number,
  burst: number,
  meanCost: number,
  options: AdjusterOptions = adjusterDefaults,
  weights?: Float64Array,
  isGreedy: (slot: number) => boolean = () => false,
): Correction[] {
  const bound = options.boundFraction * burst;
  const corrections: Correction[] = [];
  let wanted = 0;
  let returning = 0;
  for (let i = 1; i < view.slots; i++) {
    const deviation = monitor.deviation(i, view, meanCost);
    if (deviation > 0) {
      const short = view.denied[i]! > 0 || view.borrowed[i]! > 0 || levels.level(i) < view.demand[i]!;
      if (short && !isGreedy(i)) {
        const tokens = Math.min(bound, monitor.over[i]!);
        corrections.push({ slot: i, tokens });
        wanted += tokens;
      }
      monitor.over[i] = 0;
    } else if (deviation < 0) {
      if (levels.deposit(i) > 0) {
        corrections.push({ slot: i, tokens: -levels.deposit(i) });
        returning += levels.deposit(i);
      }
      monitor.under[i] = 0;
    }
  }
  const available = Math.max(0, reservoirTokens) + returning;
  if (wanted > available) {
    const wants = corrections.map(({ tokens }) => Math.max(0, tokens));
    const shares = new Float64Array(wants.length);
    const weightOf = ({ slot }: Correction) => weights?.[slot] ?? 1;
    maxMinShares(Float64Array.from(wants), Float64Array.from(corrections, weightOf), wants.length, available, shares);
    corrections.forEach((correction, i) => {
      if (correction.tokens > 0) correction.tokens = shares[i]!;
    });
  }
  // Those who give come first, so that what they give can be handed on.
  return corrections.sort((a, b) => Math.sign(a.tokens) - Math.sign(b.tokens));
}
