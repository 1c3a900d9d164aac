/**
 * `bun run bench:breakdown`: where the time of a pipelined SET, GET and INCR goes.
 *
 *   bun run bench:breakdown [--keys N] [--socket] [--update-docs]
 *
 * Nanoseconds of this thread's processor time a request, in this one process, over a socket that
 * is none: no second core is needed, and what else the machine does matters little. Each step is
 * run by itself over the same requests, in chunks as they come at pipeline 100, then all of them
 * together through a connection. Two stores: one that fits into the processor's caches, and one of
 * a million keys; what the second takes more is waiting for memory. Medians of the rounds.
 *
 * What runs together is faster or slower than the sum of its steps, for the compiler decides anew
 * and loads overlap: the last row but those of the connection says by how much.
 *
 * `--socket` adds the built binary behind a real socket and redis-benchmark: its processor time a
 * request, the kernel's part included. `--update-docs` writes the table into docs/figures.md.
 */
import { parseArgs } from "node:util";
import { Breakdown, COMMANDS, type Row } from "./breakdown/steps.ts";
import { socketRows } from "./breakdown/socket.ts";
import { markdownTable } from "../../src/documentation/markdown-table.ts";
import { measuredOn, updateFigures } from "./figures.ts";

const CACHED_KEYS = 1_000;

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    keys: { type: "string", default: "1000000" },
    socket: { type: "boolean", default: false },
    "update-docs": { type: "boolean", default: false },
  },
});
const keys = Number(values.keys);
if (!Number.isInteger(keys) || keys < CACHED_KEYS) {
  console.error(`--keys: ${values.keys} is not a number of keys, from ${CACHED_KEYS} up`);
  process.exit(2);
}

const rows: Row[] = [];
const cached = new Breakdown(CACHED_KEYS).measure();
const large = new Breakdown(keys).measure();
for (const [name, ns] of cached) rows.push({ name, ns: [...ns, ...large.get(name)!] });
if (values.socket) rows.push(...(await socketRows()));

const heads = [CACHED_KEYS, keys].flatMap((count) =>
  COMMANDS.map((command) => `${command}, ${count.toLocaleString("en-US")} keys`),
);
const shown = (ns: number | null): string => (ns === null ? "" : ns.toFixed(ns < 10 ? 1 : 0));
const body = rows.map(({ name, ns }) => [name, ...heads.map((_, i) => shown(ns[i] ?? null))]);
const table = markdownTable([["ns a request", ...heads], ...body]);
console.log(table);
if (values["update-docs"]) updateFigures("bun run bench:breakdown", `${measuredOn()}:\n\n${table}`);
