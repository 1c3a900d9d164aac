/**
 * `bun run brokers [--install] [--only NAME[,NAME…]] [--list] [--sealed] [--update-docs]`: tries clusters of
 * three over each broker that is installed, with a cluster secret if `--sealed`, and prints a table. `--install` first installs what is missing;
 * that takes a compiler for Go and Rust, Maven, Python and Debian's packages, and a few minutes.
 * `--update-docs` puts the table into `docs/brokers.md`. Exit code 1: something failed.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type BrokerKind, brokerKinds } from "./broker-kinds.ts";
import { STEPS, tryBroker, type Trial } from "./trial.ts";

const DOCS = join(import.meta.dir, "..", "..", "docs", "brokers.md");
const TABLE_BEGIN = "<!-- table: bun run brokers --update-docs -->";
const TABLE_END = "<!-- end of table -->";

const { values } = parseArgs({
  options: {
    install: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    list: { type: "boolean", default: false },
    sealed: { type: "boolean", default: false },
    "update-docs": { type: "boolean", default: false },
  },
});
const wanted = values.only.split(",").filter((name) => name !== "");
const kinds = brokerKinds.filter(
  ({ name }) =>
    wanted.length === 0 || wanted.some((it) => name.toLowerCase().includes(it.toLowerCase())),
);
if (values.list) {
  for (const kind of kinds) console.log(`${kind.name}: ${kind.version() ?? "not installed"}`);
  process.exit(0);
}

const rows: string[][] = [];
let failures = 0;
for (const kind of kinds) {
  if (kind.version() === null && values.install) install(kind);
  const version = kind.version();
  if (version === null) {
    console.error(`skipped: ${kind.name} is not installed (--install)`);
    continue;
  }
  console.error(`… ${kind.name} ${version}`);
  const trial = await tryBroker(kind, values.sealed).catch((error: unknown) => String(error));
  if (typeof trial === "string") {
    console.error(`${kind.name}: ${trial}`);
    failures++;
    continue;
  }
  rows.push(rowOf(kind, version, trial));
  failures += [...trial.findings.values()].filter((it) => it !== "yes").length;
  for (const [what, how] of trial.findings) if (how !== "yes") console.error(`  ${what}: ${how}`);
  for (const warning of trial.warnings) console.error(`  ${warning}`);
}
const table = tableOf(rows);
console.log(table);
if (values["update-docs"]) updateDocs(table);
process.exit(failures > 0 ? 1 : 0);

function install(kind: BrokerKind): void {
  for (const command of kind.install()) {
    console.error(`… ${command.join(" ")}`);
    const { exitCode } = Bun.spawnSync([...command], { stdout: "ignore", stderr: "inherit" });
    if (exitCode !== 0) return;
  }
}

function rowOf(kind: BrokerKind, version: string, trial: Trial): string[] {
  const cells: string[] = [...trial.findings.values()].map((how) =>
    how === "yes" ? "yes" : "**no**",
  );
  while (cells.length < STEPS.length) cells.push("");
  return [kind.name, version, trial.protocol, ...cells, kind.advice];
}

function tableOf(all: readonly string[][]): string {
  const header = ["broker", "version", "MQTT", ...STEPS, "what to set"];
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...all.map(line)].join("\n");
}

function updateDocs(text: string): void {
  const page = readFileSync(DOCS, "utf8");
  const [before, rest] = page.split(TABLE_BEGIN);
  const after = rest.split(TABLE_END)[1];
  writeFileSync(DOCS, `${before}${TABLE_BEGIN}\n\n${text}\n\n${TABLE_END}${after}`);
  Bun.spawnSync([process.execPath, "fmt", DOCS]);
}
