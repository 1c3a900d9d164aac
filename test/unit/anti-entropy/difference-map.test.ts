/** The map of differences: what is noted, while somebody watches, and for how long it shows. */
import { expect, test } from "bun:test";
import { DifferenceMap } from "../../../src/anti-entropy/difference-map.ts";

function create() {
  const time = { ms: 0 };
  return { time, map: new DifferenceMap({ nowMs: () => time.ms }) };
}

/** Cells that have a state. */
function shown(map: DifferenceMap): [cell: number, state: number][] {
  return [...map.states().entries()].filter(([, state]) => state !== 0);
}

test("nothing is noted while nobody looks", () => {
  const { time, map } = create();
  map.begin().note(7);
  expect(shown(map)).toEqual([]);
  time.ms += 10_001;
  map.begin().note(7);
  expect(shown(map)).toEqual([]);
});

test("what differs is shown until it is healed, and that for some seconds", () => {
  const { time, map } = create();
  shown(map);
  const session = map.begin();
  session.note(7);
  session.note(4_095);
  session.note(7);
  const other = map.begin();
  other.note(9);
  expect(shown(map)).toEqual([[7, 1], [9, 1], [4_095, 1]]); // prettier-ignore
  session.end(true);
  expect(shown(map)).toEqual([[7, 2], [9, 1], [4_095, 2]]); // prettier-ignore
  other.end(false);
  time.ms += 5_000;
  expect(shown(map)).toEqual([[7, 2], [9, 1], [4_095, 2]]); // prettier-ignore
  time.ms += 1;
  expect(shown(map)).toEqual([[9, 1]]);
  time.ms += 60_000;
  expect(shown(map)).toEqual([]);
});

test("a session that begins before somebody looks tells what it finds from then on", () => {
  const { map } = create();
  const session = map.begin();
  session.note(1);
  expect(shown(map)).toEqual([]);
  session.note(2);
  session.end(true);
  expect(shown(map)).toEqual([[2, 2]]);
});
