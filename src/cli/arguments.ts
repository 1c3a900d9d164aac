/**
 * Command lines: a subcommand describes its options in a table, from which its parsing, its error
 * messages and its `--help` follow.
 */
import { nearest } from "../config/nearest.ts";

/** One option of a subcommand. */
export interface Option {
  /** `--port` */
  readonly long: string;
  /** `-p` */
  readonly short?: string;
  /** What its value is called in the help ("N"); an option without one takes no value. */
  readonly value?: string;
  /** One line for the help. */
  readonly about: string;
}

/** A subcommand, one a file. */
export interface Subcommand {
  /** What follows "merklekv" in the usage line. */
  readonly usage: string;
  /** What it does, in a few lines. */
  readonly about: string;
  readonly options: readonly Option[];
  /**
   * Whether words may follow the options; the first word ends them, unless options may be
   * "anywhere".
   */
  readonly acceptsOperands?: boolean | "anywhere";
  /** Does the work; resolves with the exit code. Throws an OperationalError when it cannot. */
  run(given: Arguments): Promise<number>;
}

/** What somebody typed. */
export class Arguments {
  /** The words after the options. */
  readonly words: string[] = [];
  private readonly values = new Map<string, string>();

  /** Whether the option, named in its long form, was given. */
  has(long: string): boolean {
    return this.values.has(long);
  }

  /** The option's value, if it was given. */
  get(long: string): string | undefined {
    return this.values.get(long);
  }

  /** The option's value as a TCP port, 0 to 65535. Throws a UsageError for anything else. */
  port(long: string, fallback: number): number {
    const text = this.values.get(long);
    if (text === undefined) return fallback;
    if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
    throw new UsageError(`${long}: found "${text}"; allowed: a port from 0 to 65535`);
  }

  /** Used by `parseArguments`. */
  set(long: string, value: string): void {
    this.values.set(long, value);
  }
}

/** The command line makes no sense; the message says which part, and what would. */
export class UsageError extends Error {}

/**
 * Reads `--long value`, `--long=value`, `-s value`, `-svalue`, `--` and words. Throws UsageError.
 */
export function parseArguments(subcommand: Subcommand, argv: readonly string[]): Arguments {
  const given = new Arguments();
  const rest = [...argv];
  const isAnywhere = subcommand.acceptsOperands === "anywhere";
  while (rest.length > 0 && (isAnywhere || isOption(rest[0]))) {
    const argument = rest.shift()!;
    if (!isOption(argument)) {
      given.words.push(argument);
      continue;
    }
    if (argument === "--") break;
    const { option, attached } = find(subcommand, argument);
    if (!option.value && attached !== undefined) {
      throw new UsageError(`${option.long} takes no value, found "${attached}"`);
    }
    const value = option.value ? (attached ?? rest.shift()) : "";
    if (value === undefined) throw new UsageError(`${option.long} needs a value: ${option.value}`);
    given.set(option.long, value);
  }
  if (rest.length > 0 && !subcommand.acceptsOperands)
    throw new UsageError(`unexpected "${rest[0]}"`);
  given.words.push(...rest);
  return given;
}

function isOption(argument: string): boolean {
  return /^-./.test(argument);
}

function find(subcommand: Subcommand, argument: string): { option: Option; attached?: string } {
  const isLong = argument.startsWith("--");
  const cut = isLong ? argument.indexOf("=") : argument.length > 2 ? 2 : -1;
  const name = cut === -1 ? argument : argument.slice(0, cut);
  const option = subcommand.options.find(({ long, short }) => name === long || name === short);
  if (!option) {
    const known = [...subcommand.options.map(({ long }) => long), "--help"];
    throw new UsageError(`unknown option ${name}; did you mean ${nearest(name, known)}?`);
  }
  return cut === -1 ? { option } : { option, attached: argument.slice(isLong ? cut + 1 : cut) };
}

/** What every subcommand understands as its first word. */
export const helpOption: Option = { long: "--help", about: "Print this and exit." };

/** The text of `merklekv NAME --help`. */
export function helpOf(subcommand: Subcommand): string {
  const rows = [...subcommand.options, helpOption].map(({ long, short, value, about }: Option) => {
    const names = `${short ? `${short}, ` : "    "}${long}${value ? ` ${value}` : ""}`;
    return `  ${names.padEnd(24)} ${about}`;
  });
  return [
    `Usage: merklekv ${subcommand.usage}`,
    "",
    subcommand.about,
    "",
    "Options:",
    ...rows,
  ].join("\n");
}
