/** Places that are taken, waited for, and given back. */
import { eventLoop } from "../../../src/world.ts";
import { expect, test } from "bun:test";
import { Room } from "../../../src/anti-entropy/room.ts";

const LONG_MS = 60_000;

test("who has waited for longest gets the next place", async () => {
  const room = new Room(2, eventLoop);
  expect([await room.enter(LONG_MS), await room.enter(LONG_MS)]).toEqual([true, true]);
  expect(room.isFree).toBe(false);
  const entered: string[] = [];
  const waiting = ["first", "second"].map((name) =>
    room.enter(LONG_MS).then((has) => entered.push(`${name} ${has}`)),
  );
  room.leave();
  await waiting[0];
  expect(entered).toEqual(["first true"]);
  expect(room.isFree).toBe(false);
  room.close();
  await Promise.all(waiting);
  expect(entered).toEqual(["first true", "second false"]);
});

test("nobody waits for longer than he wants to, and none enters what is closed", async () => {
  const room = new Room(1, eventLoop);
  await room.enter(LONG_MS);
  expect(await room.enter(1)).toBe(false);
  // Who has gone is not given the place.
  room.leave();
  expect(room.isFree).toBe(true);
  room.close();
  expect([room.isFree, await room.enter(LONG_MS)]).toEqual([false, false]);
});
