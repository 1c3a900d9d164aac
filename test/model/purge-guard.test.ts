/** What a session does about purges in its store. */
import { expect, test } from "bun:test";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Entry, KIND_TOMBSTONE } from "../../src/core/data/entry.ts";
import { Deletions } from "../../src/core/store/deletions.ts";
import { PurgeGuard } from "../../src/core/sync/purge-guard.ts";

function begun(): { deletions: Deletions; guard: PurgeGuard; tombstone: Entry } {
  const deletions = new Deletions(new HybridClock(() => 1_000_000), 1_000);
  const guard = new PurgeGuard(deletions);
  const tombstone = new Entry();
  tombstone.kind = KIND_TOMBSTONE;
  guard.begin();
  return { deletions, guard, tombstone };
}

test("holds purges back until it ends, and ends once", () => {
  const { deletions, guard, tombstone } = begun();
  expect(deletions.purge(tombstone)).toBe(false);
  expect(guard.isBroken).toBe(false);
  guard.end();
  guard.end();
  expect(deletions.sessionsUnderWay).toBe(0);
  expect(deletions.purge(tombstone)).toBe(true);
  // It is not this session's any more.
  expect(guard.isBroken).toBe(false);
});

test("is broken by a purge all the same, but not by one at the peer's word", () => {
  const { deletions, guard, tombstone } = begun();
  expect(guard.allowing(() => (deletions.purgeAtOnce(tombstone), "result"))).toBe("result");
  expect(guard.isBroken).toBe(false);
  deletions.purgeAtOnce(tombstone);
  expect(guard.isBroken).toBe(true);
  // What is allowed later does not mend that.
  guard.allowing(() => deletions.purgeAtOnce(tombstone));
  expect(guard.isBroken).toBe(true);
});
