/** What a node prints of itself is what the table of facts says. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { statsFacts } from "../../src/commands/facts.ts";
import type { Fact } from "../../src/fact.ts";
import { infoTable } from "../../src/node-facts.ts";
import { Authority } from "../support/certificates.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const CONFIG = `
node_id = "n1"
[network]
bind_port = 0
tls_port = 0
[mqtt]
broker_address = "embedded"
[mqtt.embedded]
bind_port = 0
tls_port = 0
[storage]
engine = "log"
[audit]
file = "audit.jsonl"
`;

const authority = new Authority();
const { cert, key } = authority.issue();
const TLS = `
[tls]
cert_file = "${cert}"
key_file = "${key}"
`;
/** Of what has not happened, or is not there: nothing was healed, nor is a broker spoken to by TLS. */
const NOT_SHOWN =
  /^(sync_last_heal_|mqtt_tls_|tls_certificate_problem|config_problem|cluster_secret_problem|config_needs_restart|replication_broker_lacks)/;

let node: NodeProcess;
let client: LineClient;
beforeAll(async () => {
  node = await startNodeProcess({ config: CONFIG + TLS });
  client = await LineClient.connect(node.port);
  expect(await client.send("SET key value")).toBe("OK");
});
afterAll(async () => {
  await client.close();
  await node.stop();
  authority.remove();
});

/** Names of the facts that a node of this kind has. */
function namesOf(facts: readonly Pick<Fact<never>, "name" | "only">[], only?: Fact<never>["only"]) {
  const shown = facts.filter((it) => it.only === undefined || it.only === only);
  return shown.map(({ name }) => name).filter((name) => !NOT_SHOWN.test(name));
}

async function textOf(...words: string[]): Promise<string[]> {
  client.sendRaw(respRequest(...words));
  const length = Number((await client.readLine()).slice(1));
  return (await client.readBytes(length + 2)).toString().trimEnd().split("\r\n");
}

const nameOf = (line: string): string => line.slice(0, line.indexOf(":"));
const all = infoTable.flatMap(({ facts }) => facts);

test("INFO over RESP: every section, every fact, in order", async () => {
  const expected = infoTable.flatMap(({ title, facts }) => [
    `# ${title}`,
    ...namesOf(facts, "resp"),
  ]);
  const lines = (await textOf("INFO")).filter((line) => line !== "");
  expect(lines.map((line) => (line.startsWith("#") ? line : nameOf(line)))).toEqual(expected);
});

test("INFO over RESP: the sections asked for", async () => {
  const lines = await textOf("INFO", "keyspace", "SERVER");
  expect(lines.filter((line) => line.startsWith("#"))).toEqual(["# Server", "# Keyspace"]);
});

test("INFO and STATS in lines", async () => {
  client.sendRaw("INFO\nSTATS\n");
  const plain = ["# Server Information", ...namesOf(all), "", ...namesOf(statsFacts), ""];
  const lines = await client.readLines(plain.length);
  expect(lines.map((line) => (line.includes(":") ? nameOf(line) : line))).toEqual(plain);
  expect(await client.send("DIALECT tagged")).toBe("OK");
  client.sendRaw("INFO\nSTATS\n");
  const tagged = [
    "INFO",
    ...namesOf(all),
    ...namesOf(
      all.filter((it) => it.only === "tagged"),
      "tagged",
    ),
  ];
  const more = await client.readLines(tagged.length + 1 + statsFacts.length);
  expect(more.map((line) => (line.includes(":") ? nameOf(line) : line))).toEqual([
    ...tagged,
    "STATS",
    ...namesOf(statsFacts),
  ]);
});

test("STATS over RESP", async () => {
  expect((await textOf("STATS")).map(nameOf)).toEqual(namesOf(statsFacts));
});
