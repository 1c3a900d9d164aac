/** Replication over brokers that take only so many messages a second, announced or not. */
import { afterEach, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { fasterBy } from "../support/faster.ts";
import { OddBroker, type Oddities } from "../support/odd-broker.ts";
import { LogRecorder, ReplicatingNode } from "../support/replicating-node.ts";

const PER_SECOND = 30;
/** A second of the nodes takes so small a part of one. */
const FASTER = 10;
const DEADLINE_MS = 60_000;
const WRITES = 10_000;

const running: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const it of running.splice(0).reverse()) await it.stop();
});

function startNode(broker: OddBroker, id: string, settings: Record<string, unknown>) {
  const log = new LogRecorder();
  const node = new ReplicatingNode(id, broker.address, {
    logger: log,
    timing: fasterBy(FASTER),
    // If batches were not longer than this, it would take minutes.
    settings: { batch_bytes: 256, max_event_bytes: 10_000, ...settings },
  });
  node.replicator.start();
  running.push({ stop: () => node.replicator.stop() });
  return { node, log };
}

async function startPair(oddities: Oddities, settings: Record<string, unknown> = {}) {
  const pace = { messagesPerSecond: PER_SECOND, secondMs: 1_000 / FASTER };
  const broker = await OddBroker.start({ ...pace, ...oddities });
  running.push(broker);
  const [a, b] = [startNode(broker, "a", settings), startNode(broker, "b", settings)];
  await eventually("they meet", () =>
    [a, b].every(({ node }) => node.replicator.status().nodes === 2),
  );
  const arrives = (writes: number) =>
    eventually("all arrives", () => b.node.store.size === writes, DEADLINE_MS);
  return { broker, a, arrives };
}

/** Many writes, and not all in one turn. */
async function write({ node }: { node: ReplicatingNode }, from: number): Promise<void> {
  for (let i = from; i < from + WRITES; i++) {
    node.set(`key${i}`, `value of ${i}`);
    if (i % 100 === 0) await new Promise(setImmediate);
  }
}

test("a configured limit is kept to, by longer batches", async () => {
  const { broker, a, arrives } = await startPair({}, { max_messages_per_second: PER_SECOND });
  await write(a, 0);
  await arrives(WRITES);
  expect(broker.throttled).toBe(0);
  expect(broker.hangUps).toBe(0);
  expect(a.node.counter("max_messages_per_second")).toBe(PER_SECOND);
});

test.each([
  ["5", "hang up"],
  ["5", "silence"],
  ["5", "disconnect"],
  ["5", "refuse"],
  ["3.1.1", "hang up"],
  ["3.1.1", "silence"],
] as const)(
  "over MQTT %s a limit is found out where what is above it meets with: %s",
  async (protocol_version, onTooMany) => {
    const { broker, a, arrives } = await startPair({ onTooMany }, { protocol_version });
    const found = () => a.node.counter("max_messages_per_second");
    const said = () => a.log.warnings.filter((it) => it.includes("max_messages_per_second"));
    let writes = 0;
    // Who ends a connection is believed to do so for that only when it happens again; after the first
    // time fewer are sent for a while, which is no limit that was found.
    for (; writes === 0 || (said().length === 0 && writes < 20 * WRITES); writes += WRITES) {
      await write(a, writes);
      await arrives(writes + WRITES);
    }
    expect(found()).toBeGreaterThanOrEqual(2);
    const { hangUps } = broker;
    expect(hangUps).toBeLessThan(10);
    await write(a, writes);
    await arrives(writes + WRITES);
    // Not for their length.
    expect(a.log.warnings.filter((it) => it.includes("max_packet_bytes"))).toEqual([]);
    expect(said()).not.toEqual([]);
  },
  2 * DEADLINE_MS,
);
