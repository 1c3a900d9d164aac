/**
 * The shape of the source, read from its text: which part may import which, what is pure, and that
 * whatever is exported says what it is.
 */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const SOURCE = join(import.meta.dir, "../../src");

/** Importable from anywhere but the pure parts. */
const EVERYWHERE = [
  "arrivals.ts",
  "certificates.ts",
  "config",
  "fact.ts",
  "histogram.ts",
  "observability/log.ts",
  "operational-error.ts",
  "peer-traffic.ts",
  "ports.ts",
  "reading-turns.ts",
  "security",
  "send-queue.ts",
  "socket-reading.ts",
  "timing.ts",
  "trace-context.ts",
  "tracer.ts",
  "version.ts",
];
const BELOW_ADAPTERS = ["access", "core", "protocol", ...EVERYWHERE];
const ADAPTERS = [
  ...["server", "durability", "replication", "anti-entropy", "observability", "http"],
  "tracing",
];

/** Part → what it may import besides itself: folders, or single files. */
const ARROWS: Record<string, string[]> = {
  "core/bytes.ts": [],
  "core/data": ["core/bytes.ts"],
  "core/store": ["core/bytes.ts", "core/data"],
  "core/tree": ["core/bytes.ts", "core/data", "core/store"],
  "core/link": ["core/bytes.ts"],
  "core/sync": ["core/bytes.ts", "core/data", "core/store", "core/tree"],
  protocol: ["core"],
  config: ["core/data/name.ts", "fact.ts", "operational-error.ts"],
  "timing.ts": [],
  "trace-context.ts": [],
  "tracer.ts": ["core/store/outcome.ts", "trace-context.ts"],
  "arrivals.ts": ["timing.ts"],
  "reading-turns.ts": ["timing.ts"],
  "socket-reading.ts": ["reading-turns.ts"],
  "version.ts": ["../package.json"],
  "operational-error.ts": [],
  security: ["core/bytes.ts", "operational-error.ts", "timing.ts"],
  "certificates.ts": ["fact.ts", "observability/log.ts", "security", "timing.ts"],
  "fact.ts": ["histogram.ts"],
  "histogram.ts": [],
  "peer-traffic.ts": ["fact.ts"],
  "ports.ts": ["config/address.ts", "protocol/resp-value.ts"],
  "send-queue.ts": ["core/bytes.ts"],
  "core/glob.ts": ["core/data"],
  access: ["core", ...EVERYWHERE],
  commands: BELOW_ADAPTERS,
  ...Object.fromEntries(ADAPTERS.map((adapter) => [adapter, BELOW_ADAPTERS])),
  // The only adapter that runs commands.
  server: ["commands", ...BELOW_ADAPTERS],
  "world.ts": [...BELOW_ADAPTERS, "anti-entropy", "durability", "replication"],
  "sweep-loop.ts": ["core", "timing.ts"],
  "clock-watch.ts": ["core", "fact.ts", "observability/log.ts", "ports.ts", "timing.ts"],
  "replica-upkeep.ts": ["anti-entropy", "replication", ...BELOW_ADAPTERS],
  "replica.ts": [
    ...BELOW_ADAPTERS,
    ...["anti-entropy", "clock-watch.ts", "durability", "replica-upkeep.ts", "replication"],
    ...["sweep-loop.ts", "world.ts"],
  ],
  "node-address.ts": [...EVERYWHERE, "replication"],
  "node-broker.ts": [...EVERYWHERE, "node-address.ts", "node-certificates.ts", "replication"],
  "node-certificates.ts": [...EVERYWHERE, "world.ts"],
  "node-facts.ts": [
    ...["commands", ...BELOW_ADAPTERS, ...ADAPTERS],
    ...["clock-watch.ts", "node-certificates.ts", "node-secrets.ts", "node-tracing.ts"],
    "replica.ts",
  ],
  "node-settings.ts": ["commands", ...EVERYWHERE],
  "node-secrets.ts": ["world.ts", ...BELOW_ADAPTERS],
  "node-tracing.ts": ["tracing", ...EVERYWHERE],
  "node-users.ts": ["commands", "durability", "world.ts", ...BELOW_ADAPTERS],
  "node-view.ts": [
    ...["anti-entropy", "clock-watch.ts", "http", "replica.ts", "replication"],
    ...BELOW_ADAPTERS,
  ],
  "node-http.ts": ["commands", "durability", "http", "replica.ts", ...BELOW_ADAPTERS],
  "node-open-files.ts": ["config", "node-http.ts", "server"],
  "node-companions.ts": [
    ...["node-broker.ts", "node-certificates.ts", "node-http.ts", "node-open-files.ts"],
    ...["node-secrets.ts", "node-tracing.ts", "node-users.ts"],
    ...["durability", "observability", "replication", "world.ts", ...EVERYWHERE],
  ],
  "node-replica.ts": [
    ...["node-address.ts", "node-broker.ts", "node-companions.ts"],
    ...["core", "replica.ts", "world.ts", ...EVERYWHERE],
  ],
  "node-exposure.ts": ["durability", "node-replica.ts", "replication", ...EVERYWHERE],
  "node-services.ts": [
    ...["node-companions.ts", "node-facts.ts", "node-settings.ts", "node-view.ts"],
    ...["anti-entropy", "commands", "durability", "replication", "server"],
    ...["replica.ts", "world.ts", ...BELOW_ADAPTERS],
  ],
  "node.ts": [
    ...["node-companions.ts", "node-exposure.ts", "node-facts.ts", "node-http.ts"],
    ...["node-open-files.ts", "node-replica.ts", "node-services.ts", "node-settings.ts"],
    ...["node-users.ts", "node-view.ts"],
    ...["commands", "durability", "http", "server", "replica.ts", "world.ts", ...BELOW_ADAPTERS],
  ],
  documentation: ["cli", "commands", "http", "node-facts.ts", "observability", ...EVERYWHERE],
  cli: ["commands", ...BELOW_ADAPTERS, ...ADAPTERS, "node.ts", "world.ts"],
  "main.ts": ["cli", ...EVERYWHERE],
};

