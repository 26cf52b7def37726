import { autocorrelate } from './autocorrelation.js';
import type { StateWalk } from './state-walk.js';

/** Raised whenever the features change meaning, order or number: weights fit one version only. */
export const featureVersion = 2;

/** EWMA spans, steps. */
const spans = [2, 5, 10, 30, 100, 300, 1000] as const;
const alphas = spans.map((span) => 2 / (span + 1));
/** Demand is measured against the EWMA of this index, or a part of the slowest if that is more. */
const scaleSpan = 5;
const scaleFloor = 0.02;

/** Logarithms of ratios bottom out here: a fiftieth of the scale is as good as nothing. */
const ratioFloor = 0.02;

/** Without demand for so many steps a row is forgotten; until its next demand it costs nothing. */
export const forgetAfterSteps = 1024;

/** Steps of demand kept per row for finding its period, and how often a row is searched for it. */
const ringSize = 256;
/** The ring's size is a power of two: a remainder by it is a mask, where a remainder of floats costs 20 ns. */
const ringMask = ringSize - 1;
const searchEvery = 64;
const minPeriod = 3;
const maxPeriod = ringSize / 2;
/** Below this autocorrelation there is no period to speak of. */
const minCorrelation = 0.15;
/** Pairs of EWMAs (indices) whose distance is followed, and the index of the span it is averaged over. */
const wanders = [
  [2, 4, 4],
  [3, 5, 5],
  [4, 6, 6],
] as const;

/** Spans ahead, steps, over which the last periods and the clock of bursts are averaged. */
const seasonSpans = [1, 5, 30] as const;

/** Fields of a row's state, float32 each. */
const field = {
  seen: 0,
  ewma: 1,
  dev30: 8,
  dev300: 9,
  active: 10,
  sinceActive: 11,
  sinceBurst: 12,
  interval: 13,
  intervalDev: 14,
  bursts: 15,
  previous: 16,
  peak: 17,
  burstSize: 18,
  period: 19,
  correlation: 20,
  last: 21,
  /** Demand since the last burst began, and of a whole interval from burst to burst. */
  volume: 22,
  intervalVolume: 23,
  /** Three mean distances between a fast and a slow EWMA: how far the level itself wanders. */
  wander: 24,
} as const;
const fields = 27;

/** What each feature says, in order. Log ratios are of demand over the row's scale, plus a fiftieth. */
export const featureMeanings: readonly string[] = [
  'log ratio of the last step',
  'log ratio of the step before it',
  ...spans.map((span) => `log ratio of the EWMA of span ${span}`),
  'log ratio of the mean deviation from the EWMA of span 30, averaged over 30 steps',
  'the same, averaged over 300 steps',
  'log ratio of the recent peak, which decays with span 100',
  'log ratio of the usual demand of a burst step',
  'part of recent steps with demand',
  'log of the steps since the last demand',
  'log of the steps since the last burst step; a burst is demand above the EWMA of span 300 plus twice its deviation',
  'log of the mean interval between bursts',
  'time since the last burst over that interval, at most 2',
  'log of what is left of the interval',
  'deviation of the interval over the interval; 1 until three bursts were seen',
  'log of the steps the row was seen',
  'log of the period found by autocorrelation; 0 if none',
  'autocorrelation at the period',
  ...seasonSpans.map((span) => `log ratio of the mean over the next ${span} steps if the last two periods repeat`),
  ...seasonSpans.map((span) => `log ratio of the mean over the next ${span} steps if bursts keep their interval`),
  ...wanders.map(
    ([fast, slow]) => `log ratio of the mean distance between the EWMAs of span ${spans[fast]} and ${spans[slow]}`,
  ),
  'log ratio of the last step of all rows together, over their EWMA of span 300',
  'the same of their EWMA of span 5',
  'the same of their EWMA of span 30',
];

/** Features per row. */
export const featureCount: number = featureMeanings.length;

/** Index of the EWMA of span 30 among the features. */
export const ewmaFeature = 5;

/** Float32 counts exactly up to twice this; a multiple of the ring, so that falling back to half of it keeps the order. */
const maxSeen = 2 ** 23;

/** Fields of the state shared by all rows: EWMAs of the total demand. */
const totalSpans = [5, 30, 300] as const;
const totalFields = totalSpans.length + 1;

