/** Permits that are acquired, waited for, and released. */
import { eventLoop } from "../../../src/world.ts";
import { expect, test } from "bun:test";
import { Semaphore } from "../../../src/anti-entropy/semaphore.ts";

const LONG_MS = 60_000;

test("who has waited for longest gets the next permit", async () => {
  const semaphore = new Semaphore(2, eventLoop);
  expect([await semaphore.acquire(LONG_MS), await semaphore.acquire(LONG_MS)]).toEqual([
    true,
    true,
  ]);
  expect(semaphore.isFree).toBe(false);
  const entered: string[] = [];
  const waiting = ["first", "second"].map((name) =>
    semaphore.acquire(LONG_MS).then((has) => entered.push(`${name} ${has}`)),
  );
  semaphore.release();
  await waiting[0];
  expect(entered).toEqual(["first true"]);
  expect(semaphore.isFree).toBe(false);
  semaphore.close();
  await Promise.all(waiting);
  expect(entered).toEqual(["first true", "second false"]);
});

test("nobody waits for longer than he wants to, and none enters what is closed", async () => {
  const semaphore = new Semaphore(1, eventLoop);
  await semaphore.acquire(LONG_MS);
  expect(await semaphore.acquire(1)).toBe(false);
  // Who has gone is not given the place.
  semaphore.release();
  expect(semaphore.isFree).toBe(true);
  semaphore.close();
  expect([semaphore.isFree, await semaphore.acquire(LONG_MS)]).toEqual([false, false]);
});

test("with more permits those who wait go on, with fewer nobody loses one", async () => {
  const semaphore = new Semaphore(1, eventLoop);
  expect(await semaphore.acquire(10_000)).toBe(true);
  const waiting = [semaphore.acquire(10_000), semaphore.acquire(10_000)];
  semaphore.setPermits(3);
  expect(await Promise.all(waiting)).toEqual([true, true]);
  expect(semaphore.isFree).toBe(false);
  semaphore.setPermits(2);
  const last = semaphore.acquire(10_000);
  semaphore.release();
  expect(semaphore.isFree).toBe(false);
  semaphore.release();
  expect(await last).toBe(true);
  semaphore.release();
  expect(semaphore.isFree).toBe(true);
});