/** Package → the file, or the two of them, that may import it. */
const OWNERS: Record<string, string | readonly string[]> = {
  "@iarna/toml": "config/load.ts",
  "@opentelemetry": "tracing/open-telemetry.ts",
  aedes: "replication/embedded-broker.ts",
  "aedes-persistence": "replication/broker-store.ts",
  "cbor-x": "replication/event-codec.ts",
  htm: "http/console.ts",
  mqtt: ["replication/mqtt-client.ts", "replication/mqtt-transport.ts"],
  // Of the runtime's own the pure parts import nothing else: this is a function of its arguments.
  "node:zlib": "core/data/compression.ts",
  "mqtt-packet": "replication/mqtt-codes.ts",
};

/** What the pure parts get passed in instead: time, chance, and the world outside. */
const IMPURE =
  /\b(Date\.now|new Date|performance\.|Math\.random|getRandomValues|randomUUID|setTimeout|setInterval|setImmediate|process\.|fetch\(|Bun\.(listen|connect|file|write|spawn|serve|sleep|udpSocket|nanoseconds))/;

/**
 * What everybody is handed down from `world.ts`, so that the simulation can hand down something
 * else. The command line, which no simulation runs, may take it from where it likes.
 */
const WORLDLY =
  /\b(Date\.now|new Date\(\)|performance\.|Math\.random|getRandomValues|randomUUID|randomBytes|threadCpuUsage|(?<!\.)set(Timeout|Interval|Immediate)|Bun\.(sleep|sleepSync|nanoseconds|randomUUIDv7))/;
const IS_WORLDLY = /^(world\.ts|main\.ts|cli\/)/;

const MAX_LINE = 100;
const MAX_FUNCTION_LINES = 70;
const LITERAL = /"[^"]*"|'[^']*'|`[^`]*`/g;
/** Head of what is in braces and no function. */
const NO_FUNCTION =
  /^\s*(\}|if|for|while|switch|try|do|class|export (abstract )?class|interface)\b|^\s*\}/;

/** Functions, methods and arrow functions that are too long, by the indentation of what is formatted. */
function longFunctionsOf(lines: readonly string[]): string[] {
  const problems: string[] = [];
  for (const [i, line] of lines.entries()) {
    if (!/(\)|\)[^()]*|=>) \{$/.test(line) || NO_FUNCTION.test(line)) continue;
    const indent = /^\s*/.exec(line)![0];
    const end = lines.findIndex((it, at) => at > i && it.startsWith(`${indent}}`));
    if (end - i + 1 <= MAX_FUNCTION_LINES) continue;
    problems.push(`line ${i + 1}: a function of ${end - i + 1} lines`);
  }
  return problems;
}

