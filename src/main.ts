/**
 * The entry point: argv → subcommand → exit code. 0: done; 1: it could not be done; 2: the command
 * line makes no sense.
 */
import { helpOf, parseArguments, UsageError } from "./cli/arguments.ts";
import { subcommands } from "./cli/subcommands.ts";
import { nearest } from "./config/nearest.ts";
import { OperationalError } from "./operational-error.ts";
import { version } from "./version.ts";

/**
 * Variables by which the runtime inside the executable can be made to run other code beside this
 * program's, or to let others in. (`BUN_BE_BUN` is not among them: with that, this never runs.)
 */
const RUNTIME_VARIABLES = [
  "BUN_OPTIONS",
  "BUN_INSPECT",
  "BUN_INSPECT_CONNECT_TO",
  "BUN_INSPECT_PRELOAD",
] as const;

/** Refuses to be the executable with another's code in it. From sources, Bun is the user's own. */
function checkRuntime(): void {
  if (!import.meta.dir.includes("$bunfs")) return;
  const found = RUNTIME_VARIABLES.find((name) => process.env[name]);
  if (found === undefined) return;
  throw new OperationalError(
    `${found} is set, which changes the runtime inside this program; unset it: ` +
      `env -u ${found} merklekv …`,
  );
}

function overview(): string {
  const rows = Object.entries(subcommands).map(
    ([name, { about }]) => `  ${name.padEnd(8)} ${about}`,
  );
  return [
    `MerkleKV ${version}: a distributed, eventually consistent key-value store that heals itself`,
    "",
    "Usage: merklekv [COMMAND] [OPTION…]",
    "",
    "Commands:",
    ...rows,
    "",
    "merklekv COMMAND --help says more. merklekv --version prints the version.",
  ].join("\n");
}

async function main(argv: string[]): Promise<number> {
  // Whatever file is made by this process or what it brings along: others have no business in it.
  process.umask(0o077);
  try {
    checkRuntime();
    return await run(argv);
  } catch (error) {
    console.error(`merklekv: ${explain(error)}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function run(argv: string[]): Promise<number> {
  const first = argv[0];
  if (first === "--help" || first === "help") {
    console.log(overview());
    return 0;
  }
  if (first === "--version") {
    console.log(`MerkleKV ${version}`);
    return 0;
  }
  const isNamed = first !== undefined && !first.startsWith("-");
  const name = isNamed ? first : "serve";
  if (!Object.hasOwn(subcommands, name)) {
    const near = nearest(name, Object.keys(subcommands));
    throw new UsageError(`unknown command "${name}"; did you mean ${near}?`);
  }
  const command = await subcommands[name].load();
  const rest = isNamed ? argv.slice(1) : argv;
  if (rest[0] === "--help") {
    console.log(helpOf(command));
    return 0;
  }
  return await command.run(parseArguments(command, rest));
}

/** One line for everything foreseen; a mistake in the program shows where it is. */
function explain(error: unknown): string {
  if (error instanceof OperationalError || error instanceof UsageError) return error.message;
  return `a bug in MerkleKV: ${Bun.inspect(error)}`;
}

process.exit(await main(process.argv.slice(2)));
