/** Who is let in when all places, or all memory, are taken. */
import { expect, test } from "bun:test";
import { Places, type Place } from "../../../src/http/places.ts";

/** Waits for its client; says in `cut` when it was cut. */
function waiting(places: Places, bytes: number, name: string, cut: string[]): Place {
  const place = places.take(bytes)!;
  place.waitsForClient(() => void cut.push(name));
  return place;
}

test("who comes is let in at the cost of the first that waits for its client", () => {
  const places = new Places(3, 100);
  const cut: string[] = [];
  const busy = places.take(0)!;
  const first = waiting(places, 10, "first", cut);
  waiting(places, 10, "second", cut);
  expect(places.take(10)).not.toBeNull();
  expect(cut).toEqual(["first"]);
  expect(places.take(80)).not.toBeNull();
  expect(cut).toEqual(["first", "second"]);
  // Those at work are left alone.
  expect(places.take(0)).toBeNull();
  // It is out already, and leaves nothing twice.
  first.leave();
  expect(first.grow(1)).toBe(false);
  expect(places.take(0)).toBeNull();
  busy.leave();
  busy.leave();
  expect(places.take(10)).not.toBeNull();
});

test("memory is made room for likewise, and never at one's own cost", () => {
  const places = new Places(10, 100);
  const cut: string[] = [];
  const own = waiting(places, 10, "own", cut);
  waiting(places, 30, "other", cut);
  expect(own.grow(60)).toBe(true);
  expect(cut).toEqual([]);
  expect(own.grow(10)).toBe(true);
  expect(cut).toEqual(["other"]);
  expect(own.grow(21)).toBe(false);
  expect(places.take(21)).not.toBeNull();
  expect(cut).toEqual(["other", "own"]);
  expect(places.take(101)).toBeNull();
});

test("what is more than all there is cuts nobody", () => {
  const places = new Places(2, 100);
  const cut: string[] = [];
  waiting(places, 10, "it", cut);
  expect(places.take(101)).toBeNull();
  expect(cut).toEqual([]);
});