/** What is said to people stays in one piece, to be found by it: a literal counts for nothing. */
function longLinesOf(lines: readonly string[]): string[] {
  const columns = (line: string): number =>
    /^\s*(\*|\/[/*])/.test(line) ? line.length : line.replace(LITERAL, '""').length;
  const long = lines.flatMap((line, i) => (columns(line) > MAX_LINE ? [i + 1] : []));
  return long.map((line) => `line ${line} has more than ${MAX_LINE} columns`);
}

/** Every broken rule of one file, `path` relative to the source folder. */
function problemsOf(path: string, source: string): string[] {
  const part = partOf(path);
  const isPure = /^(core|protocol)\b/.test(part);
  const problems: string[] = [];
  if (!source.startsWith("/**")) problems.push("does not begin with a comment on its purpose");
  if (!Object.hasOwn(ARROWS, part)) problems.push(`"${part}" is not a part of the layout`);
  if (isPure && IMPURE.test(source)) problems.push(`uses ${IMPURE.exec(source)![0]}`);

  if (!isPure && !IS_WORLDLY.test(path) && WORLDLY.test(source)) {
    problems.push(`does not take ${WORLDLY.exec(source)![0]} from the world`);
  }

  for (const [, name] of source.matchAll(/(?:\bfrom|^import|\bimport\()\s*"([^"]+)"/gm)) {
    if (name.startsWith(".")) {
      const target = normalize(join(dirname(path), name));
      const allowed = [part, ...(ARROWS[part] ?? [])];
      if (!allowed.some((it) => target === it || target.startsWith(`${it}/`))) {
        problems.push(`imports ${target}`);
      }
    } else if (/^(node|bun)(:|$)/.test(name)) {
      if (isPure && OWNERS[name] !== path) problems.push(`imports ${name}`);
    } else {
      const owner = Object.keys(OWNERS).find((it) => name === it || name.startsWith(`${it}/`));
      if (!owner || ![OWNERS[owner]].flat().includes(path)) problems.push(`imports ${name}`);
    }
  }

  const lines = source.split("\n");
  problems.push(...longLinesOf(lines), ...longFunctionsOf(lines));
  for (const [i, line] of lines.entries()) {
    const isOverload = /^export function .*;$/.test(lines[i - 1] ?? "");
    if (/^export\b/.test(line) && !isOverload && !/\*\/$/.test(lines[i - 1] ?? "")) {
      problems.push(`line ${i + 1} exports without saying what: ${line}`);
    }
  }
  return problems;
}

/** A folder, or a single file beside the folders; inside core its rooms are parts of their own. */
function partOf(path: string): string {
  const names = path.split("/");
  const depth = names[0] === "core" ? 2 : 1;
  return names.slice(0, depth).join("/");
}

const files = readdirSync(SOURCE, { recursive: true })
  .map(String)
  .filter((path) => path.endsWith(".ts"));

/** Paths of the files that a file imports, by its own. */
type Imports = ReadonlyMap<string, readonly string[]>;

function importsOf(path: string, source: string): string[] {
  const names = source.matchAll(/(?:\bfrom|^import|\bimport\()\s*"(\.[^"]+)"/gm);
  return Array.from(names, ([, name]) => normalize(join(dirname(path), name)));
}

/** A circle of files of which each imports the next; null when there is none. */
function circleIn(imports: Imports): string[] | null {
  const done = new Set<string>();
  const visit = (path: string, way: string[]): string[] | null => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path];
    if (done.has(path)) return null;
    for (const next of imports.get(path) ?? []) {
      const circle = visit(next, [...way, path]);
      if (circle !== null) return circle;
    }
    done.add(path);
    return null;
  };
  for (const path of imports.keys()) {
    const circle = visit(path, []);
    if (circle !== null) return circle;
  }
  return null;
}

test("no file imports itself by way of others", () => {
  const texts = files.map((path) => [path, readFileSync(join(SOURCE, path), "utf8")] as const);
  const imports = new Map(texts.map(([path, text]) => [path, importsOf(path, text)]));
  expect(circleIn(imports)).toBeNull();
});

test("a circle is found out", () => {
  const imports = new Map([
    ["a.ts", ["b.ts", "c.ts"]],
    ["b.ts", []],
    ["c.ts", ["b.ts", "d.ts"]],
    ["d.ts", ["c.ts"]],
  ]);
  expect(circleIn(imports)).toEqual(["c.ts", "d.ts", "c.ts"]);
});

describe("the source keeps to its layout", () => {
  test.each(files)("%s", (path) => {
    expect(problemsOf(path, readFileSync(join(SOURCE, path), "utf8"))).toEqual([]);
  });
});

describe("a file that does not is found out", () => {
  const purpose = "/** Purpose. */\n";
  test.each([
    ["core/data/a.ts", 'import { x } from "../../protocol/b.ts";', "imports protocol/b.ts"],
    ["core/data/a.ts", 'import { readFileSync } from "node:fs";', "imports node:fs"],
    ["core/data/a.ts", 'import { hash } from "bun";', "imports bun"],
    ["core/data/a.ts", "const now = Date.now();", "uses Date.now"],
    [
      "protocol/a.ts",
      'import type { Config } from "../config/schema.ts";',
      "imports config/schema.ts",
    ],
    ["core/store/a.ts", 'import { b } from "../tree/b.ts";', "imports core/tree/b.ts"],
    ["core/tree/a.ts", 'import { b } from "../sync/b.ts";', "imports core/sync/b.ts"],
    ["commands/a.ts", 'import { b } from "../server/b.ts";', "imports server/b.ts"],
    ["server/a.ts", 'import { b } from "../replication/b.ts";', "imports replication/b.ts"],
    ["durability/a.ts", 'import { b } from "../commands/b.ts";', "imports commands/b.ts"],
    ["ports.ts", 'import { b } from "./server/b.ts";', "imports server/b.ts"],
    [
      "server/a.ts",
      'import { b } from "../observability/metrics.ts";',
      "imports observability/metrics.ts",
    ],
    ["config/a.ts", 'const { b } = await import("../core/data/b.ts");', "imports core/data/b.ts"],
    ["node.ts", 'import { serve } from "./cli/serve.ts";', "imports cli/serve.ts"],
    ["replication/outbox.ts", 'import mqtt from "mqtt";', "imports mqtt"],
    [
      "replication/outbox.ts",
      'import x from "cbor-x/index-no-eval";',
      "imports cbor-x/index-no-eval",
    ],
    ["server/a.ts", 'import _ from "lodash";', "imports lodash"],
    ["replica.ts", "const atMs = Date.now();", "does not take Date.now from the world"],
    ["server/a.ts", "setTimeout(end, 1_000);", "does not take setTimeout from the world"],
    ["durability/a.ts", "const at = new Date();", "does not take new Date() from the world"],
    ["anti-entropy/a.ts", "await Bun.sleep(1);", "does not take Bun.sleep from the world"],
    ["anti-entropy/a.ts", 'import { b } from "../world.ts";', "imports world.ts"],
    ["utils/a.ts", "", '"utils" is not a part of the layout'],
    [
      "core/data/a.ts",
      "\nexport const x = 1;",
      "line 3 exports without saying what: export const x = 1;",
    ],
  ])("%s: %s", (path, line, problem) => {
    expect(problemsOf(path, purpose + line)).toEqual([problem]);
  });

  test.each([
    [`// ${"a".repeat(98)}`, "line 2 has more than 100 columns"],
    [`const x = ${"a".repeat(98)};`, "line 2 has more than 100 columns"],
    [`function a(): void {\n${"  b();\n".repeat(69)}}`, "line 2: a function of 71 lines"],
    [
      `class A {\n  b(\n    c: number,\n  ): void {\n${"    d();\n".repeat(69)}  }\n}`,
      "line 5: a function of 71 lines",
    ],
    [`const a = () => {\n${"  b();\n".repeat(69)}};`, "line 2: a function of 71 lines"],
  ])("%s", (lines, problem) => {
    expect(problemsOf("core/data/a.ts", purpose + lines)).toEqual([problem]);
  });

  test("but a long text, and a function of 70 lines, are well", () => {
    const text = `  const x = "${"a".repeat(98)}";\n`;
    const source = `function a(): void {\n${text}${"  b();\n".repeat(67)}}`;
    expect(problemsOf("core/data/a.ts", purpose + source)).toEqual([]);
  });

  test("no purpose", () => {
    expect(problemsOf("core/data/a.ts", "const x = 1;\n")).toEqual([
      "does not begin with a comment on its purpose",
    ]);
  });
});
