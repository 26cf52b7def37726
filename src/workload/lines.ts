import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ForetokenError, messageOf } from '../errors.js';

/** A trace's line is about 40 bytes. Without a bound a file without newlines would be read whole into memory. */
export const maxLineBytes = 65_536;

/** A fault at a place in a file: `file:line: expected …, got …`. */
export const malformed = (file: string, line: number, expected: string, got: string, cause?: unknown): ForetokenError =>
  new ForetokenError(
    'TRACE_MALFORMED',
    `${file}:${line}: expected ${expected}, got ${got}`,
    cause === undefined ? undefined : { cause },
  );

/** What a message shows of foreign text: short, on one line, without control characters. */
export const excerpt = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);

/** The bytes of a file or of standard input, unpacked if they begin with gzip's magic, whatever the name. */
async function* plainBytes(path: string): AsyncGenerator<Buffer> {
  const source: Readable = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 1 << 18 });
  try {
    yield* unpacked(source);
  } finally {
    // Whoever has found a fault reads no further.
    source.destroy();
  }
}

async function* unpacked(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]();
  // A pipe may hand over its first byte alone, and the magic has two.
  let head = Buffer.alloc(0);
  let ended = false;
  while (head.length < 2 && !ended) {
    const next = await chunks.next();
    ended = next.done === true;
    if (!next.done) head = Buffer.concat([head, next.value]);
  }
  async function* rest(): AsyncGenerator<Buffer> {
    yield head;
    while (!ended) {
      const next = await chunks.next();
      if (next.done) return;
      yield next.value;
    }
  }
  if (head.length >= 2 && head[0] === 0x1f && head[1] === 0x8b) {
    const gunzip = createGunzip({ chunkSize: 1 << 18 });
    // The error reaches the reader through `gunzip`, which pipeline destroys with it.
    pipeline(Readable.from(rest(), { objectMode: false }), gunzip, () => {});
    yield* gunzip;
  } else if (head.length > 0) yield* rest();
}

/**
 * Calls `onLine` for each line, in order, without its line end. CRLF, a byte order mark and a missing
 * last newline are taken as they are met; empty lines at the end of the file are ignored.
 * @param path a file, or `-` for standard input
 * @param file its name in messages
 * @returns the number of lines
 * @throws ForetokenError TRACE_MALFORMED with file and line
 */
export async function readLines(
  path: string,
  file: string,
  onLine: (text: string, line: number) => void,
): Promise<number> {
  let line = 0;
  let emptyLine = 0;
  let tail: Buffer = Buffer.alloc(0);

  const take = (raw: string): void => {
    let text = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    line += 1;
    if (line === 1 && text.startsWith('\uFEFF')) text = text.slice(1);
    if (text.length > maxLineBytes) throw tooLong(line);
    if (text === '') {
      if (emptyLine === 0) emptyLine = line;
      return;
    }
    if (emptyLine > 0) throw malformed(file, emptyLine, 'a row', 'an empty line');
    onLine(text, line);
  };
  const tooLong = (at: number): ForetokenError =>
    malformed(file, at, `lines of at most ${maxLineBytes} bytes`, 'a longer one');
  const decode = (bytes: Buffer): void => {
    const valid = isUtf8(bytes);
    for (const text of bytes.toString().split('\n')) {
      if (!valid && text.includes('\uFFFD')) throw malformed(file, line + 1, 'UTF-8 text', excerpt(text));
      take(text);
    }
  };

  try {
    for await (const chunk of plainBytes(path)) {
      const last = chunk.lastIndexOf(10);
      if (last < 0) {
        tail = Buffer.concat([tail, chunk]);
        if (tail.length > maxLineBytes) throw tooLong(line + 1);
        continue;
      }
      decode(Buffer.concat([tail, chunk.subarray(0, last)]));
      // Copied: the stream may reuse the chunk's memory.
      tail = Buffer.from(chunk.subarray(last + 1));
    }
    if (tail.length > 0) decode(tail);
  } catch (error) {
    if (error instanceof ForetokenError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code.startsWith('Z_'))
      throw malformed(
        file,
        line + 1,
        'a whole gzip file',
        `one that breaks off or is damaged (${messageOf(error)})`,
        error,
      );
    throw malformed(file, line + 1, 'a file that can be read', messageOf(error), error);
  }
  return line;
}