/**
 * Turns streams of demand, one per row, into features that are free of scale: the same for 0.1 and for a
 * million a step, for requests and for bytes, for any length of step. Learning and forecasting run the same
 * code. The state is plain float32, in shared memory if `buffer` is, so that it outlives the thread
 * that works on it.
 */
export class FeatureBank {
  readonly rows: number;
  readonly #state: Float32Array;
  readonly #ring: Float32Array;
  readonly #total: Float32Array;
  readonly #season = new Float32Array(seasonSpans.length);
  readonly #clock = new Float64Array(seasonSpans.length);
  readonly #totalFeatures = new Float32Array(3);

  static byteLength(rows: number): number {
    return 4 * (totalFields + rows * (fields + ringSize));
  }

  constructor(rows: number, buffer: ArrayBufferLike = new ArrayBuffer(FeatureBank.byteLength(rows))) {
    this.rows = rows;
    this.#total = new Float32Array(buffer, 0, totalFields);
    this.#state = new Float32Array(buffer, 4 * totalFields, rows * fields);
    this.#ring = new Float32Array(buffer, 4 * (totalFields + rows * fields), rows * ringSize);
  }

  reset(row: number): void {
    this.#state.fill(0, row * fields, (row + 1) * fields);
  }

  /** Floats that `readRow` and `writeRow` move. */
  static readonly rowFloats = fields + ringSize;

  /** The averages of the total demand; the array is the bank's own. */
  get total(): Float32Array {
    return this.#total;
  }

