/** Attacks by counters that no honest node would have. */
import { connectAsync } from "mqtt";
import { setVersionFromParts } from "../../../src/core/data/counter.ts";
import { BatchWriter } from "../../../src/replication/batch-writer.ts";
import { eventually } from "../../support/eventually.ts";
import { largeCounter } from "../../support/large-counter.ts";
import { LineClient } from "../../support/line-client.ts";
import type { Attack } from "../attack.ts";

/** As many as one event of the default size can bring. */
const PARTS = 32_000;
const PART_BYTES = 32;

/** See the file header. */
export const counters: readonly Attack[] = [
  {
    name: "counter-of-disjoint-origins",
    what: "a counter joined from ten of 32,000 parts that have no origin in common",
    scene: "broker",
    async run(stage) {
      const { port } = stage.broker;
      const publisher = await connectAsync({ host: "127.0.0.1", port, reconnectPeriod: 0 });
      const count = stage.times(10);
      // What it holds, in memory and on its way to the disk.
      stage.dataBytes += 4 * count * PARTS * PART_BYTES;
      for (let i = 0; i < count; i++) {
        const counter = largeCounter("counter", 1 + i * PARTS, PARTS);
        setVersionFromParts(counter);
        const batch = new BatchWriter(`stranger-${i}`, 1);
        batch.begin();
        batch.addEntry(counter);
        await publisher.publishAsync("merkle-kv/updates", batch.finish(1), { qos: 1 });
      }
      const client = await LineClient.connect(stage.node.port);
      const expected = String(count * PARTS);
      await eventually("all of them are joined", async () => {
        return (await client.send("GET counter")) === expected;
      });
      for (let i = 1; i <= 100; i++) {
        const reply = await client.send("INCR counter");
        stage.demand(reply === String(count * PARTS + i), `INCR answers ${reply}`);
      }
      await client.close();
      await publisher.endAsync(true);
    },
  },
];
