/** A bin becomes at most so many requests: enough to look smooth within a step, few enough to replay. */
export const maxRequestsPerBin = 100;

/** The requests that bins were spread into, in time order; see `Trace`. */
export interface SpreadBins {
  timesMs: Float64Array;
  target: Uint32Array;
  op: Uint8Array;
  bytes: Float64Array;
  cost: Float64Array;
  requests: number;
  binMs: number;
}

/** Request i of n begins at i/n of its bin. `ranks[n][i]` orders these places among all n up to the maximum. */
function placeRanks(): { ranks: Uint16Array[]; places: number } {
  const fractions = new Set<number>();
  for (let n = 1; n <= maxRequestsPerBin; n++) for (let i = 0; i < n; i++) fractions.add(i / n);
  const sorted = [...fractions].sort((a, b) => a - b);
  // Equal fractions divide to the same double, so a map finds them.
  const rankOf = new Map(sorted.map((fraction, rank) => [fraction, rank]));
  const ranks = Array.from({ length: maxRequestsPerBin + 1 }, (_, n) =>
    Uint16Array.from({ length: n }, (_, i) => rankOf.get(i / n)!),
  );
  return { ranks, places: sorted.length };
}

/** Differences are exact to the traces' three decimals; the subtraction of two doubles is not. */
const toMicros = (ms: number): number => Math.round(ms * 1000) / 1000;

function smallestDifference(timesMs: Float64Array): number | undefined {
  let smallest = Number.POSITIVE_INFINITY;
  for (let row = 1; row < timesMs.length; row++) {
    const difference = toMicros(timesMs[row]! - timesMs[row - 1]!);
    if (difference > 0 && difference < smallest) smallest = difference;
  }
  return smallest === Number.POSITIVE_INFINITY ? undefined : smallest;
}

/**
 * Spreads bins into requests: bin k of count c becomes min(100, ⌈c⌉) requests at equal distances from
 * its beginning, each costing an equal part of c. Requests of the same moment stand in the order of
 * their rows.
 * @param timesMs beginnings of the bins, never decreasing
 * @param target per bin
 * @param count tokens per bin
 * @returns undefined if all bins begin at once: their length is not known then
 */
export function spreadBins(timesMs: Float64Array, target: Uint32Array, count: Float64Array): SpreadBins | undefined {
  const binMs = smallestDifference(timesMs);
  if (binMs === undefined) return undefined;
  const parts = Uint8Array.from(count, (tokens) => Math.min(maxRequestsPerBin, Math.ceil(tokens)));
  const requests = parts.reduce((sum, n) => sum + n, 0);
  const spread: SpreadBins = {
    timesMs: new Float64Array(requests),
    target: new Uint32Array(requests),
    op: new Uint8Array(requests),
    bytes: new Float64Array(requests),
    cost: new Float64Array(requests),
    requests,
    binMs,
  };
  // Whole microseconds, so that only the division rounds: what begins with a step begins with it to the last bit.
  const binUs = Math.round(binMs * 1000);
  const { ranks, places } = placeRanks();
  const nextAt = new Uint32Array(places + 1);
  let done = 0;
  // Bins of one moment are merged by a counting sort of their requests' places; bins of different
  // moments do not overlap, because no two are nearer than a bin.
  for (let from = 0; from < timesMs.length; ) {
    let to = from;
    while (to < timesMs.length && timesMs[to] === timesMs[from]) to += 1;
    nextAt.fill(0);
    for (let row = from; row < to; row++) {
      const rank = ranks[parts[row]!]!;
      for (let i = 0; i < rank.length; i++) nextAt[rank[i]! + 1]! += 1;
    }
    for (let place = 0; place < places; place++) nextAt[place + 1]! += nextAt[place]!;
    const base = done;
    for (let row = from; row < to; row++) {
      const n = parts[row]!;
      const rank = ranks[n]!;
      for (let i = 0; i < n; i++) {
        const at = base + nextAt[rank[i]!]!++;
        spread.timesMs[at] = timesMs[row]! + (binUs * i) / n / 1000;
        spread.target[at] = target[row]!;
        spread.cost[at] = count[row]! / n;
      }
      done += n;
    }
    from = to;
  }
  return spread;
}
