import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { explainPast } from '../control/explain.js';
import { ForetokenError } from '../errors.js';
import { openDuckDbHistory } from '../history/duckdb.js';
import { command, type Reader, text, type Values } from './command.js';

const help = `foretoken explain TARGET --history FOLDER: why a target had the tokens it had.

  --history FOLDER  the history that was given to Foretoken.open; no process may have it open
  --at TIME         as of then: 2026-01-31T12:00:00Z or Unix milliseconds; default: as recorded last
  --json            the whole explanation as JSON`;

const moment: Reader<number> = (option, given) => {
  const timeMs = /^\d+$/.test(given) ? Number(given) : Date.parse(given);
  if (Number.isFinite(timeMs)) return timeMs;
  throw new ForetokenError('INVALID_OPTION', `--${option}: expected a time, got ${JSON.stringify(given)}`);
};

const flags = { history: text, at: moment, json: 'switch' } as const;

/** `foretoken explain`. */
export const explainCommand = command({ name: 'explain', help, flags, takesOperands: true, run });

async function run({ history: folder, at, json }: Values<typeof flags>, operands: string[]): Promise<number> {
  const [target] = operands;
  if (operands.length !== 1 || target === undefined || !folder)
    throw new ForetokenError('INVALID_OPTION', 'expected one target and --history; see --help');
  const path = join(folder, 'history.duckdb');
  if (!existsSync(path)) throw new ForetokenError('HISTORY_UNAVAILABLE', `history ${path}: there is none`);
  await using history = await openDuckDbHistory({ path });
  const latestMs = at ?? (await history.decisions(target, 0, Number.MAX_SAFE_INTEGER)).at(-1)?.timeMs ?? Date.now();
  const explanation = await explainPast(history, target, latestMs);
  console.log(json ? JSON.stringify(explanation, undefined, 2) : explanation.text);
  return 0;
}
