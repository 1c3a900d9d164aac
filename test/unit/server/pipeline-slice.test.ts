/** How long a pipeline is worked through, by what its requests take. */
import { describe, expect, test } from "bun:test";
import { PipelineSlice } from "../../../src/server/pipeline-slice.ts";

/** How many requests a slice takes that last `ms` and work on `bytes` each; quick ones come first. */
function requestsIn(ms: number, bytes: number, quickOnes = 0): { count: number; looks: number } {
  let nowMs = 0;
  let looks = 0;
  let work = 1_000_000;
  const slice = new PipelineSlice(() => {
    looks++;
    return nowMs;
  });
  // What is left of the one before does not count.
  slice.begin(0);
  slice.isOver(5);
  slice.begin(work);
  for (let count = 1; ; count++) {
    const isQuick = count <= quickOnes;
    nowMs += isQuick ? 0.0005 : ms;
    work += isQuick ? 60 : bytes;
    if (slice.isOver(work)) return { count, looks };
  }
}

describe("a slice", () => {
  test("of short requests is a quarter of a millisecond, and seldom looks at the clock", () => {
    const { count, looks } = requestsIn(0.0005, 60);
    expect(count).toBeGreaterThan(400);
    expect(count).toBeLessThan(700);
    expect(looks).toBeLessThan(count / 12);
  });

  test("of long requests is a few of them, though they work on little", () => {
    expect(requestsIn(1, 0).count).toBeLessThanOrEqual(4);
    expect(requestsIn(0.1, 0).count).toBeLessThanOrEqual(8);
  });

  test("ends with the long requests that come behind many short ones", () => {
    expect(requestsIn(1, 20_000, 16).count).toBeLessThanOrEqual(17);
    expect(requestsIn(1, 0, 16).count).toBeLessThanOrEqual(32);
  });

  test("is over after half a megabyte of work, whatever the clock says", () => {
    expect(requestsIn(0, 100_000).count).toBe(6);
  });
});
