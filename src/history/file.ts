import { existsSync, linkSync, readdirSync, readlinkSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { threadId } from 'node:worker_threads';
import type { DuckDBConnection } from '@duckdb/node-api';
import { ForetokenError, messageOf } from '../errors.js';
import { makeFolder } from '../folder.js';
import { duckdb } from './bindings.js';
import type { WorkerSettings } from './protocol.js';
import { additions, application, formatVersion, schema } from './schema.js';

/** An open DuckDB file that is known to be a history of a format this version reads. */
export interface HistoryFile {
  connection: DuckDBConnection;
  /** Writes everything into the file itself and lets go of it. */
  close(): void;
}

export const unavailable = (path: string, reason: string, cause?: unknown): ForetokenError =>
  new ForetokenError('HISTORY_UNAVAILABLE', `history ${path}: ${reason}`, { cause });

/** DuckDB's messages run over several lines; the first says what is wrong. */
export const reasonOf = (error: unknown): string => messageOf(error).split('\n', 1)[0]!.slice(0, 300);

/** @throws ForetokenError HISTORY_UNAVAILABLE with path and reason */
export async function openHistoryFile(settings: WorkerSettings): Promise<HistoryFile> {
  const { path } = settings;
  try {
    makeFolder(dirname(path));
    if (!existsSync(path)) await create(settings);
    const real = realpathSync(path);
    refuseSecondOpening(real, 0);
    const file = await open(real, settings);
    try {
      refuseSecondOpening(real, 1);
      await verify(file.connection);
      for (const sql of additions) await file.connection.run(sql);
    } catch (error) {
      await closeUntouched(file);
      throw error;
    }
    return file;
  } catch (error) {
    throw unavailable(path, reasonOf(error), error);
  }
}

async function open(path: string, settings: WorkerSettings): Promise<HistoryFile> {
  const instance = await duckdb.DuckDBInstance.create(path, {
    threads: '1',
    memory_limit: `${settings.memoryLimitMb}MB`,
    // A checkpoint moves the log into the file and costs about 0.3 s per 32 MB; after a kill as much
    // of the log is read again.
    checkpoint_threshold: '32MB',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
  const connection = await instance.connect();
  return {
    connection,
    close(): void {
      connection.closeSync();
      instance.closeSync();
    },
  };
}

/**
 * A new file is made under another name and linked to its own when it is whole, so that a kill never
 * leaves half a file behind and two processes never share one. `link` fails where the name is taken.
 */
async function create(settings: WorkerSettings): Promise<void> {
  const draft = `${settings.path}.new-${process.pid}-${threadId}`;
  rmSync(draft, { force: true });
  try {
    const file = await open(draft, settings);
    try {
      await file.connection.run(`begin; ${schema.join('; ')}; commit`);
    } finally {
      file.close();
    }
    place(draft, settings.path);
  } finally {
    rmSync(draft, { force: true });
    rmSync(`${draft}.wal`, { force: true });
  }
}

function place(draft: string, path: string): void {
  try {
    linkSync(draft, path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EEXIST') return;
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw error;
    // A file system without hard links.
    renameSync(draft, path);
  }
}

/**
 * DuckDB keeps other processes out by a POSIX record lock. Such a lock does not bind the process that
 * holds it, and is lost as soon as that process closes any descriptor of the file: a second opening
 * from another thread would succeed and then let everyone in. So this process's own descriptors are
 * looked at, where the system shows them.
 */
function refuseSecondOpening(realPath: string, own: number): void {
  if (!existsSync('/proc/self/fd')) return;
  const open = readdirSync('/proc/self/fd').filter((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === realPath;
    } catch {
      // The descriptor was closed since it was listed.
      return false;
    }
  });
  if (open.length > own) throw new Error('it is open in this process already');
}

async function verify(connection: DuckDBConnection): Promise<void> {
  const tables = await connection.runAndReadAll("select table_name from duckdb_tables() where schema_name = 'main'");
  if (!tables.getRows().some(([name]) => name === 'meta')) {
    throw new Error('it can be read, but is not a history of foretoken');
  }
  const rows = await connection.runAndReadAll('select key::varchar, value::varchar from meta');
  const meta = new Map(rows.getRows().map(([key, value]) => [String(key), String(value)]));
  if (meta.get('application') !== application) {
    throw new Error('it can be read, but is not a history of foretoken');
  }
  const format = Number(meta.get('format'));
  if (!Number.isInteger(format) || format < 1)
    throw new Error(`its format is ${String(meta.get('format'))}, not a number`);
  if (format > formatVersion) {
    throw new Error(`it has format ${format} of a newer version of foretoken; this one reads up to ${formatVersion}`);
  }
}

/** Somebody else's database must not be rewritten by having been looked at. */
async function closeUntouched(file: HistoryFile): Promise<void> {
  try {
    await file.connection.run('pragma disable_checkpoint_on_shutdown');
  } finally {
    file.close();
  }
}
