/** Nodes that replicate, as the measurements of replication look at them: from outside, by INFO. */
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import type { Server } from "./servers.ts";

/** How long nothing may come in until it counts as quiet. */
const QUIET_MS = 500;
const DEADLINE_MS = 120_000;

/** The facts that a node's INFO lists, by name. */
export async function facts(node: Server): Promise<Map<string, string>> {
  const client = await LineClient.connect(node.port);
  const found = new Map<string, string>();
  client.sendRaw("INFO\n");
  for (let line = await client.readLine(); line !== ""; line = await client.readLine()) {
    const colon = line.indexOf(":");
    found.set(line.slice(0, colon), line.slice(colon + 1));
  }
  await client.close();
  return found;
}

/** Resolves when the node is connected to its broker and knows of this many nodes, itself included. */
export async function untilTogether(node: Server, count: number): Promise<void> {
  await eventually(`the node is one of ${count}`, async () => {
    return (await facts(node)).get("replication_nodes") === `${count}`;
  });
}

/** Resolves when the nodes have nothing left to publish and nothing more comes in. */
export async function untilQuiet(...nodes: readonly Server[]): Promise<void> {
  let last = "";
  let since = 0;
  const isQuiet = async () => {
    const all = await Promise.all(nodes.map(facts));
    const now = all.map((each) => each.get("replication_received_events")).join();
    const isBusy = all.some(
      (each) =>
        each.get("replication_connected") !== "1" ||
        each.get("replication_waiting") !== "0" ||
        each.get("replication_unacknowledged") !== "0",
    );
    if (isBusy || now !== last) since = performance.now();
    last = now;
    return performance.now() - since > QUIET_MS;
  };
  await eventually("replication is quiet", isQuiet, DEADLINE_MS);
}
