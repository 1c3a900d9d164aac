/** What a request costs the built binary behind a real socket: processor time, the kernel's too. */
import { fill, KEYS, redisBenchmark } from "../load.ts";
import { processorMs, startMerklekv, untilAtRest } from "../servers.ts";
import { COMMANDS, type Row } from "./steps.ts";

/** Pipeline → requests, so that a run takes some seconds. */
const PIPELINES = [
  [100, 4_000_000],
  [16, 2_000_000],
  [1, 200_000],
] as const;

/** A row for each pipeline, in the columns of the large store. */
export async function socketRows(): Promise<Row[]> {
  await using server = await startMerklekv("bench", { engine: "memory" });
  await fill(server, "SET");
  await fill(server, "INCR");
  await untilAtRest(server);
  const rows: Row[] = [];
  for (const [pipeline, requests] of PIPELINES) {
    const ns: (number | null)[] = COMMANDS.map(() => null);
    for (const command of COMMANDS) {
      const before = processorMs(server.pid);
      await redisBenchmark(server, command, pipeline, requests);
      ns.push(((processorMs(server.pid) - before) * 1e6) / requests);
    }
    const keys = KEYS.toLocaleString("en-US");
    rows.push({ name: `through a socket, pipeline ${pipeline}, ${keys} keys`, ns });
  }
  return rows;
}
