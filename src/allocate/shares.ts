/**
 * Weighted max-min shares: everyone gets what they want, or less if all cannot, and then nobody can get more
 * without someone of a smaller share per weight getting less (water-filling; Bertsekas & Gallager, Data
 * Networks, 6.5). Linear passes until no want lies below the water; each pass settles at least one.
 * @param wants what each would take, from 0
 * @param weights relative, above 0 where a want is
 * @param out receives the shares; never more than the want, together never more than `available`
 * @returns what is left
 */
export function maxMinShares(
  wants: Float64Array,
  weights: Float64Array,
  count: number,
  available: number,
  out: Float64Array,
): number {
  let left = Math.max(0, available);
  let openWeight = 0;
  for (let i = 0; i < count; i++) {
    out[i] = wants[i]! > 0 ? -1 : 0;
    if (wants[i]! > 0) openWeight += weights[i]!;
  }
  while (openWeight > 0) {
    const level = left / openWeight;
    let stillOpen = 0;
    let taken = 0;
    let settled = false;
    for (let i = 0; i < count; i++) {
      if (out[i]! >= 0) continue;
      if (wants[i]! > level * weights[i]!) {
        // Summed anew: taking a large weight off a sum would leave little of a small one.
        stillOpen += weights[i]!;
        continue;
      }
      out[i] = wants[i]!;
      taken += wants[i]!;
      settled = true;
    }
    if (!settled) {
      for (let i = 0; i < count; i++) if (out[i]! < 0) out[i] = level * weights[i]!;
      return 0;
    }
    left = Math.max(0, left - taken);
    openWeight = stillOpen;
  }
  for (let i = 0; i < count; i++) if (out[i]! < 0) out[i] = 0;
  return left;
}

/**
 * What each target may borrow until the next tick. Those who were short share what the reservoir has by
 * weight; whoever was not keeps a claim by weight on what they leave, so that a burst which begins between
 * two ticks is not denied while capacity is idle.
 * @param short tokens each wanted beyond its bucket in the last tick
 * @param growth wants are multiplied by this: a target that is short now may be shorter in the next tick
 */
export function borrowShares(
  short: Float64Array,
  weights: Float64Array,
  count: number,
  available: number,
  out: Float64Array,
  growth = 2,
): void {
  const wants = scratchFor(count);
  for (let i = 0; i < count; i++) wants[i] = short[i]! * growth;
  const left = maxMinShares(wants, weights, count, available, out);
  for (let i = 0; i < count; i++) {
    // The claims may add up to more than is there: the reservoir itself is the bound.
    if (weights[i]! > 0) out[i] = out[i]! + left;
  }
}

let scratch = new Float64Array(0);
function scratchFor(count: number): Float64Array {
  if (scratch.length < count) scratch = new Float64Array(count * 2);
  return scratch;
}
