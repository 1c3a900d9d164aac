/** What goes wrong with the disk while a node is still starting is acted on all the same. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import { randomHex, realWorld } from "../../src/world.ts";
import { startNode } from "../../src/node.ts";
import type { Log, Logger } from "../../src/observability/log.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { SimulatedDisk } from "../support/simulated-disk.ts";

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-start-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A logger that keeps its messages. */
function listening(): { lines: string[]; logger: Logger } {
  const lines: string[] = [];
  const log: Log = (message) => void lines.push(message);
  const logger: Logger = {
    trace: log,
    debug: log,
    info: log,
    warn: log,
    error: log,
    child: () => logger,
  };
  return { lines, logger };
}

test("a disk that fills up before the node listens", async () => {
  const disk = new SimulatedDisk();
  const { lines, logger } = listening();
  const text =
    `node_id = "n1"\n[network]\nbind_port = 0\n[mqtt]\nbroker_address = "embedded"\n` +
    `[mqtt.embedded]\nbind_port = 0\n[storage]\npath = ${JSON.stringify(directory)}\n`;
  const loaded = loadConfig({ randomHex, path: "node.toml", env: {}, readFile: () => text });
  if (!loaded.ok) throw new Error(loaded.problems.join());
  let writes = 0;
  // The head of the segment still fits; what the node notes of itself next does not.
  disk.beforeWrite = () => {
    if (++writes === 2) disk.failWritesWith = "ENOSPC";
  };
  // The start goes on once it has failed.
  const open = disk.open.bind(disk);
  disk.open = async (path, mode, synced) => {
    if (mode === "read") {
      const isNoticed = () => lines.some((line) => line.startsWith("Taking no writes"));
      await eventually("the failure", isNoticed);
    }
    return open(path, mode, synced);
  };
  const node = await startNode(loaded.config, logger, { ...realWorld, files: disk });
  try {
    expect(lines.filter((line) => line.startsWith("Taking no writes"))).toHaveLength(1);
    const client = await LineClient.connect(node.address.port);
    expect(await client.send("SET k v")).toStartWith("ERROR");
    disk.failWritesWith = null;
    await eventually("it writes again", () => lines.includes("Taking writes again"));
    expect(await client.send("SET k v")).toBe("OK");
    await client.close();
  } finally {
    disk.failWritesWith = null;
    await node.stop();
  }
});
