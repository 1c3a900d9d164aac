/** Requests whose replies come later, many in one chunk: others have their turns between them. */
import { expect, test } from "bun:test";
import { RESP2 } from "../../../src/protocol/reply.ts";
import { nextTurn } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

const REQUESTS = 100;

test("a pipeline of requests that are answered at once, and yet later, gives the loop back", async () => {
  let count = 0;
  const set = async () => {
    count++;
    return { ok: true, changed: [], needRestart: [], notices: [] } as const;
  };
  const settings = { values: () => new Map(), set, unset: set, reload: set };
  const server = new InProcessServer({ services: { settings } });
  const client = server.connect(RESP2);
  const request = respRequest("CONFIG", "SET", "network.idle_timeout", "5");
  client.send(Buffer.concat(Array(REQUESTS).fill(request)));
  const counts = [count];
  while (count < REQUESTS) {
    await nextTurn(eventLoop);
    counts.push(count);
  }
  const inOneTurn = counts.map((it, i) => it - (counts[i - 1] ?? 0));
  expect(Math.max(...inOneTurn)).toBeLessThanOrEqual(2);
  await nextTurn(eventLoop);
  expect(server.bugs).toEqual([]);
});
