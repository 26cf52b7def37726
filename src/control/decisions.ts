import type { AllocatorName } from '../allocate/allocator.js';
import type { CreditBook } from '../allocate/credit.js';
import { type ForecastFrame, quantileCount, quantileLevels } from '../forecast/forecaster.js';
import { grown } from '../grown.js';
import { decisionColumns } from '../history/schema.js';
import type { DecisionPoint, HistoryStore } from '../history/store.js';
import type { ShadowView } from '../shadow/report.js';
import type { Handle } from '../table/table.js';
import { type DecisionField, type DecisionShape, decisionFields, modeNames, shadowFields, widthOf } from './explain.js';
import type { FastLoop } from './fast-loop.js';
import type { Plan } from './plan.js';
import type { Roster } from './roster.js';
import { type TrustBook, verdicts } from './trust.js';

const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);
/** Numbers that changed by less than this part of themselves are the same decision. */
const sameWithin = 0.1;
/** Whoever has something is recorded this often, so that nobody is forgotten while nothing changes. */
const refreshMs = 60_000;
/** Most targets recorded in one step; beyond that they take turns. */
const mostRows = 500;

/** What decisions are made of, as the loops have it. */
export interface DecisionSources {
  fast: FastLoop;
  roster: Roster;
  credits: CreditBook;
  /** Undefined where forecasts are planned with in any case. */
  trust?: Pick<TrustBook, 'verdictAt'> | undefined;
  allocator: AllocatorName;
  modeOf: (handle: Handle) => string | undefined;
  nowMs: () => number;
  shadows?: ShadowView | undefined;
}

/**
 * Keeps what was decided last, so that it can be explained, and records it: after every step those for whom what they
 * have, or why, changed by more than a tenth, and everyone who has a rate once a minute; at most 500 a step.
 */
export class Decisions {
  readonly #sources: DecisionSources;
  #plan: Plan | undefined;
  #frame: ForecastFrame | undefined;
  #shape: { shape: DecisionShape; text: string } | undefined;
  #weights = 0;
  // As recorded last, per slot.
  #told: Float64Array[] = [];
  #recordedMs = new Float64Array(64);
  /** Where the next step begins to look, so that all have their turn. */
  #turn = 1;

  constructor(sources: DecisionSources) {
    this.#sources = sources;
  }

  /** Takes note of what was published. */
  made(plan: Plan, frame: ForecastFrame | undefined): void {
    this.#plan = plan;
    this.#frame = frame;
    const { live, weight } = this.#sources.roster;
    this.#weights = 0;
    for (let slot = 1; slot < live.length; slot++) if (live[slot]) this.#weights += weight[slot]!;
  }

