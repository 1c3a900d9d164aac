/**
 * `merklekv demo`: a broker and three nodes, writes that travel, a node that is cut off and heals,
 * one that is killed and comes back, and an invitation to try it.
 */
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { version } from "../version.ts";
import type { Subcommand } from "./arguments.ts";
import {
  awaitEachOther,
  showCounter,
  showCrash,
  showDelete,
  showHeal,
  showWrite,
} from "./demo-acts.ts";
import { type Child, DemoCluster, isCompiled, portsFrom } from "./demo-cluster.ts";
import { LineConnection } from "./line-connection.ts";
import { removeData } from "./signals.ts";

/** Nodes listen from here on when the ports are free, so that the documentation can name them. */
const FIRST_PORT = 7379;
const NODES = 3;

/** The subcommand. Leaves no process and no file behind, however it ends. */
export const demo: Subcommand = {
  usage: "demo [--exit]",
  about:
    "Runs an MQTT broker and three nodes on this machine, shows how a write on one node arrives\n" +
    "on the others, how a node that was cut off heals and how one that was killed comes back from\n" +
    "its disk, and keeps them running to play with until Ctrl-C.",
  options: [{ long: "--exit", about: "End after the show." }],

  async run(given) {
    const { promise: interrupted, resolve: interrupt } = Promise.withResolvers<void>();
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, interrupt);
    const cluster = new DemoCluster();
    const data = join(tmpdir(), `merklekv-demo-${crypto.randomUUID()}`);
    const show = async () => {
      await perform(cluster, data);
      if (given.has("--exit")) return;
      console.log("\nCtrl-C ends everything.");
      await interrupted;
    };
    try {
      await Promise.race([interrupted, cluster.failed, show()]);
    } finally {
      await cluster.stop();
      // The nodes have done so already, but for one that was killed.
      for (let i = 1; i <= NODES; i++) rmSync(`${data}-${i}`, { recursive: true, force: true });
    }
    console.log("\nThe broker and the nodes have stopped; nothing is left behind.");
    return 0;
  },
};

async function perform(cluster: DemoCluster, data: string): Promise<void> {
  console.log(`MerkleKV ${version}: one MQTT broker and three nodes, each a process of its own.\n`);
  const broker = await cluster.start("broker", ["broker", "--port", "0"]);
  console.log(`  broker   mqtt://127.0.0.1:${broker.port}`);
  const start = (number: number, port: number) =>
    cluster.start(`node ${number}`, ["serve", removeData.long], {
      MERKLE_KV_NODE_ID: `node${number}`,
      MERKLE_KV_NETWORK_BIND_PORT: String(port),
      MERKLE_KV_MQTT_BROKER_ADDRESS: `mqtt://127.0.0.1:${broker.port}`,
      MERKLE_KV_STORAGE_ENGINE: "log",
      // Each its own, which it makes and removes itself: so it goes even when this process is
      // killed.
      MERKLE_KV_STORAGE_PATH: `${data}-${number}`,
      MERKLE_KV_LOGGING_LEVEL: "warn",
    });
  const ports = await portsFrom(FIRST_PORT, NODES);
  const nodes = await Promise.all(ports.map((port, i) => start(i + 1, port)));
  for (const { name, port } of nodes) console.log(`  ${name}   127.0.0.1:${port}`);

  const open = ({ port }: Child) =>
    LineConnection.open({ host: "127.0.0.1", port, security: null });
  const connections = await Promise.all(nodes.map(open));
  try {
    await awaitEachOther(connections);
    await showWrite(connections);
    await showCounter(connections);
    await showDelete(connections);
    await showHeal(connections);
    const last = nodes.at(-1)!;
    await showCrash(connections, {
      kill: () => cluster.kill(last.name),
      start: async () => open(await start(NODES, last.port)),
    });
  } finally {
    for (const connection of connections) connection.close();
  }
  invite(nodes);
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
