import { type AllocatorName, allocatorNames } from '../allocate/allocator.js';
import { ForetokenError } from '../errors.js';
import { type EngineName, engineChoices } from '../forecast/names.js';
import type { DecisionPoint, HistoryStore } from '../history/store.js';
import type { TargetOutcome } from '../shadow/report.js';
import type { TargetMode } from '../table/native.js';
import { type Verdict, verdicts } from './trust.js';

/** Demand that is expected of a target over a horizon. */
export interface ExplainedForecast {
  /** How far it looks ahead, ms. */
  horizonMs: number;
  /** Median and 0.9 quantile of the mean demand over the horizon, tokens/s. */
  q50PerSec: number;
  q90PerSec: number;
  /** What of the mixture carried most of it: the rung of the failure ladder in use. */
  carriedBy: string;
}

/** Why a target has the tokens it has: plain data, as of one decision. */
export interface Explanation {
  target: string;
  /** When it was so, Unix ms. */
  timeMs: number;
  /** The same as a few sentences for people. */
  text: string;
  mode: TargetMode;
  /** One per horizon, shortest first; empty before the first forecast. */
  forecasts: ExplainedForecast[];
  /** Whether they were planned with, or had yet to prove themselves, or cost clearly more than a reactive estimate. */
  trust: Verdict;
  /** The rule that turned forecasts into rates. */
  allocator: AllocatorName;
  /** What denying it a token costs, against keeping one idle for it. */
  throttlingCost: number;
  /**
   * Probability, 0 to 1, with which its demand until the next step was to be covered: c / (1 + c) at a throttling cost of c.
   * Where nothing can be lent everything is divided, and it is the one that this comes to for those dearest to throttle.
   */
  quantile: number;
  /** How far ahead it was looked for that, ms; 0 before the first forecast. */
  leadMs: number;
  /** What the allocator was told that it will ask for, tokens/s: that quantile, less what its bucket held. */
  demandPerSec: number;
  /** The resource's limit that was in force, tokens/s. */
  resourcePerSec: number;
  /** Its part of the resource by weight alone, tokens/s. */
  fairSharePerSec: number;
  /** What it is owed, tokens/s; relative; what it never exceeds, tokens/s, Infinity for none. */
  reservation: number;
  weight: number;
  limit: number;
  /** What it was given, tokens/s and tokens, and what lies in its bucket, deposits included, tokens. */
  ratePerSec: number;
  burst: number;
  tokens: number;
  /** Tokens put into its bucket ahead of a forecast burst that are still there, and until when, Unix ms. */
  deposit: { tokens: number; expiresMs: number } | undefined;
  /**
   * What was corrected since the last step: tokens added (above 0) or taken back, and demand beyond the forecast that is
   * counted with until forecasts know of it, tokens/s.
   */
  correction: { tokens: number; extraPerSec: number };
  /** Credits under the allocator `credit`, tokens per unit of weight around a mean of 0; 0 under others. */
  credits: number;
  /** What it may borrow from the reservoir until the next tick, tokens. */
  borrowShare: number;
  /**
   * What each shadow would give it and would have denied it so far; empty without shadows, and before they have played
   * a step. With more than six horizons only the first shadows are told of.
   */
  shadows: TargetOutcome[];
}

/** The numbers of an explanation, in the order in which they are recorded. Then three per horizon: q50, q90, engine. */
export const decisionFields = [
  'mode',
  'throttlingCost',
  'quantile',
  'leadMs',
  'demandPerSec',
  'fairSharePerSec',
  'reservation',
  'weight',
  'limit',
  'ratePerSec',
  'burst',
  'tokens',
  'deposit',
  'depositUntilMs',
  'correctionTokens',
  'extraPerSec',
  'credits',
  'borrowShare',
  'resourcePerSec',
  'trust',
] as const;
export type DecisionField = (typeof decisionFields)[number];

/** Names of the numbers that a record has of a shadow. */
export const shadowFields = ({ engine, allocator }: Pick<TargetOutcome, 'engine' | 'allocator'>): [string, string] => [
  `shadow ${engine}/${allocator} ratePerSec`,
  `shadow ${engine}/${allocator} deniedTokens`,
];
const shadowField = /^shadow ([\w-]+)\/([\w-]+) ratePerSec$/;

