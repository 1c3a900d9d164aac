/** Frames of a sync session wait until what they may show is safe, in their order. */
import { expect, test } from "bun:test";
import { SafeSender } from "../../../src/anti-entropy/safe-sender.ts";
import { ManualDurability } from "../../support/manual-durability.ts";

function setUp() {
  const durability = new ManualDurability();
  const said: string[] = [];
  const link = {
    send: (frame: Uint8Array) => void said.push(String(frame)),
    end: () => void said.push("end"),
  };
  const sender = new SafeSender(link, durability, () => void said.push("released"));
  return { durability, sender, said };
}

test("a frame leaves at once when everything is safe", () => {
  const { sender, said } = setUp();
  sender.send(new Uint8Array([1]));
  sender.end();
  expect(said).toEqual(["1", "end"]);
});

test("a frame waits for what was written before it, and for the frames before it", () => {
  const { durability, sender, said } = setUp();
  const first = new Uint8Array([1]);
  durability.position = 10;
  sender.send(first);
  first[0] = 9; // the buffer is used again
  durability.position = 20;
  sender.send(new Uint8Array([2, 2]));
  expect(sender.waitingBytes).toBe(3);
  expect(said).toEqual([]);
  durability.reach(10);
  expect(said).toEqual(["1"]);
  durability.reach(20);
  expect(said).toEqual(["1", "2,2", "released"]);
  expect(sender.waitingBytes).toBe(0);
});

test("the link ends behind the last frame", () => {
  const { durability, sender, said } = setUp();
  durability.position = 10;
  sender.send(new Uint8Array([1]));
  sender.end();
  expect(said).toEqual([]);
  durability.reach(10);
  expect(said).toEqual(["1", "end"]);
});
