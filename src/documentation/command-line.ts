/** The command line as manual pages and completions need it: each subcommand, what it takes. */
import { helpOption, type Option } from "../cli/arguments.ts";
import { subcommands } from "../cli/subcommands.ts";
import { commandTable } from "../commands/table.ts";

/** A subcommand, with all that is to be known of it. */
export interface CommandLine {
  /** `serve` */
  readonly name: string;
  /** What it does, in a line. */
  readonly about: string;
  /** What follows "merklekv" in the usage line. */
  readonly usage: string;
  /** What it does, in a few lines. */
  readonly description: string;
  readonly options: readonly Option[];
  readonly operands: Operands;
}

/** What may stand where no option does. */
export interface Operands {
  /** Words that are meant as they are. */
  readonly words: readonly string[];
  /** Whether paths of files or directories may stand there. */
  readonly areFiles: boolean;
}

/** All of them, in the order of the overview. */
export async function commandLines(): Promise<CommandLine[]> {
  const rows = Object.entries(subcommands).map(async ([name, { about, load }]) => {
    const { usage, about: description, options } = await load();
    const operands = operandsOf(name, usage);
    return { name, about, usage, description, options: [...options, helpOption], operands };
  });
  return Promise.all(rows);
}

/** Whether an option's value, by what it is called in the help, is the path of something. */
export function isPath(value: string): boolean {
  return /^(FILE|DIR)\b/.test(value);
}

/** Read from a usage line, in which words in capitals stand for something else. */
function operandsOf(name: string, usage: string): Operands {
  const bare = usage.replace(/\[-[^\]]*\]|--[\w-]+ \S+/g, "").replace(/^\S+/, "");
  const words = [...bare.matchAll(/[\w:]+/g)].map(([word]) => word);
  const literal = words.filter((word) => /^[a-z]+$/.test(word) && word !== name);
  return {
    // What a node is asked is a command of its own.
    words: bare.includes("COMMAND") ? nodeCommands() : [...new Set(literal)],
    areFiles: words.some(isPath),
  };
}

function nodeCommands(): string[] {
  return commandTable.commands.flatMap(({ names }) => names.map((it) => it.toUpperCase())).sort();
}
