/**
 * `bun run bench:fleet [10 100 1000] ["power cut" …]`: what it costs so many nodes to stay alike: sessions, bytes and
 * simulated time. Each node is the replica that the program runs, in the world of the simulation
 * (`test/sim`), so a thousand of them fit into one process; nothing here depends on the machine but
 * how long one waits for it. They find each other over a simulated broker and sync every five minutes.
 *
 *   equal            five minutes of a cluster that knows each other and in which nothing is written
 *   left by one gone what one node has, and the one that wrote it is gone: until all have it
 *   write, no broker one write while the broker is away, until all have it
 *   broker restart   one node in ten writes while the broker is away; it comes back and has
 *                    forgotten everything
 *   power cut        one node in ten writes while the broker is away; then all nodes lose power at
 *                    once and are started again within ten seconds, the broker after five
 *
 * A session is counted where it was begun, if it came to its end; "turned away" are those for which
 * there was no room. "Most at once" is what any node had under way, begun there or elsewhere. All
 * is done in turn, or what is named. How far it is goes to standard error: a thousand nodes take
 * some minutes of a processor to come together, and one to three more for each of these.
 *
 * Half of what a thousand nodes take of memory is garbage, if the runtime is left alone: it lets the
 * heap double before it looks, and falls behind beside other work. So the script in `package.json`
 * tells it that the machine is small, and to collect at once.
 */
import { Fleet, SCENARIOS, type FleetCost, type Scenario } from "../sim/fleet.ts";

const SIZES = [10, 100, 1_000];

const PROGRESS_EVERY_MS = 20_000;

const named = process.argv.slice(2);
const sizes = named.map(Number).filter((size) => size > 0);
const scenarios = SCENARIOS.filter((it) => named.includes(it));
const unknown = named.filter((it) => !(Number(it) > 0 || SCENARIOS.includes(it as Scenario)));
if (unknown.length > 0) {
  console.error(`no such thing: ${unknown.join(", ")}; there are ${SCENARIOS.join(", ")}`);
  process.exit(2);
}
const columns: readonly (readonly [title: string, cell: (row: FleetCost) => string])[] = [
  ["nodes", ({ nodes }) => String(nodes)],
  ["", ({ what }) => what],
  ["time", ({ seconds }) => `${seconds.toFixed(1)} s`],
  ["sessions", ({ sessions }) => Math.round(sessions).toLocaleString("en-US")],
  ["a node", ({ sessions, nodes }) => (sessions / nodes).toFixed(1)],
  ["/ log2 N", (row) => (row.sessions / row.nodes / Math.log2(row.nodes)).toFixed(2)],
  ["turned away", ({ turnedAway }) => turnedAway.toLocaleString("en-US")],
  ["most at once", ({ mostAtOnce }) => String(mostAtOnce)],
  ["bytes a node", ({ bytes, nodes }) => Math.round(bytes / nodes).toLocaleString("en-US")],
  [
    "a session",
    ({ bytes, sessions }) => (sessions > 0 ? String(Math.round(bytes / sessions)) : ""),
  ],
  ["presence a node", (row) => `${(row.presenceRate / row.nodes).toFixed(0)} B/s`],
];
const widths = [5, 16, 8, 8, 7, 8, 11, 12, 12, 9, 15];
const line = (cells: readonly string[]): string =>
  cells.map((it, i) => (i === 1 ? it.padEnd(widths[i]) : it.padStart(widths[i]))).join("  ");
console.log(line(columns.map(([title]) => title)));
/** Says now and then how far a fleet of that size is. */
function progressOf(size: number): (seconds: number) => void {
  let saidMs = performance.now();
  return (seconds) => {
    if (performance.now() - saidMs < PROGRESS_EVERY_MS) return;
    saidMs = performance.now();
    const mb = Math.round(process.memoryUsage.rss() / 1_000_000);
    console.error(`${size} nodes: ${Math.round(seconds)} s have passed there; ${mb} MB`);
  };
}

for (const size of sizes.length > 0 ? sizes : SIZES) {
  const fleet = new Fleet(size, progressOf(size));
  for (const row of fleet.run(scenarios.length > 0 ? scenarios : SCENARIOS)) {
    console.log(line(columns.map(([, cell]) => cell(row))));
  }
}
