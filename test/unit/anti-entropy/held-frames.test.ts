/** Frames of a sync session wait until what they may show is safe, in their order. */
import { expect, test } from "bun:test";
import { HeldFrames } from "../../../src/anti-entropy/held-frames.ts";
import { ManualDurability } from "../../support/manual-durability.ts";

function held() {
  const durability = new ManualDurability();
  const said: string[] = [];
  const link = {
    send: (frame: Uint8Array) => void said.push(String(frame)),
    end: () => void said.push("end"),
  };
  const frames = new HeldFrames(link, durability, () => void said.push("released"));
  return { durability, frames, said };
}

test("a frame leaves at once when everything is safe", () => {
  const { frames, said } = held();
  frames.send(new Uint8Array([1]));
  frames.end();
  expect(said).toEqual(["1", "end"]);
});

test("a frame waits for what was written before it, and for the frames before it", () => {
  const { durability, frames, said } = held();
  const first = new Uint8Array([1]);
  durability.position = 10;
  frames.send(first);
  first[0] = 9; // the buffer is used again
  durability.position = 20;
  frames.send(new Uint8Array([2, 2]));
  expect(frames.bytes).toBe(3);
  expect(said).toEqual([]);
  durability.reach(10);
  expect(said).toEqual(["1"]);
  durability.reach(20);
  expect(said).toEqual(["1", "2,2", "released"]);
  expect(frames.bytes).toBe(0);
});

test("the link ends behind the last frame", () => {
  const { durability, frames, said } = held();
  durability.position = 10;
  frames.send(new Uint8Array([1]));
  frames.end();
  expect(said).toEqual([]);
  durability.reach(10);
  expect(said).toEqual(["1", "end"]);
});
