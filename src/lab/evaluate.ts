import { ForetokenError } from '../errors.js';
import { type EngineEvent, ForecastEngine } from '../forecast/engine.js';
import { type Forecaster, type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';
import { LongRange } from '../forecast/long-range.js';
import { LstmForecaster, type LstmOptions } from '../forecast/lstm.js';
import { type EngineName, fittedKinds, isFittedKind } from '../forecast/names.js';
import { defaultHorizonsFor } from '../options.js';
import type { Trace } from '../workload/trace.js';
import { Baselines } from './baselines.js';
import { type BestBaselines, type ForecastScore, HorizonScore } from './forecast-score.js';
import { formatDuration } from './units.js';

/** What an evaluation is asked for; left out: the default. */
export interface EvaluateOptions {
  cost?: 'requests' | 'bytes';
  /** Default 1000. */
  stepMs?: number;
  /** Default 5 s, 30 s and 5 min, none shorter than a step. */
  horizonsMs?: readonly number[];
  /** Default `auto`. */
  engine?: EngineName;
  /** A model other than the one that ships: path of its `.onnx` file. */
  model?: string;
  /** Default true. */
  refine?: boolean;
  /** Fraction of the duration that is learnt from and not scored; default 0.5. */
  warmup?: number;
  seed?: number;
}

/** Every option as used; the model where it is not the one that ships. */
export type EvaluateSettings = Required<Omit<EvaluateOptions, 'model'>> & Pick<EvaluateOptions, 'model'>;

export interface EvaluateResult {
  trace: { file: string; requests: number; targets: number; durationS: number; meanRate: number };
  settings: EvaluateSettings;
  /** Mean demand of a target over the scored part, tokens/s: what scores are relative to. */
  meanRatePerTarget: number;
  /**
   * By name of the engine, one entry per horizon. The first is the engine asked for, scored as its user would have it. Of ETS
   * and Prophet beside it nulls at horizons that they had no forecast for: what classical forecasters said is not theirs.
   */
  engines: Record<string, ForecastScore[]>;
  /** One entry per horizon. */
  baselines: BestBaselines[];
  /** The least a calibrated 0.9 quantile can cover, as much of the demand is none; one entry per horizon. */
  leastCoverage90: (number | null)[];
  /** Standard error of what the engine asked for covers, over spans that do not overlap; one entry per horizon. */
  coverage90Error: (number | null)[];
  /** Forecasts scored per target and engine; one entry per horizon. */
  scoredSteps: number[];
  /** Processor time of all threads, spent in the engine asked for. */
  cpuSecondsPer1000TargetSteps: number;
  /** Processor time of fitting ETS and Prophet, in their own thread, by engine that did nothing else in it, s. */
  fittingCpuSeconds: Record<string, number>;
}

export interface EvaluateHooks {
  /**
   * Told every forecast of the scored part of the engine asked for.
   * @param timeMs the end of the step it was made at
   * @returns a promise to wait for before the next step, if any
   */
  onForecasts?: (timeMs: number, frame: ForecastFrame) => Promise<void> | undefined;
  onEvent?: (event: EngineEvent) => void;
  /** @param done from 0 to 1 */
  progress?: (done: number) => void;
}

/**
 * Scores an engine's forecasts on a trace. With `auto`, the model alone and unrefined is scored beside it, and, where a
 * horizon is long enough for them, ETS and Prophet.
 */
export async function evaluate(
  trace: Trace,
  options: EvaluateOptions = {},
  hooks: EvaluateHooks = {},
): Promise<EvaluateResult> {
  const settings: EvaluateSettings = {
    cost: options.cost ?? 'requests',
    stepMs: options.stepMs ?? 1000,
    horizonsMs: options.horizonsMs ?? defaultHorizonsFor(options.stepMs ?? 1000),
    engine: options.engine ?? 'auto',
    ...(options.model !== undefined && { model: options.model }),
    refine: options.refine ?? true,
    warmup: options.warmup ?? 0.5,
    seed: options.seed ?? 1,
  };
  const { stepMs, horizonsMs, engine, model, refine, seed } = settings;
  const rows = trace.names.length;
  const forecasters = new Map<string, Forecaster>();
  try {
    const { onEvent } = hooks;
    const modelPath = model === undefined ? {} : { modelPath: model };
    const common = { rows, stepMs, horizonsMs, seed, deterministic: true, ...modelPath };
    forecasters.set(engine, await ForecastEngine.open({ ...common, engine, refine, ...(onEvent ? { onEvent } : {}) }));
    if (engine === 'auto') {
      const alone = await openModel({ rows, stepMs, horizonsMs, ...modelPath });
      if (alone) forecasters.set('lstm', alone);
      if (LongRange.appliesTo(horizonsMs))
        for (const kind of fittedKinds) forecasters.set(kind, await ForecastEngine.open({ ...common, engine: kind }));
    }
    const result = await walk(trace, settings, forecasters, hooks);
    for (const kind of fittedKinds) {
      const forecaster = forecasters.get(kind);
      if (forecaster instanceof ForecastEngine)
        result.fittingCpuSeconds[kind] = (forecaster.fittingMs[kind] ?? 0) / 1000;
    }
    return result;
  } finally {
    for (const forecaster of forecasters.values()) await forecaster.close();
  }
}

/** Without a model there is nothing to compare with; the engine has told so by an event. */
async function openModel(options: LstmOptions): Promise<LstmForecaster | undefined> {
  try {
    return await LstmForecaster.open({ ...options, deadlineMs: Number.POSITIVE_INFINITY });
  } catch (error) {
    // Where its runtime cannot be loaded, the worker dies of it.
    if (error instanceof ForetokenError && ['MODEL_UNAVAILABLE', 'WORKER_FAILED'].includes(error.code))
      return undefined;
    throw error;
  }
}

const unscored: ForecastScore = { score: null, gain: null, coverage90: null };

/** Forecasts of one moment for one horizon, kept until the horizon has passed. */
interface Open {
  dueMs: number;
  /** Tokens asked for until then, per target. */
  totals: Float64Array;
  /** Per forecaster, q50 and q90 of each target in turn, tokens/s. */
  forecasts: Float64Array[];
  baselines: Float64Array;
}

const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);

