import { ReferenceBucket } from './reference-bucket.js';
import type { Scene } from './scene.js';

/** What one arm did with the scored part; all amounts in tokens. */
export interface ArmScore {
  /** Which of several contestants of the arm this is. */
  variant?: string;
  /** Real targets only, as are `admitted` and everything throttled. */
  offered: number;
  admitted: number;
  throttled: number;
  throttledFraction: number;
  /** Over the targets with at least 1 % of the offered tokens. */
  worstTargetThrottledFraction: number;
  /** Everything admitted, hogs included, against rate × scored time. */
  utilization: number;
  /** What real targets were given and nobody used, against rate × scored time. */
  withheldFraction: number;
  hogAdmitted: number;
  /**
   * With two hogs and more: what the worst served got ÷ what the best served got. They are always backlogged and
   * weigh the same, so fairness is 1.
   */
  minMaxRatio?: number;
  /** Admissions of the whole stream for which the resource had not enough tokens. */
  lawViolations: number;
}

/** Where the decisions of the scored part go, in order. */
export interface DecisionSink {
  decide(arm: string, timeMs: number, target: string, cost: number, isAdmitted: boolean): void;
  /** Called between steps: resolves when there is room for more. */
  drain(): Promise<void>;
}

/** Adds up decisions. Targets are indices into the scene's names. */
export class Score {
  readonly #scene: Scene;
  readonly #law: ReferenceBucket;
  readonly #offered: Float64Array;
  readonly #admitted: Float64Array;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.#law = new ReferenceBucket(scene.settings.ratePerSec, scene.settings.burst);
    this.#offered = new Float64Array(scene.names.length);
    this.#admitted = new Float64Array(scene.names.length);
  }

  record(timeMs: number, target: number, cost: number, isAdmitted: boolean): void {
    if (isAdmitted) this.#law.admit(timeMs, cost);
    if (timeMs < this.#scene.scoredFromMs) return;
    this.#offered[target]! += cost;
    if (isAdmitted) this.#admitted[target]! += cost;
  }

  result(withheldTokens: number, variant?: string): ArmScore {
    const { targets, names, settings, trace, scoredFromMs } = this.#scene;
    const capacity = (settings.ratePerSec * (trace.durationMs - scoredFromMs)) / 1000;
    const sum = (values: Float64Array, from: number, to: number): number => {
      let total = 0;
      for (let i = from; i < to; i++) total += values[i]!;
      return total;
    };
    const part = (of: number, whole: number): number => (whole > 0 ? of / whole : 0);
    const offered = sum(this.#offered, 0, targets);
    const admitted = sum(this.#admitted, 0, targets);
    const hogAdmitted = sum(this.#admitted, targets, names.length);
    let worst = 0;
    for (let i = 0; i < targets; i++) {
      const asked = this.#offered[i]!;
      if (asked > 0 && asked >= 0.01 * offered) worst = Math.max(worst, (asked - this.#admitted[i]!) / asked);
    }
    return {
      ...(variant === undefined ? {} : { variant }),
      offered,
      admitted,
      throttled: offered - admitted,
      throttledFraction: part(offered - admitted, offered),
      worstTargetThrottledFraction: worst,
      utilization: part(admitted + hogAdmitted, capacity),
      withheldFraction: part(withheldTokens, capacity),
      hogAdmitted,
      ...(names.length - targets > 1 && { minMaxRatio: minMaxRatio(this.#admitted.subarray(targets)) }),
      lawViolations: this.#law.violations,
    };
  }
}

/** 1 when all got the same, nothing included. */
function minMaxRatio(tokens: Float64Array): number {
  const most = tokens.reduce((a, b) => Math.max(a, b), 0);
  return most > 0 ? tokens.reduce((a, b) => Math.min(a, b)) / most : 1;
}