  walk(walk: StateWalk): void {
    walk.whole(this.#total);
    walk.rows(this.#state, fields);
    walk.rows(this.#ring, ringSize);
  }

  readRow(row: number, out: Float32Array, offset: number): void {
    out.set(this.#state.subarray(row * fields, (row + 1) * fields), offset);
    out.set(this.#ring.subarray(row * ringSize, (row + 1) * ringSize), offset + fields);
  }

  writeRow(row: number, from: Float32Array, offset: number): void {
    this.#state.set(from.subarray(offset, offset + fields), row * fields);
    this.#ring.set(from.subarray(offset + fields, offset + fields + ringSize), row * ringSize);
  }

  /** Whether the row has a history: if not, nothing is forecast for it. */
  isActive(row: number): boolean {
    return this.#state[row * fields + field.seen]! > 0;
  }

  /** Tokens a step that the row's features and forecasts are measured in; 0 for an inactive row. */
  scale(row: number): number {
    const base = row * fields + field.ewma;
    return Math.max(this.#state[base + scaleSpan]!, scaleFloor * this.#state[base + spans.length - 1]!);
  }

  /** Takes in the demand of all rows together. Call once a step, before the rows. */
  advanceTotal(total: number): void {
    const t = this.#total;
    if (t[0] === 0 && total === 0) return;
    t[0] = Math.min(t[0]! + 1, maxSeen);
    const seen = t[0];
    totalSpans.forEach((span, i) => {
      t[i + 1]! += Math.max(2 / (span + 1), 1 / seen) * (total - t[i + 1]!);
    });
    const scale = t[3]!;
    this.#totalFeatures[0] = logRatio(total, scale);
    this.#totalFeatures[1] = logRatio(t[1]!, scale);
    this.#totalFeatures[2] = logRatio(t[2]!, scale);
  }

  /**
   * Takes in a row's demand of the step that ended and writes its features.
   * @param turn which steps its period is searched in
   * @returns whether the row is active; if not, nothing was written
   */
  advance(row: number, demand: number, out: Float32Array, offset: number, turn = row): boolean {
    const s = this.#state;
    const base = row * fields;
    if (s[base] === 0) {
      if (!(demand > 0)) return false;
      this.#start(row);
    }
    const sinceActive = demand > 0 ? 0 : s[base + field.sinceActive]! + 1;
    if (sinceActive > forgetAfterSteps) {
      this.reset(row);
      return false;
    }
    const seen = s[base]! + 1 < maxSeen ? s[base]! + 1 : maxSeen / 2;
    s[base] = seen;
    s[base + field.sinceActive] = sinceActive;
    s[base + field.previous] = s[base + field.last]!;
    s[base + field.last] = demand;
    this.#ring[row * ringSize + ((seen - 1) & ringMask)] = demand;

    this.#advanceBursts(base, demand, seen);
    const perSeen = 1 / seen;
    const ewma = base + field.ewma;
    const expected = s[ewma + 3]!;
    for (let k = 0; k < spans.length; k++) s[ewma + k]! += Math.max(alphas[k]!, perSeen) * (demand - s[ewma + k]!);
    const deviation = seen > 1 ? Math.abs(demand - expected) : 0;
    s[base + field.dev30]! += Math.max(alphas[3]!, perSeen) * (deviation - s[base + field.dev30]!);
    s[base + field.dev300]! += Math.max(alphas[5]!, perSeen) * (deviation - s[base + field.dev300]!);
    for (let k = 0; k < wanders.length; k++) {
      const [fast, slow, span] = wanders[k]!;
      const distance = Math.abs(s[ewma + fast]! - s[ewma + slow]!);
      s[base + field.wander + k]! += Math.max(alphas[span]!, perSeen) * (distance - s[base + field.wander + k]!);
    }
    s[base + field.active]! += Math.max(alphas[4]!, perSeen) * ((demand > 0 ? 1 : 0) - s[base + field.active]!);
    s[base + field.peak] = Math.max(demand, s[base + field.peak]! * (1 - alphas[4]!));
    // Rows are searched in turn, so that no step pays for all of them.
    if (seen >= 4 * minPeriod && (seen + turn) % searchEvery === 0) this.#findPeriod(row, seen);
    this.#write(row, out, offset);
    return true;
  }

  #start(row: number): void {
    const base = row * fields;
    this.#state.fill(0, base, base + fields);
    this.#ring.fill(0, row * ringSize, (row + 1) * ringSize);
  }

  /** A burst begins with a step well above what is usual, after one that was not. */
  #advanceBursts(base: number, demand: number, seen: number): void {
    const s = this.#state;
    const since = s[base + field.sinceBurst]! + 1;
    const volume = s[base + field.volume]!;
    s[base + field.sinceBurst] = since;
    s[base + field.volume] = volume + demand;
    const usual = s[base + field.ewma + scaleSpan]! + 2 * s[base + field.dev300]!;
    if (demand <= usual && seen > 1) return;
    const bursts = s[base + field.bursts]!;
    if (bursts > 0 && since > 1) {
      const weight = Math.max(0.2, 1 / bursts);
      const miss = Math.abs(since - s[base + field.interval]!);
      if (bursts > 1) s[base + field.intervalDev]! += weight * (miss - s[base + field.intervalDev]!);
      s[base + field.interval]! += weight * (since - s[base + field.interval]!);
      s[base + field.intervalVolume]! += weight * (volume - s[base + field.intervalVolume]!);
    }
    if (since > 1 || bursts === 0) {
      s[base + field.bursts] = bursts + 1;
      s[base + field.volume] = demand;
    }
    s[base + field.burstSize]! += Math.max(0.2, 1 / (bursts + 1)) * (demand - s[base + field.burstSize]!);
    s[base + field.sinceBurst] = 0;
  }

  /** The lag with the highest autocorrelation of the compressed series; the shortest of about equal ones. */
  #findPeriod(row: number, seen: number): void {
    const count = Math.min(seen, ringSize);
    const ring = this.#ring;
    const start = row * ringSize;
    const scale = this.scale(row);
    const inverse = scale > 0 ? 1 / scale : 0;
    let mean = 0;
    for (let i = 0; i < count; i++) {
      const value = logOf(1 + ring[start + ((seen - count + i) & ringMask)]! * inverse);
      series[i] = value;
      mean += value;
    }
    mean /= count;
    // Smoothed, so that short bursts whose period is no whole number of steps still meet themselves.
    let energy = 0;
    let before = 0;
    for (let i = 0; i < count; i++) {
      const value = series[i]! - mean;
      const after = i + 1 < count ? series[i + 1]! - mean : 0;
      const smooth = 0.25 * before + 0.5 * value + 0.25 * after;
      series[i] = smooth;
      energy += smooth * smooth;
      before = value;
    }
    const s = this.#state;
    const base = row * fields;
    s[base + field.period] = 0;
    s[base + field.correlation] = 0;
    if (!(energy > 0)) return;
    const longest = Math.min(maxPeriod, Math.floor(count / 2));
    autocorrelate(series, count, minPeriod - 1, longest, correlations);
    let highest = minCorrelation;
    for (let lag = minPeriod - 1; lag <= longest; lag++) {
      correlations[lag] = (correlations[lag]! / energy) * (count / (count - lag));
      if (lag > minPeriod && isPeak(lag - 1)) highest = Math.max(highest, correlations[lag - 1]!);
    }
    let best = 0;
    for (let lag = minPeriod; lag < longest && best === 0; lag++)
      if (isPeak(lag) && correlations[lag]! >= asGood * highest && correlations[lag]! > minCorrelation) best = lag;
    s[base + field.period] = best;
    s[base + field.correlation] = best > 0 ? Math.min(1, correlations[best]!) : 0;
  }

  /** Mean demand over the next spans if the last two periods repeat. */
  #seasons(row: number, seen: number, period: number): void {
    const ring = this.#ring;
    const start = row * ringSize;
    // Whole numbers, so that the loop below is one of integers.
    const lag = period | 0;
    const last = (seen | 0) - lag;
    const twice = seen >= 2 * lag && 2 * lag <= ringSize;
    // Beyond a period what comes is what came: its sum is known.
    const longest = seasonSpans[seasonSpans.length - 1]!;
    const within = lag < longest ? lag : longest;
    let sum = 0;
    for (let i = 0; i < within; i++) {
      const phase = last + i;
      const once = ring[start + (phase & ringMask)]!;
      sum += twice ? 0.5 * (once + ring[start + ((phase - lag) & ringMask)]!) : once;
      sums[i + 1] = sum;
    }
    for (let k = 0; k < seasonSpans.length; k++) {
      const span = seasonSpans[k]!;
      const turns = Math.floor(span / lag);
      this.#season[k] = (turns === 0 ? sums[span]! : turns * sum + sums[span - turns * lag]!) / span;
    }
  }

  /**
   * Mean demand over each span ahead if bursts keep their clock: the chance that the next comes within it, by a
   * logistic law around the mean interval given that it has not come yet, and those after it, times a burst's demand.
   */
  #clocks(base: number): void {
    const s = this.#state;
    const interval = s[base + field.interval]!;
    const since = s[base + field.sinceBurst]!;
    const width = Math.max(0.5, 0.7 * s[base + field.intervalDev]!);
    // The chance that an interval lasts longer than a time is 1 / (1 + e^((time - interval) / width)).
    const soFar = Math.exp((since + 0.5 - interval) / width);
    const perStep = Math.exp(1 / width);
    for (let k = 0; k < seasonSpans.length; k++) {
      const span = seasonSpans[k]!;
      const next = 1 - (1 + Math.min(mostOdds, soFar)) / (1 + Math.min(mostOdds, soFar * wholePower(perStep, span)));
      const later = Math.max(0, (span - Math.max(0, interval - since)) / interval - 0.5);
      this.#clock[k] = ((next + later) * s[base + field.intervalVolume]!) / span;
    }
  }

  #write(row: number, out: Float32Array, offset: number): void {
    const s = this.#state;
    const base = row * fields;
    const scale = this.scale(row);
    const perScale = scale > 0 ? 1 / scale : 0;
    const seen = s[base]!;
    const period = s[base + field.period]!;
    const interval = s[base + field.interval]!;
    const sinceBurst = s[base + field.sinceBurst]!;
    let o = offset;
    let count = 0;
    ratios[count++] = s[base + field.last]!;
    ratios[count++] = s[base + field.previous]!;
    for (let k = 0; k < spans.length; k++) ratios[count++] = s[base + field.ewma + k]!;
    ratios[count++] = s[base + field.dev30]!;
    ratios[count++] = s[base + field.dev300]!;
    ratios[count++] = s[base + field.peak]!;
    ratios[count++] = s[base + field.burstSize]!;
    o = logRatios(count, perScale, out, o);
    out[o++] = s[base + field.active]!;
    out[o++] = log1pOf(s[base + field.sinceActive]!) / 4;
    out[o++] = log1pOf(sinceBurst) / 4;
    out[o++] = logOf(1 + interval) / 4;
    out[o++] = interval > 0 ? Math.min(2, sinceBurst / interval) : 0;
    out[o++] = interval > 0 ? logOf(1 + Math.max(0, interval - sinceBurst)) / 4 : 0;
    out[o++] = s[base + field.bursts]! > 2 ? Math.min(1, s[base + field.intervalDev]! / interval) : 1;
    out[o++] = log1pOf(seen) / 6;
    if (period > 0) this.#seasons(row, seen, period);
    out[o++] = period > 0 ? logOf(period) / 4 : 0;
    out[o++] = s[base + field.correlation]!;
    for (let k = 0; k < seasonSpans.length; k++) ratios[k] = this.#season[k]!;
    o = logRatios(seasonSpans.length, period > 0 ? perScale : 0, out, o);
    const hasClock = s[base + field.bursts]! > 2;
    if (hasClock) this.#clocks(base);
    for (let k = 0; k < seasonSpans.length; k++) ratios[k] = this.#clock[k]!;
    o = logRatios(seasonSpans.length, hasClock ? perScale : 0, out, o);
    for (let k = 0; k < wanders.length; k++) ratios[k] = s[base + field.wander + k]!;
    o = logRatios(wanders.length, perScale, out, o);
    for (let k = 0; k < 3; k++) out[o++] = this.#totalFeatures[k]!;
  }
}

