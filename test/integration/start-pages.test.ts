/** A node that has started holds less of the executable than while it started. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess } from "../support/process.ts";

test.skipIf(process.platform !== "linux")("pages that only the start needed go back", async () => {
  const node = await startNodeProcess();
  const heldKb = (): number => {
    const status = readFileSync(`/proc/${node.pid}/status`, "utf8");
    return Number(/^RssFile:\s+(\d+)/m.exec(status)![1]);
  };
  const before = heldKb();
  await eventually("a fifth of them is back", () => heldKb() < 0.8 * before);
  const client = await LineClient.connect(node.port);
  expect(await client.send("PING")).toBe("PONG");
  await client.close();
  expect(await node.stop()).toBe(0);
});
