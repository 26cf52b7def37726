import { ForetokenError } from '../errors.js';

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };

const invalid = (option: string, expected: string, got: string): ForetokenError =>
  new ForetokenError('INVALID_OPTION', `--${option}: expected ${expected}, got ${JSON.stringify(got)}`);

/** A duration with its unit, as `500ms`, `5s`, `2m` or `1h`, in ms. */
export function parseDurationMs(option: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|min|m|h)$/.exec(text);
  const ms = match ? Number(match[1]) * unitMs[match[2]!]! : 0;
  if (!(ms > 0 && ms <= 1e12)) throw invalid(option, 'a duration above 0 such as 500ms, 5s, 2m or 1h', text);
  return ms;
}

/** The shortest way to write a duration that `parseDurationMs` reads back as the same; none at all is `0s`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s';
  for (const unit of ['h', 'm', 's'] as const) if (ms % unitMs[unit]! === 0) return `${ms / unitMs[unit]!}${unit}`;
  return `${ms}ms`;
}

/** A rate in tokens/s, or as a multiple (`4x`) of something measured later. */
export type Rate = { tokensPerSec: number } | { timesMean: number };

export function parseRate(option: string, text: string): Rate {
  const match = /^(\d+(?:\.\d+)?(?:e[+-]?\d+)?)(x?)$/i.exec(text);
  const value = match ? Number(match[1]) : 0;
  if (!(value > 0 && value <= 1e15))
    throw invalid(option, 'tokens/s or a multiple of the mean demand such as 4x', text);
  return match![2] ? { timesMean: value } : { tokensPerSec: value };
}

export function parseNumber(option: string, text: string, least: number, most: number, whole: boolean): number {
  const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value)))
    throw invalid(option, `a ${whole ? 'whole ' : ''}number from ${least} to ${most}`, text);
  return value;
}

export function parseChoice<T extends string>(option: string, text: string, choices: readonly T[]): T {
  if (!(choices as readonly string[]).includes(text)) throw invalid(option, choices.join(' or '), text);
  return text as T;
}

export const parseSwitch = (option: string, text: string): boolean => parseChoice(option, text, ['on', 'off']) === 'on';
