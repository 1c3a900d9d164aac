/**
 * Golden scripts: what a client types, and byte for byte what it gets, from the real binary.
 *
 * A script is a `.txt` file in `scripts/`:
 *
 *   # a remark
 *   @config NETWORK_MAX_LINE_BYTES=64    the script gets a node of its own, so configured
 *   @plain  @tagged  @resp  @resp3       an empty store, a new connection, that way of talking
 *   > SET k v                            a request: a line, or in RESP words as in redis-cli
 *   >> SET k \xff\n                      bytes as they are, escapes resolved, no line end added
 *   < OK                                 the next line of the reply, without its line end
 *   <~ [0-9]+                            a line that matches a pattern; in RESP it may end in LF alone
 *   <*                                   any lines up to and including the next one expected
 *   @closed                              the server closes the connection
 *
 * Replies in RESP may use escapes too. Each section ends by checking that nothing else came.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { commandTable } from "../../src/commands/table.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const SCRIPTS = join(import.meta.dir, "scripts");
const STEP = /^(>>|>|<~|<\*|<|@closed)(?: (.*))?$/;

interface Section {
  readonly dialect: string;
  readonly line: number;
  readonly steps: { readonly kind: string; readonly text: string; readonly line: number }[];
}

interface Script {
  readonly config: Record<string, string>;
  readonly sections: Section[];
}

function read(name: string): Script {
  const config: Record<string, string> = {};
  const sections: Section[] = [];
  for (const [i, text] of readFileSync(join(SCRIPTS, name), "utf8").split("\n").entries()) {
    const line = i + 1;
    if (text === "" || text.startsWith("#")) continue;
    const setting = /^@config (\w+)=(.*)$/.exec(text);
    const dialect = /^@(plain|tagged|resp3?)$/.exec(text);
    const step = STEP.exec(text);
    if (setting) config[`MERKLE_KV_${setting[1]}`] = setting[2];
    else if (dialect) sections.push({ dialect: dialect[1], line, steps: [] });
    else if (step) sections.at(-1)!.steps.push({ kind: step[1], text: step[2] ?? "", line });
    else throw new Error(`${name}:${line}: ${text}`);
  }
  return { config, sections };
}

/** Resolves \xHH, \n, \r, \t and \\; latin1. */
function unescaped(text: string): string {
  return text.replace(/\\(x[0-9a-f]{2}|.)/gi, (_, escape: string) => {
    if (escape.length === 3) return String.fromCharCode(parseInt(escape.slice(1), 16));
    return { n: "\n", r: "\r", t: "\t", "\\": "\\", '"': '"' }[escape] ?? `\\${escape}`;
  });
}

/** Words separated by spaces, in quotes or not, as typed into redis-cli. */
function words(text: string): string[] {
  const found = text.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  return found.map((word) => (word.startsWith('"') ? unescaped(word.slice(1, -1)) : word));
}

async function play(section: Section, node: NodeProcess, name: string): Promise<void> {
  const isResp = section.dialect.startsWith("resp");
  const client = await LineClient.connect(node.port);
  expect(await client.send("FLUSH")).toBe("OK");
  if (section.dialect === "tagged") await client.send("DIALECT tagged");
  if (section.dialect === "resp3") {
    client.sendRaw(respRequest("HELLO", "3"));
    while ((await client.readLine()) !== "modules");
    await client.readLine();
  }
  const lineEnd = section.dialect === "plain" ? "\n" : "\r\n";
  let skipped: string | undefined;
  for (const { kind, text, line } of section.steps) {
    const where = `${name}:${line}`;
    const check = async (matches: (found: string) => boolean) => {
      let found = await rawLine(client, where);
      for (; skipped !== undefined && !matches(found); found = await rawLine(client, where));
      skipped = undefined;
      if (!matches(found)) {
        throw new Error(`${where}: expected ${JSON.stringify(text)}, got ${JSON.stringify(found)}`);
      }
    };
    if (kind === ">>") client.sendRaw(Buffer.from(unescaped(text), "latin1"));
    else if (kind === ">" && isResp) client.sendRaw(respRequest(...words(text)));
    else if (kind === ">") client.sendRaw(`${text}\n`);
    else if (kind === "<*") skipped = text;
    else if (kind === "<~") {
      const pattern = new RegExp(`^(?:${text})${isResp ? "\\r?\\n" : lineEnd}$`);
      await check((found) => pattern.test(found));
    } else if (kind === "<" && isResp && text.includes("\\n")) {
      const expected = Buffer.from(unescaped(text) + lineEnd, "latin1");
      expect(`${where} ${(await client.readBytes(expected.length)).toString("latin1")}`).toBe(
        `${where} ${expected.toString("latin1")}`,
      );
    } else if (kind === "<") {
      const expected = Buffer.from(isResp ? unescaped(text) : text, isResp ? "latin1" : "utf8");
      await check((found) => found === expected.toString("latin1") + lineEnd);
    } else {
      await client.closed;
      await expect(client.readBytes(1)).rejects.toThrow('so far ""');
      return;
    }
  }
  client.sendRaw(respRequest("ECHO", "that was all"));
  expect(`${name} ${await rawLine(client, name)}`).toBe(`${name} $12\r\n`);
  await client.close();
}

/** A line with its end, as latin1. */
async function rawLine(client: LineClient, where: string): Promise<string> {
  try {
    return await client.readRawLine();
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`);
  }
}

const names = readdirSync(SCRIPTS).filter((name) => name.endsWith(".txt"));
let shared: Promise<NodeProcess> | undefined;
afterAll(async () => void (await (await shared)?.stop()));

describe("script", () => {
  test.each(names)("%s", async (name) => {
    const { config, sections } = read(name);
    const isPlainNode = Object.keys(config).length === 0;
    const node = await (isPlainNode
      ? (shared ??= startNodeProcess())
      : startNodeProcess({ env: config }));
    for (const section of sections) await play(section, node, name);
    if (!isPlainNode) await node.stop();
  });
});

test("every command, under each of its names, is in a script", () => {
  const asked = new Set<string>();
  for (const name of names) {
    for (const { steps } of read(name).sections) {
      for (const { kind, text } of steps) {
        if (kind.startsWith(">")) asked.add(text.trimStart().split(/\s/)[0].toUpperCase());
      }
    }
  }
  const all = commandTable.commands.flatMap(({ names }) => names);
  expect(all.filter((name) => !asked.has(name))).toEqual([]);
});
