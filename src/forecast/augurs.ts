// ETS and Prophet of @bsull/augurs, in WebAssembly. Loaded by the worker alone, and only when first asked for: where
// a module cannot be loaded, nothing but its forecasts is missing.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { type Fit, FittedPath } from './fitted-path.js';
import { quantileCount, quantileLevels } from './forecaster.js';
import type { FittedKind } from './names.js';
import { strongestPeriod } from './period.js';

export interface FitRequest {
  /** Demand a bin, oldest first. */
  demand: Float64Array;
  binS: number;
  /** Length of each horizon, bins. */
  horizonBins: readonly number[];
  /** How far the path is to reach, bins. */
  length: number;
}

/** Fits a kind of forecaster to a series; undefined where it finds no forecast. */
export type Fitter = (request: FitRequest) => Fit | undefined;

/** Intervals are asked for to learn a model's reach from; which ones does not matter. */
const intervalLevel = 0.8;
/** The part of a series that ETS is not fitted to: it tells how wrong forecasts are. */
const heldBack = 0.3;
/** Longest rhythm that Prophet is told of, bins; and the waves in it. */
const longestPeriod = 256;
const fourierOrder = 3;
/** Places where a trend may bend. Prophet's own 25 take twice as long and gained nothing on recorded traffic. */
const changepoints = 10;

const require = createRequire(import.meta.url);
const wasmOf = async (name: string): Promise<{ module_or_path: Uint8Array<ArrayBuffer> }> => ({
  module_or_path: new Uint8Array(await readFile(require.resolve(`@bsull/augurs/${name}`).replace(/\.js$/, '_bg.wasm'))),
});

/** @throws whatever keeps the module from loading */
export async function loadFitter(kind: FittedKind): Promise<Fitter> {
  return kind === 'ets' ? loadEts() : loadProphet();
}

/**
 * Exponential smoothing with additive errors, with a trend or without by AICc. Fitted to the older part of the
 * series, then moved on over the rest, which shows how wrong it is.
 */
async function loadEts(): Promise<Fitter> {
  const { default: init, AutoETS } = await import('@bsull/augurs/ets');
  await init(await wasmOf('ets'));
  return ({ demand, horizonBins, length }) => {
    const roots = demand.map(Math.sqrt);
    const held = Math.floor(heldBack * roots.length);
    const known = roots.length - held;
    const model = new AutoETS(1, 'AZN');
    try {
      model.fit(roots.subarray(0, known));
      const { point, intervals } = model.predict(held + length, intervalLevel);
      if (!intervals) return undefined;
      const points = Float64Array.from(point);
      const reach = reachOf(points.map((value, i) => intervals.upper[i]! - value));
      const path = new FittedPath({ points, reach, spread: new Float64Array(horizonBins.length * quantileCount) });
      const misses = horizonBins.map((): number[] => []);
      for (let bin = known; bin <= demand.length; bin++) {
        horizonBins.forEach((bins, h) => {
          const actual = meanOf(demand, bin, bins);
          if (actual !== undefined) misses[h]!.push(Math.sqrt(actual) - Math.sqrt(path.mean(0, bins)));
        });
        if (bin < demand.length) path.advance(roots[bin]!);
      }
      return finite({ points: path.ahead(), reach, spread: spreadOf(misses) });
    } finally {
      model.free();
    }
  };
}

/** A trend that bends and the rhythm that autocorrelation finds; how wrong it is on the series it was fitted to. */
async function loadProphet(): Promise<Fitter> {
  const { default: init, Prophet } = await import('@bsull/augurs/prophet');
  await init(await wasmOf('prophet'));
  const { optimizer } = await import('@bsull/augurs-prophet-wasmstan');
  const correlations = new Float64Array(longestPeriod + 1);
  const off = { type: 'manual', enabled: false } as const;
  const fitBy = ({ demand, binS, horizonBins, length }: FitRequest, algorithm: 'lbfgs' | 'newton'): Fit | undefined => {
    const roots = demand.map(Math.sqrt);
    const model = new Prophet({
      optimizer,
      estimation: 'map',
      nChangepoints: changepoints,
      uncertaintySamples: 0,
      yearlySeasonality: off,
      weeklySeasonality: off,
      dailySeasonality: off,
    });
    try {
      const mean = roots.reduce((a, b) => a + b, 0) / roots.length;
      const bins = strongestPeriod(roots.slice(), mean, correlations);
      if (bins > 0) model.addSeasonality('rhythm', { period: (bins * binS) / 86_400, fourierOrder });
      const timeOf = (bin: number): number => Math.round(bin * binS);
      model.fit({ ds: Array.from(roots, (_, bin) => timeOf(bin)), y: roots }, { seed: 1, algorithm });
      const known = model.predict().yhat.point;
      const ahead = model.predict({ ds: Array.from({ length }, (_, i) => timeOf(roots.length + i)) }).yhat.point;
      const path = new FittedPath({
        points: Float64Array.from(known),
        reach: new Float64Array(0),
        spread: new Float64Array(horizonBins.length * quantileCount),
      });
      const misses = horizonBins.map((bins) => {
        const all: number[] = [];
        for (let bin = 0; bin < demand.length; bin++) {
          const actual = meanOf(demand, bin, bins);
          if (actual !== undefined) all.push(Math.sqrt(actual) - Math.sqrt(path.mean(bin, bins)));
        }
        return all;
      });
      return finite({ points: Float64Array.from(ahead), reach: new Float64Array(0), spread: spreadOf(misses) });
    } finally {
      model.free();
    }
  };
  return (request) => {
    try {
      return fitBy(request, 'lbfgs');
    } catch {
      // Its line search may fail; Prophet for Python goes on by Newton's method then, too.
      return fitBy(request, 'newton');
    }
  };
}

/**
 * The variance of the forecast h bins ahead is σ²(1 + Σ c_j²) over j < h, so two neighbouring widths tell c_j. Its
 * sign is taken to be positive, as it is for every smoothing that learns from surprises.
 */
function reachOf(widths: Float64Array): Float64Array {
  const one = widths[0]! ** 2;
  return widths.map((_, j) =>
    j > 0 && one > 1e-12 ? Math.sqrt(Math.max(0, (widths[j]! ** 2 - widths[j - 1]! ** 2) / one)) : 0,
  );
}

/** Mean demand of a bin over a stretch of the past; undefined where the past is too short. */
function meanOf(demand: Float64Array, from: number, bins: number): number | undefined {
  const whole = Math.floor(bins);
  const rest = bins - whole;
  if (from + Math.ceil(bins) > demand.length) return undefined;
  let sum = rest > 0 ? rest * demand[from + whole]! : 0;
  for (let bin = from; bin < from + whole; bin++) sum += demand[bin]!;
  return sum / bins;
}

/** Quantiles of misses at each level, by rank among one more than there are: what comes is one of them. */
function spreadOf(misses: readonly number[][]): Float64Array {
  return Float64Array.from(
    misses.flatMap((all) => {
      const sorted = Float64Array.from(all).sort();
      return quantileLevels.map((level) => {
        if (sorted.length === 0) return 0;
        const rank = Math.min(sorted.length - 1, Math.max(0, level * (sorted.length + 1) - 1));
        const low = Math.floor(rank);
        const high = Math.min(low + 1, sorted.length - 1);
        return sorted[low]! + (rank - low) * (sorted[high]! - sorted[low]!);
      });
    }),
  );
}

const finite = (fit: Fit): Fit | undefined =>
  [fit.points, fit.reach, fit.spread].every((values) => values.every(Number.isFinite)) ? fit : undefined;
