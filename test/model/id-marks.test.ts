import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { IdMarks } from "../../src/core/tree/id-marks.ts";

/** Around the ends of words and chunks, where mistakes would be. */
const ids = fc.oneof(
  fc.integer({ min: 0, max: 70 }),
  fc.integer({ min: 32_730, max: 32_800 }),
  fc.integer({ min: 0, max: 100_000 }),
);

describe("marks of ids", () => {
  test("are those of a set, in ascending order from anywhere, as many as there is room for", () => {
    const steps = fc.array(fc.tuple(fc.boolean(), ids), { maxLength: 60 });
    const room = fc.integer({ min: 1, max: 8 });
    fc.assert(
      fc.property(steps, ids, room, (changes, from, length) => {
        const marks = new IdMarks();
        const naive = new Set<number>();
        for (const [isMarked, id] of changes) {
          if (isMarked) {
            marks.mark(id);
            naive.add(id);
          } else {
            marks.unmark(id);
            naive.delete(id);
          }
          expect(marks.has(id)).toBe(isMarked);
        }
        expect(marks.count).toBe(naive.size);
        const out = new Int32Array(length);
        const count = marks.copyFrom(from, out);
        const behind = [...naive].filter((id) => id >= from).sort((a, b) => a - b);
        expect([...out.subarray(0, count)]).toEqual(behind.slice(0, length));
        expect([...naive].every((id) => id < marks.idLimit)).toBe(true);
        // Touching makes no room, and marks nothing.
        const { idLimit } = marks;
        marks.touch(Int32Array.of(-1, from, 500_000), 3);
        expect([marks.count, marks.idLimit]).toEqual([naive.size, idLimit]);
        marks.clear();
        expect(marks.count + marks.idLimit + marks.bytes()).toBe(0);
      }),
    );
  });
});
