/** Attacks by counters that no honest node would have. */
import { connectAsync } from "mqtt";
import { writeU32 } from "../../../src/core/bytes.ts";
import {
  BASE_BYTES,
  MAX_JOINED_PARTS,
  PART_BYTES,
  setVersionFromParts,
} from "../../../src/core/data/counter.ts";
import type { Entry } from "../../../src/core/data/entry.ts";
import { BatchWriter } from "../../../src/replication/batch-writer.ts";
import { eventually } from "../../support/eventually.ts";
import { largeCounter } from "../../support/large-counter.ts";
import { LineClient } from "../../support/line-client.ts";
import type { Attack, Stage } from "../attack.ts";

/** As many as one event of the default size can bring. */
const PARTS = 32_000;
/** As many events as a counter takes. */
const MOST_EVENTS = Math.floor(MAX_JOINED_PARTS / PARTS);

/** See the file header. */
export const counters: readonly Attack[] = [
  {
    name: "counter-of-disjoint-origins",
    what: "a counter joined from ten of 32,000 parts that have no origin in common",
    scene: "broker",
    async run(stage) {
      const count = stage.times(10);
      const events = Array.from({ length: count }, (_, i) => counterOf(1 + i * PARTS, 1));
      await publish(stage, events);
      await countsOn(stage, Math.min(count, MOST_EVENTS) * PARTS);
    },
  },
  {
    name: "counter-of-mixed-origins",
    what: "a counter of parts that lie between each other's, sixty events, and long pipelines about it",
    scene: "broker",
    async run(stage) {
      const events = Array.from({ length: MOST_EVENTS }, (_, i) => counterOf(1 + i, MOST_EVENTS));
      await publish(stage, events);
      // What it takes no more is looked at all the same.
      const refused = stage.times(56);
      await publish(
        stage,
        Array.from({ length: refused }, () => counterOf(MOST_EVENTS * PARTS + 1, 2)),
      );
      await countsOn(stage, MOST_EVENTS * PARTS);
      await pipelines(stage);
    },
  },
];

/** Pipelines of requests about them, each of which has to add up all parts. */
async function pipelines(stage: Stage): Promise<void> {
  const requests = [
    "GET counter",
    "INCR counter",
    "STRLEN counter",
    `MGET ${"counter ".repeat(30)}`,
  ];
  for (const request of requests) {
    const client = await LineClient.connect(stage.node.port);
    const count = stage.times(request.startsWith("MGET") ? 20 : 500);
    client.sendRaw(`${request.trim()}\n`.repeat(count) + "PING\n");
    while ((await client.readLine()) !== "PONG");
    await client.close();
  }
}

/** A counter of 1 from each of so many origins, with `step` from one to the next. */
function counterOf(firstOrigin: number, step: number): Entry {
  const counter = largeCounter("counter", firstOrigin, PARTS);
  for (let i = 0; i < PARTS; i++) {
    writeU32(counter.value, BASE_BYTES + i * PART_BYTES, firstOrigin + i * step);
  }
  setVersionFromParts(counter);
  return counter;
}

/** Publishes each in the name of a node of its own. */
async function publish(stage: Stage, events: readonly Entry[]): Promise<void> {
  const { port } = stage.broker;
  const publisher = await connectAsync({ host: "127.0.0.1", port, reconnectPeriod: 0 });
  // What it holds, in memory and on its way to the disk.
  stage.dataBytes += 4 * Math.min(events.length, MOST_EVENTS) * PARTS * PART_BYTES;
  for (const [i, event] of events.entries()) {
    const batch = new BatchWriter(`stranger-${i}`, 1);
    batch.begin();
    batch.addEntry(event);
    await publisher.publishAsync("merkle-kv/updates", batch.finish(1), { qos: 1 });
  }
  await publisher.endAsync(true);
}

/** It arrives at that number, and clients count on from there. */
async function countsOn(stage: Stage, from: number): Promise<void> {
  const client = await LineClient.connect(stage.node.port);
  await eventually("all of them are joined", async () => {
    return (await client.send("GET counter")) === String(from);
  });
  for (let i = 1; i <= 100; i++) {
    const reply = await client.send("INCR counter");
    stage.demand(reply === String(from + i), `INCR answers ${reply}`);
  }
  await client.close();
}