/** What the numbers of a record mean, written down with them so that another version can read them. */
export interface DecisionShape {
  fields: readonly string[];
  horizonsMs: readonly number[];
  engines: readonly string[];
  allocator: AllocatorName;
}

/** Modes by the number they have in a record. */
export const modeNames: readonly TargetMode[] = ['enforce', 'shadow', 'off'];

/** Numbers per target. */
export const widthOf = ({ fields, horizonsMs }: DecisionShape): number => fields.length + 3 * horizonsMs.length;

/** How far before a time the last record about a target may lie, ms: as long as they are kept. */
const memoryMs = 3_600_000;

/** What was recorded last about a target up to a time. @throws UNKNOWN_TARGET when that is nothing */
export async function explainPast(
  history: Pick<HistoryStore, 'decisions' | 'flush'>,
  target: string,
  atMs: number,
): Promise<Explanation> {
  // What cannot be written cannot be read; older records can.
  await history.flush().catch(() => {});
  const last = (await history.decisions(target, atMs - memoryMs, atMs + 1)).at(-1);
  if (!last)
    throw new ForetokenError(
      'UNKNOWN_TARGET',
      `no decision about ${JSON.stringify(target)} is recorded in the hour up to ${time(atMs)}`,
    );
  return explanationOf(target, last);
}

function shadowsOf(fields: readonly string[], values: ArrayLike<number>): TargetOutcome[] {
  return fields.flatMap((field, at) => {
    const [, engine, allocator] = shadowField.exec(field) ?? [];
    if (!isEngine(engine) || !isAllocator(allocator) || Number.isNaN(values[at]!)) return [];
    const [, deniedTokens] = shadowFields({ engine, allocator });
    return { engine, allocator, ratePerSec: values[at]!, deniedTokens: values[fields.indexOf(deniedTokens)]! };
  });
}

const isEngine = (name: string | undefined): name is EngineName => (engineChoices as readonly unknown[]).includes(name);
const isAllocator = (name: string | undefined): name is AllocatorName =>
  (allocatorNames as readonly unknown[]).includes(name);

/** Makes an explanation of what is recorded about a decision. */
export function explanationOf(target: string, { timeMs, shape: text, values }: DecisionPoint): Explanation {
  const shape = JSON.parse(text) as DecisionShape;
  const of = (field: DecisionField): number => {
    const at = shape.fields.indexOf(field);
    return at < 0 ? 0 : values[at]!;
  };
  const first = shape.fields.length;
  const forecasts = shape.horizonsMs.map((horizonMs, h) => ({
    horizonMs,
    q50PerSec: values[first + 3 * h]!,
    q90PerSec: values[first + 3 * h + 1]!,
    carriedBy: shape.engines[values[first + 3 * h + 2]!] ?? '',
  }));
  const explanation: Explanation = {
    target,
    timeMs,
    text: '',
    mode: modeNames[of('mode')] ?? 'enforce',
    forecasts,
    // Records of versions that trusted every forecast do not say so.
    trust: shape.fields.includes('trust') ? (verdicts[of('trust')] ?? 'learning') : 'trusted',
    allocator: shape.allocator,
    throttlingCost: of('throttlingCost'),
    quantile: of('quantile'),
    leadMs: of('leadMs'),
    demandPerSec: of('demandPerSec'),
    resourcePerSec: of('resourcePerSec'),
    fairSharePerSec: of('fairSharePerSec'),
    reservation: of('reservation'),
    weight: of('weight'),
    limit: of('limit'),
    ratePerSec: of('ratePerSec'),
    burst: of('burst'),
    tokens: of('tokens'),
    deposit: of('deposit') > 0 ? { tokens: of('deposit'), expiresMs: of('depositUntilMs') } : undefined,
    correction: { tokens: of('correctionTokens'), extraPerSec: of('extraPerSec') },
    credits: of('credits'),
    borrowShare: of('borrowShare'),
    shadows: shadowsOf(shape.fields, values),
  };
  explanation.text = sentencesOf(explanation);
  return explanation;
}

