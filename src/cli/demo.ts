/** `merklekv demo`: a broker and three nodes, a write that travels, and an invitation to try it. */
import { OperationalError } from "../operational-error.ts";
import { version } from "../version.ts";
import type { Command } from "./arguments.ts";
import { type Child, DemoCluster, isCompiled, portsFrom } from "./demo-cluster.ts";
import { LineConnection } from "./line-connection.ts";

/** Nodes listen from here on when the ports are free, so that the documentation can name them. */
const FIRST_PORT = 7379;
const NODES = 3;
/** How long any write may take to be seen on another node before the demo calls it lost. */
const ARRIVAL_DEADLINE_MS = 10_000;

/** The subcommand. Leaves no process and no file behind, however it ends. */
export const demo: Command = {
  usage: "demo [--exit]",
  about:
    "Runs an MQTT broker and three nodes on this machine, shows how a write on one node arrives\n" +
    "on the others, and keeps them running to play with until Ctrl-C.",
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
    await Promise.all(connections.map(seesEveryNode));
    await showWrite(connections);
    await showCounter(connections);
    await showDelete(connections);
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

async function seesEveryNode(node: LineConnection): Promise<void> {
  await answers(node, "REPLICATE status", `REPLICATION enabled ${NODES} nodes`);
}

async function showWrite([one, two, three]: LineConnection[]): Promise<void> {
  console.log("\nA write on one node arrives on the others:\n");
  const start = performance.now();
  const arrivals = [two!, three!].map((node) => answers(node, "GET greeting", "Hello from node 1"));
  said(1, "SET greeting Hello from node 1", await one!.ask("SET greeting Hello from node 1"));
  for (const [i, arrivedAt] of (await Promise.all(arrivals)).entries()) {
    said(i + 2, "GET greeting", "Hello from node 1", arrivedAt - start);
  }
}

async function showCounter(nodes: LineConnection[]): Promise<void> {
  console.log("\nTwo nodes count at the same moment, and nothing is lost:\n");
  const start = performance.now();
  const [first, second] = await Promise.all([
    nodes[0]!.ask("INCR visits 20"),
    nodes[1]!.ask("INCR visits 22"),
  ]);
  said(1, "INCR visits 20", first!);
  said(2, "INCR visits 22", second!);
  const arrivals = await Promise.all(nodes.map((node) => answers(node, "GET visits", "42")));
  said(3, "GET visits", "42", Math.max(...arrivals) - start);
}

async function showDelete([one, , three]: LineConnection[]): Promise<void> {
  console.log("\nA deletion travels the same way:\n");
  const start = performance.now();
  const arrival = answers(one!, "GET greeting", "(null)");
  said(3, "DEL greeting", await three!.ask("DEL greeting"));
  said(1, "GET greeting", "(null)", (await arrival) - start);
}

/** Asks again and again until the reply is the expected one; when that was, in ms of this process. */
async function answers(node: LineConnection, line: string, expected: string): Promise<number> {
  const deadline = performance.now() + ARRIVAL_DEADLINE_MS;
  for (;;) {
    const reply = await node.ask(line);
    const now = performance.now();
    if (reply === expected) return now;
    if (now > deadline)
      throw new OperationalError(`"${line}" still gives "${reply}", not "${expected}"`);
  }
}

function said(node: number, line: string, reply: string, tookMs?: number): void {
  const took = tookMs === undefined ? "" : `${tookMs.toFixed(1)} ms later`;
  console.log(`  node ${node}>  ${line.padEnd(31)} ${reply.padEnd(19)} ${took}`.trimEnd());
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
