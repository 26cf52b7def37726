import { basename } from 'node:path';
import type { StepReport } from '../control/loop.js';
import { ForetokenError } from '../errors.js';
import type { ArmCurve } from '../report/curves.js';
import type { ReportData, TargetTable } from '../report/report.js';
import type { Trace } from '../workload/trace.js';
import type { ReplayResult } from './replay.js';
import { replaySettings } from './report.js';
import { bucketName, type Scene, sceneOf } from './scene.js';
import { Series } from './series.js';
import type { ReplayOptions } from './settings.js';
import type { Pareto } from './sweep.js';
import { Tally } from './tally.js';

/** Steps of targets that are kept in memory until it is known which target is shown. */
const mostKeptSteps = 1_000_000;
/** Rows of all targets' charts together: what keeps a page at a megabyte or so. */
const mostRows = 20_000;
const mostTargets = 12;
const mostTableRows = 500;

/** Gathers, while a replay goes on, what its report shows beside the figures. */
export class ReplayReport {
  /** For the replay's hooks. */
  readonly tally = new Tally();
  readonly #trace: Trace;
  readonly #scene: Scene;
  readonly #series: Series;
  readonly #asked: string | undefined;
  readonly #told: string[] = [];

  /**
   * @param target whose timeline is shown first; default: the one that was denied most
   * @throws ForetokenError INVALID_OPTION when there is no such target
   */
  constructor(trace: Trace, options: ReplayOptions, target?: string) {
    this.#trace = trace;
    this.#scene = sceneOf(trace, options);
    this.#asked = target === undefined ? undefined : this.#bucketOf(target);
    this.#series = new Series(this.#candidates(), this.#scene.settings.stepMs);
  }

  onStep(report: StepReport): void {
    if (report.timeMs > this.#scene.scoredFromMs) this.#series.add(report, report.timeMs / 1000);
    else this.#series.expect(report);
  }

  /** Has the report say something about the figures. */
  note(text: string): void {
    this.#told.push(text);
  }

  /** @param command as it was given */
  data(result: ReplayResult, command: string): ReportData {
    const { settings, arms, capture, pareto, trace } = result;
    const file = basename(trace.file);
    const violations = Object.values(arms).reduce((sum, { lawViolations }) => sum + lawViolations, 0);
    const swept = Object.values(pareto ?? {}).reduce((sum, { lawViolations }) => sum + lawViolations, 0);
    return {
      title: `Replay of ${file}`,
      madeAtMs: Date.now(),
      command,
      resource: { ratePerSec: settings.ratePerSec, burst: settings.burst },
      durationS: trace.durationS,
      stepS: settings.stepMs / 1000,
      horizonS: settings.stepMs / 1000,
      targetCount: trace.targets,
      requestCount: trace.requests,
      arms: Object.entries(arms).map(([name, score]) => ({ name, ...score })),
      capture,
      law: { violations: violations + swept },
      ...(pareto && { curves: { ...curvesOf(pareto, file), meanRatePerSec: trace.meanRate, lawViolations: swept } }),
      perTarget: this.#table(),
      settings: Object.entries(replaySettings(settings)).map(([name, value]) => [name, String(value)]),
      ...this.#timelines(),
      notes: this.#notes(),
    };
  }

  #bucketOf(target: string): string {
    const { bucketOf, names, settings } = this.#scene;
    const index = names.indexOf(target);
    if (index >= 0) return bucketName(this.#scene, bucketOf[index]!);
    if (settings.holders > 0 && [...bucketOf].some((bucket) => bucketName(this.#scene, bucket) === target))
      return target;
    const some = names.slice(0, 5).join(', ') + (names.length > 5 ? ', …' : '');
    throw new ForetokenError(
      'INVALID_OPTION',
      `--target: expected the name of a target, as ${some}, got ${JSON.stringify(target)}`,
    );
  }

  /** Buckets with most demand in the scored part, as many as are kept, and who was asked for. */
  #candidates(): string[] {
    const { buckets, bucketOf, scoredFromMs, settings } = this.#scene;
    const { requests, timesMs, target, cost, durationMs } = this.#trace;
    const offered = new Float64Array(buckets);
    for (let i = 0; i < requests; i++) if (timesMs[i]! >= scoredFromMs) offered[bucketOf[target[i]!]!]! += cost[i]!;
    const steps = Math.max(1, (durationMs - scoredFromMs) / settings.stepMs);
    const busiest = Array.from(offered.keys())
      .filter((bucket) => offered[bucket]! > 0)
      .sort((a, b) => offered[b]! - offered[a]!)
      .slice(0, Math.max(1, Math.floor(mostKeptSteps / steps)))
      .map((bucket) => bucketName(this.#scene, bucket));
    return this.#asked === undefined ? busiest : [...new Set([this.#asked, ...busiest])];
  }

  #timelines(): Pick<ReportData, 'total' | 'targets' | 'scale'> {
    const { steps } = this.#series;
    if (steps === 0) return { targets: [] };
    const denied = new Map(this.#candidates().map((name) => [name, this.#series.denied(name)]));
    const byDenied = [...denied.keys()].sort((a, b) => denied.get(b)! - denied.get(a)!);
    const first = this.#asked === undefined ? byDenied : [this.#asked, ...byDenied.filter((n) => n !== this.#asked)];
    const shown = first.slice(0, Math.max(1, Math.min(mostTargets, Math.floor(mostRows / steps))));
    const merged = Math.ceil((steps * shown.length) / mostRows);
    return { ...this.#series.result(shown, merged), scale: merged };
  }

  #table(): TargetTable {
    const { arms } = this.tally;
    const reference = arms.includes('foretoken') ? 'foretoken' : (arms[0] ?? '');
    const denied = (arm: string, name: string): number => {
      const { offered, admitted } = this.tally.of(arm, name);
      return offered - admitted;
    };
    const rows = this.#trace.names
      .map((name) => ({ name, ...this.tally.of(reference, name) }))
      .filter(({ offered }) => offered > 0)
      .sort((a, b) => b.offered - b.admitted - (a.offered - a.admitted) || b.offered - a.offered);
    return {
      arms,
      rows: rows.slice(0, mostTableRows).map(({ name, offered }) => ({
        name,
        offered,
        throttledFraction: arms.map((arm) => denied(arm, name) / offered),
      })),
      left: Math.max(0, rows.length - mostTableRows),
    };
  }

  #notes(): string[] {
    const { settings } = this.#scene;
    const notes = [
      `Replayed on a virtual clock through the native table. Scored is what came after ${(settings.warmup * 100).toFixed(0)} % of the time; the law is checked over everything.`,
    ];
    if (settings.arms.includes('reactive'))
      notes.push('Reactive is the best in hindsight of 15 schemes that follow the past.');
    if (settings.holders > 0)
      notes.push('Targets are spread over holders of leases: the timeline is of a holder and all its targets.');
    if (settings.hogs > 0) notes.push('The total counts what hogs asked for too.');
    if (!settings.arms.includes('foretoken'))
      notes.push('There is no timeline, because Foretoken was not among the arms.');
    return [...notes, ...this.#told];
  }
}

/** The curves of a sweep as the report draws them. */
export const curvesOf = (pareto: Pareto, file: string): { title: string; arms: ArmCurve[] } => ({
  title: `${file.replace(/\.csv(\.gz)?$/, '')}: throttled against withheld`,
  arms: Object.entries(pareto).map(([arm, { curve, throttledAtWithheld }]) => ({
    arm,
    points: curve,
    throttledAtWithheld,
  })),
});
