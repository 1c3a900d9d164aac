/**
 * `merklekv demo`: a broker and three nodes, writes that travel, a node that is cut off and heals,
 * and an invitation to try it.
 */
import { version } from "../version.ts";
import type { Command } from "./arguments.ts";
import { awaitEachOther, showCounter, showDelete, showHeal, showWrite } from "./demo-acts.ts";
import { type Child, DemoCluster, isCompiled, portsFrom } from "./demo-cluster.ts";
import { LineConnection } from "./line-connection.ts";

/** Nodes listen from here on when the ports are free, so that the documentation can name them. */
const FIRST_PORT = 7379;
const NODES = 3;

/** The subcommand. Leaves no process and no file behind, however it ends. */
export const demo: Command = {
  usage: "demo [--exit]",
  about:
    "Runs an MQTT broker and three nodes on this machine, shows how a write on one node arrives\n" +
    "on the others and how a node that was cut off heals, and keeps them running to play with\n" +
    "until Ctrl-C.",
  options: [{ long: "--exit", about: "End after the show." }],

  async run(given) {
    const { promise: interrupted, resolve: interrupt } = Promise.withResolvers<void>();
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, interrupt);
    const cluster = new DemoCluster();
    const show = async () => {
      await perform(cluster);
      if (given.has("--exit")) return;
      console.log("\nCtrl-C ends everything.");
      await interrupted;
    };
    try {
      await Promise.race([interrupted, cluster.failed, show()]);
    } finally {
      await cluster.stop();
    }
    console.log("\nThe broker and the nodes have stopped; nothing is left behind.");
    return 0;
  },
};

async function perform(cluster: DemoCluster): Promise<void> {
  console.log(`MerkleKV ${version}: one MQTT broker and three nodes, each a process of its own.\n`);
  const broker = await cluster.start("broker", ["broker", "--port", "0"]);
  console.log(`  broker   mqtt://127.0.0.1:${broker.port}`);
  const nodes = await startNodes(cluster, broker);
  for (const { name, port } of nodes) console.log(`  ${name}   127.0.0.1:${port}`);

  const connections = await Promise.all(
    nodes.map(({ port }) => LineConnection.open("127.0.0.1", port)),
  );
  try {
    await awaitEachOther(connections);
    await showWrite(connections);
    await showCounter(connections);
    await showDelete(connections);
    await showHeal(connections);
  } finally {
    for (const connection of connections) connection.close();
  }
  invite(nodes);
}

async function startNodes(cluster: DemoCluster, broker: Child): Promise<Child[]> {
  const ports = await portsFrom(FIRST_PORT, NODES);
  return Promise.all(
    ports.map((port, i) =>
      cluster.start(`node ${i + 1}`, ["serve"], {
        MERKLE_KV_NODE_ID: `node${i + 1}`,
        MERKLE_KV_NETWORK_BIND_PORT: String(port),
        MERKLE_KV_MQTT_BROKER_ADDRESS: `mqtt://127.0.0.1:${broker.port}`,
        MERKLE_KV_LOGGING_LEVEL: "warn",
      }),
    ),
  );
}

function invite(nodes: Child[]): void {
  const [one, two, three] = nodes.map(({ port }) => port);
  const viaNpm = process.env["npm_config_user_agent"]?.startsWith("npm");
  const self = isCompiled() ? process.execPath : `${viaNpm ? "npx " : ""}bun src/main.ts`;
  console.log("\nYour turn: write on one, read on another.\n");
  console.log(`  ${self} cli -p ${one} SET city Hanoi`);
  console.log(`  ${self} cli -p ${two} GET city`);
  console.log(`  redis-cli -p ${three} GET city`);
  console.log(`  nc 127.0.0.1 ${one}      and then type: GET city`);
}
