/** What the demo shows, one act a function, on connections to the three nodes. */
import { OperationalError } from "../operational-error.ts";
import type { LineConnection } from "./line-connection.ts";

/** How long any write may take to be seen on another node before the demo calls it lost. */
const ARRIVAL_DEADLINE_MS = 10_000;
/** Keys put on the nodes before one is cut off. */
const STOCK = 10_000;

/** Resolves when every node sees all of them. */
export async function awaitEachOther(nodes: LineConnection[]): Promise<void> {
  const expected = `REPLICATION enabled ${nodes.length} nodes`;
  await Promise.all(nodes.map((node) => answers(node, "REPLICATE status", expected)));
}

/** A write on node 1 arrives on the others. */
export async function showWrite([one, two, three]: LineConnection[]): Promise<void> {
  console.log("\nA write on one node arrives on the others:\n");
  const start = performance.now();
  const arrivals = [two, three].map((node) => answers(node, "GET greeting", "Hello from node 1"));
  said(1, "SET greeting Hello from node 1", await one.ask("SET greeting Hello from node 1"));
  for (const [i, arrivedAt] of (await Promise.all(arrivals)).entries()) {
    said(i + 2, "GET greeting", "Hello from node 1", arrivedAt - start);
  }
}

/** Concurrent increments add up. */
export async function showCounter(nodes: LineConnection[]): Promise<void> {
  console.log("\nTwo nodes count at the same moment, and nothing is lost:\n");
  const start = performance.now();
  const [first, second] = await Promise.all([
    nodes[0].ask("INCR visits 20"),
    nodes[1].ask("INCR visits 22"),
  ]);
  said(1, "INCR visits 20", first);
  said(2, "INCR visits 22", second);
  const arrivals = await Promise.all(nodes.map((node) => answers(node, "GET visits", "42")));
  said(3, "GET visits", "42", Math.max(...arrivals) - start);
}

/** A deletion arrives too. */
export async function showDelete([one, , three]: LineConnection[]): Promise<void> {
  console.log("\nA deletion travels the same way:\n");
  const start = performance.now();
  const arrival = answers(one, "GET greeting", "(null)");
  said(3, "DEL greeting", await three.ask("DEL greeting"));
  said(1, "GET greeting", "(null)", (await arrival) - start);
}

/** Node 3 is cut off, both sides write, and once it is back it finds out what differs. */
export async function showHeal(nodes: LineConnection[]): Promise<void> {
  const [one, , three] = nodes as [LineConnection, LineConnection, LineConnection];
  console.log(
    `\nWith ${STOCK} keys on every node, node 3 is cut off, and both sides go on writing:\n`,
  );
  await stock(nodes);
  const tell = async (node: number, line: string) =>
    said(node, line, await nodes[node - 1].ask(line));
  await tell(3, "REPLICATE disable");
  await tell(1, "SET city Hanoi");
  await tell(1, "INCR visits 5");
  await tell(1, "DEL stock:7");
  await tell(3, "SET river Red");
  await tell(3, "INCR visits 3");
  // Once node 2 has them, node 1's writes will not reach node 3 through the broker any more.
  await answers(nodes[1], "GET visits", "47");
  await tell(2, "GET visits");
  await tell(3, "GET visits");

  console.log("\nBack again, it compares Merkle trees with a peer, and both sides heal:\n");
  const start = performance.now();
  await tell(3, "REPLICATE enable");
  for (const [node, line, expected] of [
    [3, "GET city", "Hanoi"],
    [3, "GET stock:7", "(null)"],
    [3, "GET visits", "50"],
    [1, "GET visits", "50"],
    [1, "GET river", "Red"],
  ] as const) {
    said(node, line, expected, (await answers(nodes[node - 1], line, expected)) - start);
  }
  const hash = await one.ask("HASH");
  await Promise.all(nodes.map((node) => answers(node, "HASH", hash)));
  said("all", "HASH", `${hash.slice(0, 16)}…`);
  await report(three);
}

