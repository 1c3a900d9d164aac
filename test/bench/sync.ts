/**
 * `bun run bench:sync`: what healing costs, as a table of what was measured and what it is to be.
 *
 *   bun run bench:sync [--keys N] [--quick] [--only PART[,PART…]]
 *
 * - stores: bytes, round trips and slices of a session, between two stores in one process
 * - sealed: bytes and processor time of a session with a cluster secret, and without
 * - link: the same over a way of 50 ms with and without loss, in a cluster of 128 members
 * - processes: heals between two nodes of the built binary that serve clients meanwhile
 * - relay: a heal of nodes that reach only the broker
 * - resent: what syncs transfer again of writes that go through MQTT
 * - tree: what the tree costs a SET
 *
 * `--keys` is for the stores; the nodes have a million. `--quick` only shows that everything works.
 * Load generator, broker and nodes share the machine: close other programs before you measure. A
 * missed target is reported, not punished: the exit code is 0. (1: a part failed; 2: the command line
 * makes no sense.)
 */
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { processes } from "./sync-processes.ts";
import { type Row, type SyncPlan, tableOf } from "./sync-report.ts";
import { link } from "./sync-link.ts";
import { relay } from "./sync-relay.ts";
import { resent } from "./sync-resent.ts";
import { sealed } from "./sync-sealed.ts";
import { stores } from "./sync-stores.ts";
import { tree } from "./sync-tree.ts";

const parts: Record<string, (plan: SyncPlan) => Promise<Row[]>> = {
  stores,
  link,
  sealed,
  processes,
  relay,
  resent,
  tree,
};
const USAGE = `Usage: bun run bench:sync [--keys N] [--quick] [--only PART[,PART…]]
Parts: ${Object.keys(parts).join(", ")}`;
const KEYS = 1_000_000;

/** Throws an Error of one line when the arguments make no sense. */
function readOptions(): { names: readonly string[]; keys: number; isQuick: boolean } {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      keys: { type: "string" },
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
    },
  });
  const keys = Number(values.keys ?? KEYS);
  if (!Number.isInteger(keys) || keys < 1) throw new Error(`--keys: ${values.keys} is no number`);
  const wanted = values.only.flatMap((names) => names.split(","));
  const unknown = wanted.find((name) => !Object.hasOwn(parts, name));
  if (unknown !== undefined) throw new Error(`--only: there is no part "${unknown}"`);
  const names = wanted.length === 0 ? Object.keys(parts) : wanted;
  return { names, keys, isQuick: values.quick };
}

async function main(): Promise<number> {
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions();
  } catch (error) {
    console.error(`bench:sync: ${(error as Error).message}\n${USAGE}`);
    return 2;
  }
  const { names, keys, isQuick } = options;
  const rows: Row[] = [];
  const missing: string[] = [];
  const plan: SyncPlan = {
    keys,
    isQuick,
    note: (what) => console.error(`… ${what}`),
    skipped: (why) => void missing.push(why),
  };
  let code = 0;
  for (const name of names) {
    try {
      rows.push(...(await parts[name](plan)));
    } catch (error) {
      code = 1;
      plan.skipped(`${name} failed: ${Bun.inspect(error)}`);
    }
  }
  const size = keys.toLocaleString("en-US");
  console.log(`${cpus()[0]?.model}, ${cpus().length} cores; ${size} keys, values of 22 bytes\n`);
  console.log(tableOf(rows));
  for (const why of missing) console.log(`note: ${why}`);
  return code;
}

process.exit(await main());
