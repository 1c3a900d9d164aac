/**
 * What syncs transfer again of writes that reach the other node by MQTT: 5,000 writes a second for a
 * while, and meanwhile each node compares itself with the other every second. Were it not for the
 * watermark, every comparison would find the writes under way.
 */
import { eventually } from "../support/eventually.ts";
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { PacedLoad } from "./paced-load.ts";
import { facts, untilTogether } from "./replicated.ts";
import { type Server, startBroker, startMerklekv } from "./servers.ts";
import { transferred } from "./sync-processes.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

const WRITES_A_SECOND = 5_000;
const SECONDS = 20;
const QUICK_SECONDS = 5;
const CONNECTIONS = 5;
const RESENT_PERCENT = 1;
const SETTLE_DEADLINE_MS = 60_000;

/** Where the writes come in, and how many keys they go to. */
const CASES = [
  { name: "at one node, 100,000 keys", writers: 1, keys: 100_000 },
  { name: "half at either node, 100,000 keys", writers: 2, keys: 100_000 },
  { name: "half at either node, 1,000 keys", writers: 2, keys: 1_000 },
];

/** The part. */
export async function resent(plan: SyncPlan): Promise<Row[]> {
  if (mosquittoPath === null) {
    plan.skipped(`resent: ${MOSQUITTO_MISSING}`);
    return [];
  }
  await using broker = await startBroker();
  const settings = { brokerPort: broker.port, syncEverySeconds: 1 };
  await using left = await startMerklekv("left", settings);
  await using right = await startMerklekv("right", settings);
  const nodes = [left, right];
  await Promise.all(nodes.map((node) => untilTogether(node, 2)));
  const seconds = plan.isQuick ? QUICK_SECONDS : SECONDS;
  const rows: Row[] = [];
  for (const { name, writers, keys } of CASES) {
    plan.note(`resent: ${WRITES_A_SECOND.toLocaleString("en-US")} writes/s ${name}`);
    await untilEqual(nodes);
    const before = [await transferred(nodes), await completed(nodes)] as const;
    const writes = await write(nodes.slice(0, writers), keys, seconds);
    // Those of the last two seconds lie above the watermark: they are compared by now, too.
    await untilEqual(nodes);
    const again = (await transferred(nodes)) - before[0];
    rows.push(
      {
        what: `5,000 writes/s through MQTT ${name}: sent again by syncs`,
        value: (100 * again) / writes,
        unit: "%",
        atMost: RESENT_PERCENT,
      },
      { what: "… entries", value: again, unit: `of ${writes.toLocaleString("en-US")}` },
      { what: "… syncs", value: (await completed(nodes)) - before[1], unit: "" },
    );
  }
  return rows;
}

/** Writes random keys at these nodes; the number of writes. */
async function write(nodes: readonly Server[], keys: number, seconds: number): Promise<number> {
  let count = 0;
  const next = () => `SET key:${Math.floor(Math.random() * keys)} write number ${count++}\n`;
  const perSecond = WRITES_A_SECOND / nodes.length;
  const loads = await Promise.all(
    nodes.map((node) => PacedLoad.start(node, { perSecond, connections: CONNECTIONS, next })),
  );
  await Bun.sleep(seconds * 1000);
  await Promise.all(loads.map((load) => load.stop()));
  return count;
}

/** Sessions that ended well; each is counted by both. */
async function completed(nodes: readonly Server[]): Promise<number> {
  const infos = await Promise.all(nodes.map(facts));
  return infos.reduce((sum, info) => sum + Number(info.get("sync_completed")), 0) / 2;
}

/** Waits until the roots are equal and stay so while the watermark passes over the last write. */
async function untilEqual(nodes: readonly Server[]): Promise<void> {
  await Bun.sleep(4_000);
  const roots = async () =>
    (await Promise.all(nodes.map(facts))).map((it) => it.get("merkle_root"));
  const areEqual = async () => new Set(await roots()).size === 1;
  await eventually("the roots are equal", areEqual, SETTLE_DEADLINE_MS);
}
