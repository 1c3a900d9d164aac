/** Keys with an expiry, and those that were found to have expired, as facts and metrics count them. */
import { expect, test } from "bun:test";
import { InProcessServer } from "../../support/in-process.ts";

test("keys count as expiring until they are purged, and as expired once", () => {
  const server = new InProcessServer();
  const client = server.connect();
  client.send("SETEX a 1 v\nSETEX b 100 v\nSET c v\n");
  const { store } = server;
  const sweep = (): void => {
    for (let pass = 0; pass < 3; pass++) store.sweep(1_000);
  };
  sweep();
  expect([store.expiringCount, store.expiredCount]).toEqual([2, 0]);
  server.nowMs += 1_500;
  sweep();
  sweep();
  expect([store.size, store.expiredCount]).toEqual([2, 1]);
});