/** Multiples of a period correlate about as well: the shortest lag this close to the highest is taken. */
const asGood = 0.85;

/** Sums of the first steps ahead, if the last periods repeat. */
const sums = new Float64Array(seasonSpans[seasonSpans.length - 1]! + 1);

/** Scratch of the period search; one thread works on one row at a time. */
const series = new Float64Array(ringSize);
const correlations = new Float64Array(maxPeriod + 1);

/** Beyond it a chance is nil, and it keeps the odds of what is overdue finite. */
const mostOdds = Math.exp(50);

/** By squaring: a whole power of a few is a few products, where an exponential costs twenty. */
function wholePower(base: number, exponent: number): number {
  let power = 1;
  for (let rest = exponent, square = base; rest > 0; rest >>= 1, square *= square) if (rest & 1) power *= square;
  return power;
}

/** log(1 + n) of the numbers of steps that are seen most. */
const logs = Float64Array.from({ length: 4096 }, (_, n) => Math.log1p(n));
const log1pOf = (steps: number): number => (steps < logs.length ? logs[steps]! : Math.log1p(steps));

const isPeak = (lag: number): boolean =>
  lag >= minPeriod && correlations[lag]! >= correlations[lag - 1]! && correlations[lag]! >= correlations[lag + 1]!;

