/** How long a session may go on, on a clock that the test moves. */
import { describe, expect, test } from "bun:test";
import { SessionProgress } from "../../../src/anti-entropy/session-progress.ts";

const SILENCE_MS = 30_000;
const LOOK_MS = 1_000;

/** Looks once a second at a session that moves so many bytes in each; when it is ended, and why. */
function follow(bytesASecond: number, isOwnTurn = false): { endedMs: number; reason: string } {
  const progress = new SessionProgress(SILENCE_MS, 0);
  for (let nowMs = LOOK_MS; ; nowMs += LOOK_MS) {
    const reason = progress.look(nowMs, (bytesASecond * nowMs) / 1000, isOwnTurn);
    if (reason !== null) return { endedMs: nowMs, reason };
  }
}

describe("a session", () => {
  test("that moves nine bytes a second is ended after two times the time of silence", () => {
    const { endedMs, reason } = follow(9);
    expect(endedMs).toBeLessThanOrEqual(2.1 * SILENCE_MS);
    expect(endedMs).toBeGreaterThan(2 * SILENCE_MS);
    expect(reason).toMatch(/less than 1024 bytes a second/);
  });

  test("over a slow line may take its time, and nobody may take more", () => {
    for (const bytesASecond of [1_024, 10_000_000]) {
      const { endedMs, reason } = follow(bytesASecond);
      expect(endedMs).toBe(20 * SILENCE_MS + LOOK_MS);
      expect(reason).toMatch(/^it was not over within 600 s/);
    }
  });

  test("may move nothing while this node has work to do, but no longer than any other", () => {
    expect(follow(0, true).endedMs).toBe(20 * SILENCE_MS + LOOK_MS);
  });

  test("has to make room when it is slow, though not from its beginning on, and after a while in any case", () => {
    const progress = new SessionProgress(SILENCE_MS, 0);
    expect(progress.hasHadItsTurn(1_999, 0)).toBe(false);
    expect(progress.hasHadItsTurn(2_001, 0)).toBe(true);
    expect(progress.hasHadItsTurn(10_000, 700_000)).toBe(false);
    expect(progress.hasHadItsTurn(7_999, 0, 4)).toBe(false);
    expect(progress.hasHadItsTurn(8_001, 0, 4)).toBe(true);
    progress.look(10_000, 0, true);
    expect(progress.hasHadItsTurn(11_000, 0)).toBe(false);
    expect(progress.hasHadItsTurn(13_000, 0)).toBe(true);
    expect(progress.hasHadItsTurn(SILENCE_MS, 100_000_000)).toBe(false);
    expect(progress.hasHadItsTurn(SILENCE_MS + 1, 100_000_000)).toBe(true);
  });
});