/**
 * Walks a trace once. At the end of every step each forecaster is shown the demand of the step and asked; what
 * it said is scored when the last request of the horizon has passed.
 * @param forecasters by name; the first is the one that is timed and shown to `onForecasts`
 * @throws ForetokenError INVALID_OPTION when not one step lies in the scored part, or not one horizon after it
 */
export async function walk(
  trace: Trace,
  settings: EvaluateSettings,
  forecasters: ReadonlyMap<string, Forecaster>,
  hooks: EvaluateHooks = {},
): Promise<EvaluateResult> {
  const { stepMs, horizonsMs, warmup } = settings;
  const { durationMs, requests, timesMs, target, cost } = trace;
  const targets = trace.names.length;
  const steps = Math.floor(durationMs / stepMs);
  const scoredFromMs = warmup * durationMs;
  if (steps === 0 || steps * stepMs < scoredFromMs)
    throw new ForetokenError(
      'INVALID_OPTION',
      `--step: expected a period that fits into the scored part of ${formatDuration(durationMs)}, got ${formatDuration(stepMs)}`,
    );
  const firstMs = Math.max(1, Math.ceil(scoredFromMs / stepMs)) * stepMs;
  const shortestMs = Math.min(...horizonsMs);
  if (firstMs + shortestMs > durationMs)
    throw new ForetokenError(
      'INVALID_OPTION',
      `--horizons: expected one of at most ${formatDuration(durationMs - firstMs)}, what is left of the trace after the first scored step, got ${formatDuration(shortestMs)}`,
    );
  const part = scoredPart(trace, scoredFromMs, stepMs);
  const asked = [...forecasters];
  const baselines = new Baselines(targets, stepMs);
  const horizons = horizonsMs.map((horizonMs) => {
    const steps = Math.max(1, Math.round(horizonMs / stepMs));
    const score = new HorizonScore(asked.length, part.busy, steps);
    return {
      horizonMs,
      steps,
      score,
      open: [] as Open[],
      spoke: asked.map(([name], f) => f === 0 || !isFittedKind(name)),
    };
  });

  const totals = new Float64Array(targets);
  const demand = new Float64Array(targets);
  let request = 0;
  /** Takes in the requests before a time. */
  const advance = (untilMs: number): void => {
    for (; request < requests && timesMs[request]! < untilMs; request++) {
      totals[target[request]!]! += cost[request]!;
      demand[target[request]!]! += cost[request]!;
    }
  };
  /** Scores what has become due, in order of time, because a horizon may end within a step. */
  const resolve = (untilMs: number): void => {
    for (;;) {
      const next = horizons.reduce((a, b) => ((b.open[0]?.dueMs ?? Infinity) < (a.open[0]?.dueMs ?? Infinity) ? b : a));
      const open = next.open[0];
      if (!open || open.dueMs > untilMs) return;
      next.open.shift();
      advance(open.dueMs);
      const seconds = next.horizonMs / 1000;
      next.score.add(
        totals.map((total, i) => (total - open.totals[i]!) / seconds),
        open.forecasts,
        open.baselines,
      );
    }
  };

  let cpuMicros = 0;
  for (let step = 1; step <= steps; step++) {
    const nowMs = step * stepMs;
    resolve(nowMs);
    advance(nowMs);
    baselines.observe(demand);
    const frames: ForecastFrame[] = [];
    for (const [, forecaster] of asked) {
      const before = process.cpuUsage();
      frames.push(await forecaster.step(demand, targets));
      const { user, system } = process.cpuUsage(before);
      if (frames.length === 1) cpuMicros += user + system;
    }
    demand.fill(0);
    hooks.progress?.(step / steps);
    if (nowMs < scoredFromMs) continue;
    await hooks.onForecasts?.(nowMs, frames[0]!);
    horizons.forEach((horizon, h) => {
      if (nowMs + horizon.horizonMs > durationMs) return;
      const values = baselines.values(horizon.steps);
      frames.forEach((frame, f) => {
        horizon.spoke[f] ||= hasForecast(frame, h, asked[f]![0]);
      });
      horizon.open.push({
        dueMs: nowMs + horizon.horizonMs,
        totals: totals.slice(),
        forecasts: frames.map((frame) => scoredQuantiles(frame, h, targets)),
        baselines: values,
      });
    });
  }
  resolve(durationMs);

  const tokens = cost.reduce((a, b) => a + b, 0);
  return {
    trace: {
      file: trace.file,
      requests,
      targets,
      durationS: durationMs / 1000,
      meanRate: tokens / (durationMs / 1000),
    },
    settings,
    meanRatePerTarget: part.meanRatePerTarget,
    engines: Object.fromEntries(
      asked.map(([name], f) => [
        name,
        horizons.map(({ score, spoke }) => (spoke[f] ? score.result(f, part.meanRatePerTarget) : unscored)),
      ]),
    ),
    baselines: horizons.map(({ score }) => score.bestBaselines(part.meanRatePerTarget)),
    leastCoverage90: horizons.map(({ score }) => score.leastCoverage90()),
    coverage90Error: horizons.map(({ score }) => score.coverage90Error()),
    scoredSteps: horizons.map(({ score }) => score.steps),
    cpuSecondsPer1000TargetSteps: cpuMicros / 1e6 / ((targets * steps) / 1000),
    fittingCpuSeconds: {},
  };
}

