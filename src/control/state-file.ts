import { open, readFile, rename, stat } from 'node:fs/promises';
import type { RulesRecord } from '../allocate/rules.js';
import { ForetokenError, messageOf } from '../errors.js';
import type { LimiterRecord } from './limiter.js';
import { type PooledTrust, type TrustRecord, verdicts } from './trust.js';

/** What is kept of one target. */
export interface KeptTarget {
  name: string;
  /** When it was last there, Unix ms. */
  seenMs: number;
  /** Balance of its credits, tokens per unit of weight. */
  credit: number;
  /** Whether its forecasts have proved themselves. */
  trust?: TrustRecord;
}

/** What a controller has learnt that does not come back from the history. */
export interface KeptState {
  /** Losses of rules are of such steps. */
  stepMs: number;
  limiter?: LimiterRecord;
  rules: RulesRecord;
  /** Evidence on the forecasts of all targets together. */
  trust?: PooledTrust;
  targets: Iterable<KeptTarget>;
}

const format = 'foretoken-controller-state-2';
/** Targets kept; a file of so many is about 30 MB. */
const mostTargets = 100_000;
const mostBytes = 64 * 2 ** 20;
/** Written at a time, so that ticks go on meanwhile. */
const chunkLines = 500;

/**
 * Writes the state beside its place and moves it in, so that a file is whole or the one before. One JSON document a
 * line: what it is, the targets, how many they were.
 * @throws what the file system says
 */
export async function writeState(path: string, state: KeptState): Promise<void> {
  const { targets, ...head } = state;
  const file = await open(`${path}.new`, 'w', 0o600);
  try {
    let lines = [JSON.stringify({ format, ...head })];
    let count = 0;
    for (const target of targets) {
      if (count === mostTargets) break;
      lines.push(JSON.stringify(target));
      count++;
      if (lines.length < chunkLines) continue;
      await file.writeFile(`${lines.join('\n')}\n`);
      lines = [];
    }
    lines.push(JSON.stringify({ targets: count }));
    await file.writeFile(`${lines.join('\n')}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}

/**
 * @returns undefined where there is none
 * @throws ForetokenError HISTORY_UNAVAILABLE saying why a file cannot be taken for one: another format, cut off,
 *   numbers that are none, too large
 */
export async function readState(path: string): Promise<(KeptState & { targets: KeptTarget[] }) | undefined> {
  let text: string;
  try {
    if ((await stat(path)).size > mostBytes) throw refused(path, 'it is too large');
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    if (error instanceof ForetokenError) throw error;
    throw refused(path, messageOf(error));
  }
  let documents: unknown[];
  try {
    documents = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
  } catch {
    throw refused(path, 'it is no JSON');
  }
  const head = fieldsOf(documents[0]);
  const targets = documents.slice(1, -1);
  if (head.format !== format) throw refused(path, 'it is something else, or of another version');
  if (fieldsOf(documents.at(-1)).targets !== targets.length) throw refused(path, 'it is cut off');
  const { stepMs, rules, limiter, trust } = head;
  if (!isAmount(stepMs) || !isRules(rules)) throw refused(path, 'its rules are none');
  if (limiter !== undefined && !isLimiter(limiter)) throw refused(path, 'its limit is none');
  if (trust !== undefined && !isEvidence(trust)) throw refused(path, 'its evidence on forecasts is none');
  if (!targets.every(isTarget)) throw refused(path, 'one of its targets is none');
  return { stepMs, rules, targets, ...(limiter && { limiter }), ...(trust && { trust }) };
}

const fieldsOf = (value: unknown): Record<string, unknown> =>
  value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {};

const isAmount = (value: unknown): value is number => Number.isFinite(value) && (value as number) >= 0;

function isRules(value: unknown): value is RulesRecord {
  const { steps, loss, demand } = fieldsOf(value);
  return isAmount(steps) && isAmount(demand) && Array.isArray(loss) && loss.every(isAmount);
}

function isLimiter(value: unknown): value is LimiterRecord {
  const { ratePerSec, bestMs, reported } = fieldsOf(value);
  return isAmount(ratePerSec) && isAmount(bestMs) && isAmount(reported);
}

function isTarget(value: unknown): value is KeptTarget {
  const { name, seenMs, credit, trust } = fieldsOf(value);
  return (
    typeof name === 'string' &&
    isAmount(seenMs) &&
    Number.isFinite(credit) &&
    (trust === undefined || (isEvidence(trust) && isTrust(trust)))
  );
}

function isEvidence(value: unknown): value is PooledTrust {
  const { against, inFavour, usualPerSec } = fieldsOf(value);
  return isAmount(against) && isAmount(inFavour) && isAmount(usualPerSec);
}

function isTrust(value: unknown): value is TrustRecord {
  const { verdict, outcomes, meanPerSec, deviationPerSec } = fieldsOf(value);
  const isVerdict = (verdicts as readonly unknown[]).includes(verdict);
  return isVerdict && isAmount(outcomes) && isAmount(meanPerSec) && isAmount(deviationPerSec);
}

const refused = (path: string, reason: string): ForetokenError =>
  new ForetokenError('HISTORY_UNAVAILABLE', `${path} cannot be read as a controller's state: ${reason}`);