/** Demand beyond the forecast that is worth a sentence, as a part of what was counted with. */
const leastExtra = 0.001;

const figures = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3, useGrouping: true });
const number = (value: number): string => figures.format(value);
/** Nothing is certain, whatever the rounding. */
const probability = (value: number): string => (value > 0.999 ? 'above 0.999' : number(value));
const time = (timeMs: number): string => new Date(timeMs).toISOString().replace('T', ' ').replace('Z', ' UTC');
const span = (ms: number): string => (ms >= 60_000 ? `${number(ms / 60_000)} min` : `${number(ms / 1000)} s`);

const modeSentences: Record<TargetMode, string> = {
  enforce: '',
  shadow: ' It is in shadow: nobody is denied.',
  off: ' It is off: nobody is denied or charged.',
};

const trustSentences: Record<Exclude<Verdict, 'trusted'>, string> = {
  learning: 'These have yet to prove themselves: it was planned for by what it asked for lately.',
  distrusted: 'These cost more than a reactive estimate would have: it was planned for by what it asked for lately.',
};

function sentencesOf(e: Explanation): string {
  const parts = [
    `At ${time(e.timeMs)} ${e.target} had ${number(e.ratePerSec)} tokens/s and a bucket of ${number(e.burst)} with ${number(e.tokens)} in it.${modeSentences[e.mode]}`,
  ];
  if (e.forecasts.length === 0) parts.push('Nothing had been forecast yet.');
  else {
    const each = e.forecasts.map(
      ({ horizonMs, q50PerSec, q90PerSec, carriedBy }) =>
        `${number(q50PerSec)} to ${number(q90PerSec)} over ${span(horizonMs)} (${carriedBy})`,
    );
    parts.push(`Forecast, median to 0.9 quantile in tokens/s: ${each.join(', ')}.`);
    if (e.trust !== 'trusted') parts.push(trustSentences[e.trust]);
    const by = e.trust === 'trusted' ? `the forecast over ${span(e.leadMs)}` : 'that estimate';
    const cost = `Denying it a token costs as much as ${number(e.throttlingCost)} idle ones`;
    const isOwn = Math.abs(e.quantile - e.throttlingCost / (1 + e.throttlingCost)) < 1e-9;
    const covered = isOwn
      ? `${cost}, so its next step was to be covered with probability ${number(e.quantile)}, by ${by}`
      : `${cost}; what there is covers the next step of those dearest to deny with probability ${probability(e.quantile)}, by ${by}`;
    parts.push(`${covered}, and ${e.allocator} counted with ${number(e.demandPerSec)} tokens/s.`);
  }
  const limit = Number.isFinite(e.limit) ? `, limit ${number(e.limit)}` : '';
  parts.push(
    `Its fair share of the resource's ${number(e.resourcePerSec)} tokens/s is ${number(e.fairSharePerSec)} (weight ${number(e.weight)}), reserved ${number(e.reservation)}${limit}.`,
  );
  if (e.deposit)
    parts.push(`${number(e.deposit.tokens)} tokens are a deposit for a burst, until ${time(e.deposit.expiresMs)}.`);
  if (e.correction.tokens !== 0) {
    const did = e.correction.tokens > 0 ? 'added' : 'took back';
    parts.push(`Corrections ${did} ${number(Math.abs(e.correction.tokens))} tokens since the last step.`);
  }
  // It halves with every step, and is never quite 0 again.
  if (e.correction.extraPerSec > leastExtra * e.demandPerSec)
    parts.push(`It asks for ${number(e.correction.extraPerSec)} tokens/s beyond its forecast.`);
  if (e.credits !== 0) parts.push(`Its credits are ${number(e.credits)} tokens per unit of weight.`);
  if (e.borrowShare > 0) parts.push(`Until the next tick it may borrow ${number(e.borrowShare)} tokens.`);
  for (const { engine, allocator, ratePerSec, deniedTokens } of e.shadows)
    parts.push(
      `Under engine ${engine} and allocator ${allocator} it would have ${number(ratePerSec)} tokens/s, and ${number(deniedTokens)} tokens would have been denied so far.`,
    );
  return parts.join(' ');
}