/** Whether any target's forecast for a horizon is by that engine itself. */
function hasForecast({ rows, horizonsMs, engines, engine }: ForecastFrame, horizon: number, name: string): boolean {
  const own = engines.indexOf(name);
  for (let row = 0; row < rows; row++) if (engine[row * horizonsMs.length + horizon] === own) return true;
  return false;
}

/** Each target's q50 and q90 in turn. */
function scoredQuantiles(frame: ForecastFrame, horizon: number, targets: number): Float64Array {
  const pairs = new Float64Array(2 * targets);
  for (let i = 0; i < targets; i++) {
    const at = (i * frame.horizonsMs.length + horizon) * quantileCount;
    pairs[2 * i] = frame.quantiles[at + q50]!;
    pairs[2 * i + 1] = frame.quantiles[at + q90]!;
  }
  return pairs;
}

/** What the whole scored part holds. Only scoring may know it: it lies ahead of the forecasts. */
function scoredPart(trace: Trace, fromMs: number, stepMs: number): { meanRatePerTarget: number; busy: Uint8Array } {
  const targets = trace.names.length;
  const counts = new Float64Array(targets);
  let tokens = 0;
  for (let i = 0; i < trace.requests; i++) {
    if (trace.timesMs[i]! < fromMs) continue;
    tokens += trace.cost[i]!;
    // A bin without demand has a row too, but is no request.
    if (trace.cost[i]! > 0) counts[trace.target[i]!]!++;
  }
  const lengthMs = trace.durationMs - fromMs;
  return {
    meanRatePerTarget: tokens / (lengthMs / 1000) / targets,
    busy: Uint8Array.from(counts, (count) => (count >= lengthMs / stepMs / 10 ? 1 : 0)),
  };
}
