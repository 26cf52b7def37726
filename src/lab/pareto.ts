import type { ArmScore } from './score.js';

/** One setting of an arm's head-room, and what it costs and brings in the scored part. */
export interface ParetoPoint {
  /** Which setting: a factor on an estimate (`ewma5 x2`), or a quantile (`q0.9`). */
  variant: string;
  /** Tokens given to real targets and neither used nor lent, in multiples of the trace's mean demand. */
  withheld: number;
  /** The same ÷ (rate × scored time). */
  withheldFraction: number;
  throttledFraction: number;
  lawViolations: number;
}

/** What an arm throttles against what it withholds. */
export interface ParetoCurve {
  /** The settings that no other one of the arm beats at both, by growing `withheld`. */
  curve: ParetoPoint[];
  /** Settings tried. */
  tried: number;
  /**
   * Least throttled fraction at that many times the mean demand withheld: between two settings of the curve as far
   * as one would get by playing each for a part of the time; null where every setting withholds more.
   */
  throttledAtWithheld: Record<string, number | null>;
  /** Of all settings tried. */
  lawViolations: number;
}

/** Withheld capacity at which arms are compared, in multiples of the mean demand. */
export const comparedAtWithheld = [0.25, 0.5, 1] as const;

/** @param timesMean rate of the resource ÷ mean demand */
export const paretoPoint = (score: ArmScore, timesMean: number): ParetoPoint => ({
  variant: score.variant ?? '',
  withheld: score.withheldFraction * timesMean,
  withheldFraction: score.withheldFraction,
  throttledFraction: score.throttledFraction,
  lawViolations: score.lawViolations,
});

export function paretoCurve(points: readonly ParetoPoint[]): ParetoCurve {
  const sorted = [...points].sort(
    (a, b) => a.withheld - b.withheld || a.throttledFraction - b.throttledFraction || (a.variant < b.variant ? -1 : 1),
  );
  const curve: ParetoPoint[] = [];
  for (const point of sorted)
    if (curve.length === 0 || point.throttledFraction < curve.at(-1)!.throttledFraction) curve.push(point);
  return {
    curve,
    tried: points.length,
    throttledAtWithheld: Object.fromEntries(comparedAtWithheld.map((at) => [String(at), throttledAt(curve, at)])),
    lawViolations: points.reduce((sum, { lawViolations }) => sum + lawViolations, 0),
  };
}

/** @param curve by growing `withheld` and falling `throttledFraction` */
export function throttledAt(curve: readonly ParetoPoint[], withheld: number): number | null {
  const next = curve.findIndex((point) => point.withheld > withheld);
  if (next === 0 || curve.length === 0) return null;
  const below = curve[(next < 0 ? curve.length : next) - 1]!;
  if (next < 0) return below.throttledFraction;
  const above = curve[next]!;
  const part = (withheld - below.withheld) / (above.withheld - below.withheld);
  return below.throttledFraction + part * (above.throttledFraction - below.throttledFraction);
}
