/** Manual pages: one of the program, one for each subcommand, and one of the configuration file. */
import type { Option } from "../cli/arguments.ts";
import type { Field } from "../config/field.ts";
import { keyNames, schema } from "../config/schema.ts";
import { version } from "../version.ts";
import type { CommandLine } from "./command-line.ts";

const COMMANDS = "User Commands";
const FORMATS = "File Formats";
const CONFIG_PAGE = "merklekv.toml";

/** File name → page. `date` is the day of the release, `2026-01-31`. */
export function manualPages(lines: readonly CommandLine[], date: string): Map<string, string> {
  const pages = new Map([
    ["merklekv.1", overviewPage(lines, date)],
    [`${CONFIG_PAGE}.5`, configPage(date)],
  ]);
  for (const line of lines) pages.set(`merklekv-${line.name}.1`, commandPage(line, date));
  return pages;
}

function overviewPage(lines: readonly CommandLine[], date: string): string {
  return page("merklekv", 1, COMMANDS, date, [
    ...section("NAME", "merklekv \\- distributed key-value store that heals itself"),
    ...section("SYNOPSIS", ".B merklekv", `${plain("[COMMAND] [OPTION…]")}`),
    ...section(
      "DESCRIPTION",
      plain("MerkleKV keeps keys and values in the memory of several nodes and on their disks."),
      plain("Nodes tell each other of writes through an MQTT broker, compare themselves with"),
      plain("each other by Merkle trees, and heal what got lost."),
      plain("Without a COMMAND it runs a node, as merklekv serve does."),
    ),
    ...section(
      "COMMANDS",
      ...lines.flatMap(({ name, about }) => [".TP", `.BR merklekv\\-${name} (1)`, plain(about)]),
    ),
    ...section(
      "OPTIONS",
      ...optionLines([
        { long: "--help", about: "Print an overview and exit." },
        { long: "--version", about: "Print the version and exit." },
      ]),
    ),
    ...section("EXIT STATUS", ...exitStatus),
    ...section("ENVIRONMENT", ...environment),
    ...section("SEE ALSO", `.BR ${CONFIG_PAGE} (5)`),
  ]);
}

const exitStatus = [
  ...[".TP", ".B 0", plain("Done.")],
  ...[".TP", ".B 1", plain("It could not be done; standard error says why.")],
  ...[".TP", ".B 2", plain("The command line makes no sense.")],
];

const environment = [
  ...[".TP", ".BI MERKLE_KV_ SECTION _ KEY"],
  plain("Overrides a key of the configuration file: MERKLE_KV_NETWORK_BIND_PORT, for one."),
  ...[".TP", ".BR NOTIFY_SOCKET , WATCHDOG_USEC"],
  plain("Set by a service manager that is to be told when the node is ready; see sd_notify(3)."),
  ...[".TP", ".BR BUN_OPTIONS , BUN_INSPECT"],
  plain("Act on the runtime inside the program, which refuses to run with them."),
];

function commandPage(line: CommandLine, date: string): string {
  const { name, about, usage, description, options } = line;
  const title = `merklekv-${name}`;
  const summary = about.charAt(0).toLowerCase() + about.slice(1);
  return page(title, 1, COMMANDS, date, [
    ...section("NAME", `${plain(title)} \\- ${plain(summary)}`),
    ...section("SYNOPSIS", ".B merklekv", plain(usage)),
    ...section("DESCRIPTION", ...description.split("\n").map(plain)),
    ...section("OPTIONS", ...optionLines(options)),
    ...section("SEE ALSO", ".BR merklekv (1),", `.BR ${CONFIG_PAGE} (5)`),
  ]);
}

function optionLines(options: readonly Option[]): string[] {
  return options.flatMap(({ long, short, value, about }) => {
    const names = [...(short === undefined ? [] : [short]), long].map(
      (it) => `\\fB${plain(it)}\\fR`,
    );
    const operand = value === undefined ? "" : ` \\fI${plain(value)}\\fR`;
    return [".TP", `${names.join(", ")}${operand}`, plain(about)];
  });
}

function configPage(date: string): string {
  return page(CONFIG_PAGE, 5, FORMATS, date, [
    ...section("NAME", `${plain(CONFIG_PAGE)} \\- configuration of a MerkleKV node`),
    ...section(
      "DESCRIPTION",
      plain("A file in TOML, which merklekv serve --config FILE reads. A key with a dot is in a"),
      plain("section: network.bind_port is bind_port below [network]. Each key can be set by the"),
      plain("environment as well: MERKLE_KV_NETWORK_BIND_PORT."),
    ),
    ...section("KEYS", ...keyNames.flatMap((name) => keyLines(name, schema[name]))),
    ...section("SEE ALSO", ".BR merklekv\\-serve (1)"),
  ]);
}

function keyLines(name: string, field: Field<unknown>): string[] {
  const fallback = field.fallbackText ?? JSON.stringify(field.fallback);
  return [
    ".TP",
    `\\fB${plain(name)}\\fR`,
    markdown(field.doc),
    ".br",
    `Default: ${markdown(fallback)}. Allowed: ${markdown(field.allowed)}.`,
  ];
}

function page(
  title: string,
  number: number,
  kind: string,
  date: string,
  lines: readonly string[],
): string {
  const head = `.TH "${plain(title.toUpperCase())}" ${number} "${date}" "MerkleKV ${version}" "${kind}"`;
  // Names of options and variables are to be found and copied in one piece.
  return `${[head, ".nh", ".ad l", ...lines].join("\n")}\n`;
}

function section(title: string, ...lines: string[]): string[] {
  return [`.SH ${title}`, ...lines];
}

/** Text as roff reads it: no line of it is a request, and a hyphen is one that can be copied. */
function plain(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("…", "\\&...")
    .replace(/^([.'])/, "\\&$1");
}

/** The same of the little Markdown that descriptions of keys are written in. */
function markdown(text: string): string {
  const unlinked = text.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
  return plain(unlinked).replace(/`([^`]*)`/g, "\\fB$1\\fR");
}
