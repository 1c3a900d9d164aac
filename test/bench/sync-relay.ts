/**
 * What healing costs two nodes that reach mosquitto and not each other: ten thousand keys of a
 * million, and a value of 3 MiB, with the default budget.
 */
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { fill, keyCount } from "./load.ts";
import { facts, untilTogether } from "./replicated.ts";
import { median } from "./report.ts";
import { type Server, startBroker, startMerklekv } from "./servers.ts";
import { askSlowly, diverge, type Pair } from "./sync-processes.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

const ROUNDS = 3;
const HEAL_SECONDS = 20;
const HEAL_BYTES = 2_600_000;
const LARGE_BYTES = 3 * 1_048_576;
const LARGE_DEADLINE_MS = 120_000;
/** What a message has beside its payload: `merkle-kv/sync/right/0123456789abcdef`, and four more. */
const MESSAGE_BYTES = 42;

/** The part. */
export async function relay(plan: SyncPlan): Promise<Row[]> {
  if (mosquittoPath === null) {
    plan.skipped(`relay: ${MOSQUITTO_MISSING}`);
    return [];
  }
  await using broker = await startBroker();
  const settings = { brokerPort: broker.port, isHidden: true };
  await using left = await startMerklekv("left", settings);
  await using right = await startMerklekv("right", settings);
  const pair = [left, right] as const;
  plan.note("relay: filling both");
  await tell(pair, "REPLICATE disable");
  await fill(left, "SET");
  await mustBeOk(left, `SYNC 127.0.0.1 ${right.port}`);
  const heals: { seconds: number; bytes: number }[] = [];
  for (let round = 0; round < (plan.isQuick ? 1 : ROUNDS); round++) {
    plan.note(`relay: heal through the broker, round ${round + 1}`);
    heals.push(await heal(pair, round));
  }
  plan.note("relay: a value of 3 MiB");
  const large = await fetchLarge(pair);
  const seconds = heals.map((each) => each.seconds);
  const name = "10,000 differ, through mosquitto";
  return [
    { what: `${name}: time`, value: median(seconds), unit: "s", atMost: HEAL_SECONDS },
    { what: `… longest of ${heals.length}`, value: Math.max(...seconds), unit: "s" },
    {
      what: "… bytes both ways, values and topics included",
      value: Math.max(...heals.map((each) => each.bytes)),
      unit: "B",
      atMost: HEAL_BYTES,
    },
    { what: "a value of 3 MiB, fetched through mosquitto", value: large, unit: "s" },
  ];
}

async function heal(pair: Pair, round: number): Promise<{ seconds: number; bytes: number }> {
  const [left, right] = pair;
  await tell(pair, "REPLICATE disable");
  await diverge(pair, round);
  await tell(pair, "REPLICATE enable");
  await Promise.all(pair.map((node) => untilTogether(node, 2)));
  const before = await relayedBytes(pair);
  const startedMs = performance.now();
  await mustBeOk(left, "SYNC right");
  const seconds = (performance.now() - startedMs) / 1_000;
  const bytes = (await relayedBytes(pair)) - before;
  await mustBeOk(left, `SYNC 127.0.0.1 ${right.port} --verify`);
  return { seconds, bytes };
}

/** Seconds until a value that is too large for a message is on the other node. */
async function fetchLarge([left, right]: Pair): Promise<number> {
  const client = await LineClient.connect(left.port);
  const before = await keyCount(right);
  const startedMs = performance.now();
  client.sendRaw(`*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$${LARGE_BYTES}\r\n`);
  client.sendRaw(Buffer.alloc(LARGE_BYTES, "x"));
  client.sendRaw("\r\n");
  const hasCome = async () => (await keyCount(right)) > before;
  await eventually("the large value has come", hasCome, LARGE_DEADLINE_MS);
  await client.close();
  return (performance.now() - startedMs) / 1_000;
}

async function relayedBytes(nodes: readonly Server[]): Promise<number> {
  const infos = await Promise.all(nodes.map(facts));
  const sum = (name: string) => infos.reduce((total, info) => total + Number(info.get(name)), 0);
  return sum("relay_sent_bytes") + MESSAGE_BYTES * sum("relay_sent_messages");
}

async function tell(nodes: readonly Server[], line: string): Promise<void> {
  await Promise.all(nodes.map((node) => mustBeOk(node, line)));
}

async function mustBeOk(node: Server, line: string): Promise<void> {
  const answer = await askSlowly(node, line);
  if (answer !== "OK") throw new Error(`${line} was answered: ${answer}`);
}