/** Of 1 + (i + ½)/256. */
const inverses = Float64Array.from({ length: 256 }, (_, i) => 1 / (1 + (i + 0.5) / 256));
const logsOfParts = inverses.map((inverse) => -Math.log(inverse));

/** What `logRatios` takes the logarithms of, and the bits of it. */
const ratios = new Float32Array(spans.length + 6);
const bits = new Int32Array(ratios.buffer);

/**
 * Writes log ratios of the first `ratios` to `1 / perScale`; 0 where that is 0. Finite for any demand, and bounded: a
 * step a hundred thousand times the scale tells no more than a larger one. Several at a time, as a processor computes
 * the next while it waits for the bits of one.
 * @returns where to write on
 */
function logRatios(count: number, perScale: number, out: Float32Array, offset: number): number {
  if (perScale === 0) {
    for (let i = 0; i < count; i++) out[offset + i] = 0;
    return offset + count;
  }
  for (let i = 0; i < count; i++) ratios[i] = ratios[i]! * perScale + ratioFloor;
  for (let i = 0; i < count; i++) out[offset + i] = Math.min(12, logOfBits(bits[i]!));
  return offset + count;
}

const logRatio = (value: number, scale: number): number =>
  scale > 0 ? Math.min(12, logOf(value / scale + ratioFloor)) : 0;

const word = new Float32Array(1);
const wordBits = new Int32Array(word.buffer);

/** The natural logarithm of a positive number as float32 holds it: see `logOfBits`. */
function logOf(value: number): number {
  word[0] = value;
  return logOfBits(wordBits[0]!);
}

/**
 * The natural logarithm of a positive float32 by its bits, within 1e-7: exponent, a table for the first eight bits of
 * the fraction, three terms of the series for the rest. A quarter of what `Math.log` costs, and a row's features take
 * thirty.
 */
function logOfBits(all: number): number {
  const part = (all >> 15) & 255;
  const rest = (1 + (all & 0x7fffff) * 2 ** -23) * inverses[part]! - 1;
  return ((all >> 23) - 127) * Math.LN2 + logsOfParts[part]! + rest * (1 - rest * (0.5 - rest * (1 / 3)));
}