  /** The last decision about a slot, with what has become of it since; undefined before the first. */
  explain(slot: number, wallMs: number): DecisionPoint | undefined {
    if (!this.#plan || slot * 2 >= this.#plan.pairs.length) return undefined;
    this.#sources.fast.readLevels();
    const { shape, text } = this.#shapeNow();
    const values = new Float64Array(widthOf(shape));
    this.#fill(slot, wallMs, values, 0, 1);
    return { timeMs: wallMs, shape: text, values };
  }

  /** Appends to the history what has changed, at the end of a step. */
  record(history: Pick<HistoryStore, 'appendDecisions'>, wallMs: number): void {
    this.#sources.fast.readLevels();
    const slots = this.#due(wallMs);
    if (slots.length === 0) return;
    const { shape, text } = this.#shapeNow();
    const fields = widthOf(shape);
    const rows = slots.length;
    const values = new Float64Array(fields * rows);
    slots.forEach((slot, row) => {
      this.#fill(slot, wallMs, values, row, rows);
    });
    const targets = slots.map((slot) => this.#sources.roster.names[slot]!);
    history.appendDecisions({ timeMs: wallMs, shape: text, fields, targets, values });
  }

  /** Forgets a slot, because it was given to another target. */
  forget(slot: number): void {
    if (slot < this.#recordedMs.length) this.#recordedMs[slot] = 0;
    this.#plan?.pairs.fill(0, slot * 2, slot * 2 + 2);
  }

  #due(wallMs: number): number[] {
    const plan = this.#plan;
    const due: number[] = [];
    if (!plan) return due;
    const { fast, roster } = this.#sources;
    const count = plan.pairs.length / 2 - 1;
    const telling = this.#telling(plan);
    this.#grow(count + 1, telling.length);
    for (let i = 0; i < count && due.length < mostRows; i++) {
      const slot = 1 + ((this.#turn - 1 + i) % count);
      if (!roster.live[slot]) continue;
      const hasAny = plan.pairs[slot * 2]! > 0 || fast.view.q90PerSec[slot]! > 0;
      const isOld = wallMs - this.#recordedMs[slot]! >= refreshMs && hasAny;
      const isCorrected = fast.correctedTokens[slot] !== 0;
      if (!hasAny && this.#recordedMs[slot] === 0) continue;
      if (!isOld && !isCorrected && !telling.some((of, k) => differs(of(slot), this.#told[k]![slot]!))) continue;
      due.push(slot);
      telling.forEach((of, k) => {
        this.#told[k]![slot] = of(slot);
      });
      this.#recordedMs[slot] = wallMs;
    }
    if (due.length === mostRows) this.#turn = 1 + (due[mostRows - 1]! % count);
    return due;
  }

  /** What a target has and why, as far as another value of it makes another decision. */
  #telling({ pairs, reasons }: Plan): ((slot: number) => number)[] {
    const { fast, roster, trust } = this.#sources;
    return [
      (slot) => pairs[slot * 2]!,
      (slot) => fast.deposit[slot]!,
      (slot) => reasons.demandPerSec[slot]!,
      (slot) => roster.reservationPerSec[slot]!,
      (slot) => roster.weight[slot]!,
      (slot) => roster.limitPerSec[slot]!,
      (slot) => roster.throttlingCost[slot]!,
      (slot) => trust?.verdictAt(slot) ?? 0,
      // Asking the table takes a while, and who has nothing is told of without it.
      (slot) => (pairs[slot * 2]! > 0 || fast.view.q90PerSec[slot]! > 0 ? this.#modeAt(slot) : 0),
    ];
  }

  /** Index into `modeNames`. */
  #modeAt(slot: number): number {
    const { modeOf, roster } = this.#sources;
    return Math.max(0, (modeNames as readonly string[]).indexOf(modeOf(roster.handles[slot]!) ?? ''));
  }

  #shapeNow(): { shape: DecisionShape; text: string } {
    const frame = this.#frame;
    const known = this.#shape?.shape;
    const horizonsMs = frame?.horizonsMs ?? [];
    if (!known || known.horizonsMs.length !== horizonsMs.length || (frame && known.engines !== frame.engines)) {
      const engines = frame?.engines ?? [];
      const room = decisionColumns.length - decisionFields.length - 3 * horizonsMs.length;
      const shadows = (this.#sources.shadows?.specs ?? []).slice(0, Math.max(0, Math.floor(room / 2)));
      const fields = [...decisionFields, ...shadows.flatMap(shadowFields)];
      const shape = { fields, horizonsMs, engines, allocator: this.#sources.allocator };
      this.#shape = { shape, text: JSON.stringify(shape) };
    }
    return this.#shape!;
  }

  /** Writes one slot's numbers into column-major values. */
  #fill(slot: number, wallMs: number, values: Float64Array, row: number, rows: number): void {
    const { fast, roster, credits, trust } = this.#sources;
    const { pairs, reasons } = this.#plan!;
    const deposit = fast.deposit[slot]!;
    const numbers: Record<DecisionField, number> = {
      mode: this.#modeAt(slot),
      throttlingCost: roster.throttlingCost[slot]!,
      quantile: reasons.quantile[slot]!,
      leadMs: reasons.leadMs[slot]!,
      demandPerSec: reasons.demandPerSec[slot]!,
      fairSharePerSec: this.#weights > 0 ? (fast.ratePerSec * roster.weight[slot]!) / this.#weights : 0,
      reservation: roster.reservationPerSec[slot]!,
      weight: roster.weight[slot]!,
      limit: roster.limitPerSec[slot]!,
      ratePerSec: pairs[slot * 2]!,
      burst: pairs[slot * 2 + 1]!,
      tokens: fast.level[slot]!,
      deposit,
      depositUntilMs: deposit > 0 ? wallMs + Math.max(0, fast.depositUntilMs[slot]! - this.#sources.nowMs()) : 0,
      correctionTokens: fast.correctedTokens[slot]!,
      extraPerSec: fast.extraPerSec[slot]!,
      credits: credits.balance(slot),
      borrowShare: fast.borrowShare(slot),
      resourcePerSec: fast.ratePerSec,
      trust: trust?.verdictAt(slot) ?? verdicts.indexOf('trusted'),
    };
    let at = row;
    for (const field of decisionFields) {
      values[at] = numbers[field];
      at += rows;
    }
    at = this.#fillShadows(slot, values, at, rows);
    const frame = this.#frame;
    if (!frame) return;
    const horizons = frame.horizonsMs.length;
    for (let h = 0; h < horizons; h++) {
      const place = slot * horizons + h;
      const isForecast = slot < frame.rows;
      values[at] = isForecast ? frame.quantiles[place * quantileCount + q50]! : 0;
      values[at + rows] = isForecast ? frame.quantiles[place * quantileCount + q90]! : 0;
      values[at + 2 * rows] = isForecast ? frame.engine[place]! : 0;
      at += 3 * rows;
    }
  }

  /** Not a number where a shadow has said nothing of whoever has the slot. @returns where the next number goes */
  #fillShadows(slot: number, values: Float64Array, from: number, rows: number): number {
    const { roster, shadows } = this.#sources;
    const count = (this.#shapeNow().shape.fields.length - decisionFields.length) / 2;
    const outcomes = shadows?.outcomes(slot, roster.handles[slot]!) ?? [];
    let at = from;
    for (const { engine, allocator } of shadows?.specs.slice(0, count) ?? []) {
      const outcome = outcomes.find((other) => other.engine === engine && other.allocator === allocator);
      values[at] = outcome?.ratePerSec ?? Number.NaN;
      values[at + rows] = outcome?.deniedTokens ?? Number.NaN;
      at += 2 * rows;
    }
    return at;
  }

  #grow(slots: number, numbers: number): void {
    if (slots > this.#recordedMs.length) this.#recordedMs = grown(this.#recordedMs, slots * 2);
    for (let k = 0; k < numbers; k++) {
      const told = this.#told[k] ?? new Float64Array(0);
      this.#told[k] = slots > told.length ? grown(told, slots * 2) : told;
    }
  }
}

const differs = (now: number, before: number): boolean =>
  Number.isFinite(now - before)
    ? Math.abs(now - before) > sameWithin * Math.max(Math.abs(now), Math.abs(before))
    : now !== before;
