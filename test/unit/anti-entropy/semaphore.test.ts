/** Places that are taken, waited for, and given back. */
import { eventLoop } from "../../../src/world.ts";
import { expect, test } from "bun:test";
import { Semaphore } from "../../../src/anti-entropy/semaphore.ts";

const LONG_MS = 60_000;

test("who has waited for longest gets the next place", async () => {
  const room = new Semaphore(2, eventLoop);
  expect([await room.acquire(LONG_MS), await room.acquire(LONG_MS)]).toEqual([true, true]);
  expect(room.isFree).toBe(false);
  const entered: string[] = [];
  const waiting = ["first", "second"].map((name) =>
    room.acquire(LONG_MS).then((has) => entered.push(`${name} ${has}`)),
  );
  room.release();
  await waiting[0];
  expect(entered).toEqual(["first true"]);
  expect(room.isFree).toBe(false);
  room.close();
  await Promise.all(waiting);
  expect(entered).toEqual(["first true", "second false"]);
});

test("nobody waits for longer than he wants to, and none enters what is closed", async () => {
  const room = new Semaphore(1, eventLoop);
  await room.acquire(LONG_MS);
  expect(await room.acquire(1)).toBe(false);
  // Who has gone is not given the place.
  room.release();
  expect(room.isFree).toBe(true);
  room.close();
  expect([room.isFree, await room.acquire(LONG_MS)]).toEqual([false, false]);
});