/** Node 3 is killed with -9, and comes back with what was on its disk and what it missed. */
export async function showCrash(
  nodes: LineConnection[],
  third: { kill(): Promise<void>; start(): Promise<LineConnection> },
): Promise<void> {
  console.log("\nNode 3 is killed in the middle of its work, and the others go on:\n");
  const tell = async (node: number, line: string) =>
    said(node, line, await nodes[node - 1].ask(line));
  await tell(3, "SET lake West");
  await tell(3, "INCR visits 1");
  await third.kill();
  said(3, "kill -9", "");
  nodes[2].close();
  await tell(1, "SET city Hue");
  await tell(1, "SET bridge Long Bien");

  console.log("\nStarted again, it has what it had acknowledged, and fetches what it missed:\n");
  const start = performance.now();
  nodes[2] = await third.start();
  const facts = await factsOf(nodes[2]);
  for (const [node, line, expected] of [
    [3, "GET lake", "West"],
    [3, "GET visits", "51"],
    [3, "GET city", "Hue"],
    [3, "GET bridge", "Long Bien"],
    [1, "GET visits", "51"],
  ] as const) {
    said(node, line, expected, (await answers(nodes[node - 1], line, expected)) - start);
  }
  const fetched = await eventualFact(nodes[2], "sync_entries_applied");
  console.log(
    `\n  Node 3 started again:\n` +
      `    from its disk         ${facts.get("recovered_entries")} entries\n` +
      `    from its peers        ${fetched} entries`,
  );
  await awaitEachOther(nodes);
}

/** Fills the nodes with keys, so that it is worth not to compare them all. */
async function stock([one, ...others]: LineConnection[]): Promise<void> {
  const lines = Array.from({ length: STOCK }, (_, i) => `SET stock:${i} ${i}`);
  await one.request(lines.join("\n"));
  const size = await one.ask("DBSIZE");
  await Promise.all(others.map((node) => answers(node, "DBSIZE", size)));
}

/** What the node says of its heal. */
async function report(node: LineConnection): Promise<void> {
  const facts = await healFacts(node);
  const fact = (name: string) => facts.get(name)!;
  const bytes = Number(fact("bytes_sent")) + Number(fact("bytes_received"));
  const keys = await node.ask("DBSIZE");
  console.log(
    `\n  Node 3 and ${fact("peer").replace("node", "node ")}, in ${fact("round_trips")} round trips and ${bytes} bytes:\n` +
      `    compared one by one   ${fact("keys_compared")} of ${keys} keys, the others by the tree\n` +
      `    sent                  ${fact("entries_sent")} entries\n` +
      `    received              ${fact("entries_received")} entries, ${fact("entries_applied")} of them news`,
  );
}

/** The facts of the last heal, once the node has closed its books on it. */
async function healFacts(node: LineConnection): Promise<Map<string, string>> {
  await eventualFact(node, "sync_last_heal_peer");
  const prefix = "sync_last_heal_";
  const facts = [...(await factsOf(node))].filter(([name]) => name.startsWith(prefix));
  return new Map(facts.map(([name, value]) => [name.slice(prefix.length), value]));
}

/** A fact of INFO once it is there and not 0. */
async function eventualFact(node: LineConnection, name: string): Promise<string> {
  const deadline = performance.now() + ARRIVAL_DEADLINE_MS;
  for (;;) {
    const value = (await factsOf(node)).get(name) ?? "0";
    if (value !== "0") return value;
    if (performance.now() > deadline) throw new OperationalError("node 3 tells of no heal");
  }
}

async function factsOf(node: LineConnection): Promise<Map<string, string>> {
  const info = (await node.request("INFO")).bytes.toString();
  const found = info.matchAll(/^(\w+):(.*)$/gm);
  return new Map(Array.from(found, ([, name, value]) => [name, value]));
}

/**
 * Asks again and again until the reply is the expected one; when that was, in ms of this process.
 */
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

function said(node: number | "all", line: string, reply: string, tookMs?: number): void {
  const took = tookMs === undefined ? "" : `${tookMs.toFixed(1)} ms later`;
  const prompt = node === "all" ? "all    " : `node ${node}>`;
  console.log(`  ${prompt}  ${line.padEnd(31)} ${reply.padEnd(19)} ${took}`.trimEnd());
}
