/** A batch whose client goes away while it is run. */
import { expect, test } from "bun:test";
import { AnswerTurns } from "../../../src/http/answer-turns.ts";
import { runBatch } from "../../../src/http/api-batch.ts";
import { listIn } from "../../../src/http/json-body.ts";
import { ClientGone, type InnerClient, type RequestTurn } from "../../../src/ports.ts";
import { eventLoop } from "../../../src/world.ts";

test("does no more of it, and leaves its place", async () => {
  const gone = new AbortController();
  let isPlaceTaken = true;
  let ran = 0;
  let nowMs = 0;
  const turn = { run: () => BigInt(++ran) } as unknown as RequestTurn;
  const client = {
    async inTurn<T>(work: (turn: RequestTurn) => T) {
      const value = work(turn);
      if (ran >= 3) gone.abort();
      return value;
    },
  } as unknown as InnerClient;
  const place = {
    isWaiting: false,
    waitsForClient() {},
    grow: () => true,
    leave: () => void (isPlaceTaken = false),
  };
  // Time passes so fast that each operation has a turn of its own.
  const turns = new AnswerTurns({ ...eventLoop, nowMs: () => (nowMs += 2) });
  const operations = Array.from({ length: 100 }, () => ({ op: "delete", key: "k" }));
  const body = Buffer.from(JSON.stringify({ operations }));
  const answer = runBatch(listIn(body, "operations")!, client, { place, turns }, gone.signal);
  await expect(answer).rejects.toBeInstanceOf(ClientGone);
  expect(ran).toBe(3);
  expect(isPlaceTaken).toBe(false);
});
