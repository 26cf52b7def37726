import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { ForetokenError } from '../errors.js';
import { parseChoice, parseNumber } from '../lab/units.js';

/** Reads the text given for an option. @throws ForetokenError INVALID_OPTION with option, expected and got */
export type Reader<T> = (option: string, text: string) => T;

/** A command's options by name; a switch takes no value. */
export type Flags = Record<string, Reader<unknown> | 'switch'>;

/** What was given: left out is undefined, a switch is on or off. */
export type Values<F extends Flags> = {
  -readonly [K in keyof F as F[K] extends 'switch' ? K : never]: boolean;
} & {
  -readonly [K in keyof F as F[K] extends 'switch' ? never : K]?: F[K] extends Reader<infer T> ? T : never;
};

export const text: Reader<string> = (_, given) => given;
export const number =
  (least: number, most: number): Reader<number> =>
  (option, given) =>
    parseNumber(option, given, least, most, false);
export const whole =
  (least: number, most: number): Reader<number> =>
  (option, given) =>
    parseNumber(option, given, least, most, true);
export const choice =
  <T extends string>(choices: readonly T[]): Reader<T> =>
  (option, given) =>
    parseChoice(option, given, choices);
export const list =
  <T>(read: Reader<T>): Reader<T[]> =>
  (option, given) =>
    given.split(',').map((part) => read(option, part));
export const seed = whole(0, 2 ** 32 - 1);

export interface CommandSpec<F extends Flags> {
  name: string;
  /** What `--help` prints. */
  help: string;
  flags: F;
  /** Whether it takes anything beside options. */
  takesOperands: boolean;
  /** @returns the exit code */
  run: (values: Values<F>, operands: string[], argv: readonly string[]) => Promise<number> | number;
}

/**
 * A command of the command line. Results belong on standard output, progress and errors on standard error.
 * @returns what runs it: exit code 0 done, 1 something failed, 2 wrong options. Errors without a code are faults of
 *   the program and go on.
 */
export function command<F extends Flags>(spec: CommandSpec<F>): (argv: string[]) => Promise<number> {
  return async (argv) => {
    try {
      const { values, positionals } = parse(spec, argv);
      if (values.help !== true) return await spec.run(read(spec.flags, values), positionals, argv);
      console.log(spec.help);
      return 0;
    } catch (error) {
      if (!(error instanceof ForetokenError)) throw error;
      console.error(`foretoken ${spec.name}: ${error.message}`);
      return isMisuse(error) ? 2 : 1;
    }
  };
}

const isMisuse = ({ code }: ForetokenError): boolean => code === 'INVALID_OPTION' || code === 'INVALID_ARGUMENT';

/** The one operand of commands that read a trace. */
export function oneTrace(operands: readonly string[]): string {
  if (operands.length === 1) return operands[0]!;
  const got = operands.length === 0 ? 'none' : operands.join(' ');
  throw new ForetokenError('INVALID_OPTION', `expected one trace, a file or -, got ${got}; see --help`);
}

/**
 * Files that a command is to write must be others than those it reads, and each other.
 * @param inputs by what they are, for the message
 * @param outputs by the name of their options
 */
export function checkOutputs(inputs: Record<string, string>, outputs: Record<string, string | undefined>): void {
  const taken = new Map(Object.entries(inputs).map(([what, file]) => [place(file), what]));
  for (const [option, file] of Object.entries(outputs)) {
    if (file === undefined) continue;
    const other = taken.get(place(file));
    if (other !== undefined)
      throw new ForetokenError(
        'INVALID_OPTION',
        `--${option}: expected a file of its own, got ${JSON.stringify(file)}, ${other}`,
      );
    taken.set(place(file), `that of --${option}`);
  }
}

/** What a path leads to, whatever way it is written. */
function place(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return resolve(file);
  }
}

/** `--rate -1` as `--rate=-1`: that option then says what is wrong with it, where parseArgs would only wonder. */
const withNumbersJoined = (argv: readonly string[]): string[] => {
  const joined: string[] = [];
  for (const word of argv) {
    const before = joined.at(-1);
    if (/^-\d/.test(word) && before !== undefined && /^--[a-z]+$/.test(before)) joined[joined.length - 1] += `=${word}`;
    else joined.push(word);
  }
  return joined;
};

function parse({ flags, takesOperands }: Pick<CommandSpec<Flags>, 'flags' | 'takesOperands'>, argv: string[]) {
  const options: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean', short: 'h' } };
  for (const [name, flag] of Object.entries(flags)) options[name] = { type: flag === 'switch' ? 'boolean' : 'string' };
  try {
    return parseArgs({ args: withNumbersJoined(argv), options, allowPositionals: takesOperands });
  } catch (error) {
    // parseArgs names the option and what is wrong with it, then how to escape it, which helps nobody here.
    const reason = (error as Error).message.split(/\n|\. To specify/)[0]!.replace(/\.$/, '');
    throw new ForetokenError('INVALID_OPTION', `${reason}; see --help`, { cause: error });
  }
}

function read<F extends Flags>(flags: F, given: ReturnType<typeof parse>['values']): Values<F> {
  const values: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(flags)) {
    const value = given[name];
    if (flag === 'switch') values[name] = value === true;
    else if (typeof value === 'string') values[name] = flag(name, value);
  }
  return values as Values<F>;
}
