/** A store as one who lies tells of it: what it has forgotten, what it takes. */
import type { Entry } from "../../src/core/data/entry.ts";
import { writtenMs } from "../../src/core/data/merge.ts";
import type { Deletions } from "../../src/core/store/deletions.ts";
import type { Store } from "../../src/core/store/store.ts";

/** What it says it has purged, and up to when it refuses what may have been deleted, in Unix ms. */
interface Purges {
  readonly purgedUpToMs: number;
  readonly refusedUpToMs: number;
}

/** `store`, but for what is `told` of it. What it says of purges is bounded by no grace. */
export function lyingStore(
  store: Store,
  { purgedUpToMs, refusedUpToMs }: Purges,
  told: Partial<Record<keyof Store, unknown>>,
): Store {
  const deletions = withTold<Deletions>(store.deletions, {
    latestPurgeMs: () => Infinity,
    latestForgottenMs: () => Infinity,
    purgedUpToMs,
    purgedElsewhereMs: refusedUpToMs,
    mayHaveForgotten: (entry: Entry) => writtenMs(entry) <= Math.max(purgedUpToMs, refusedUpToMs),
  });
  return withTold<Store>(store, { ...told, deletions });
}

function withTold<T extends object>(real: T, told: Partial<Record<keyof T, unknown>>): T {
  return new Proxy(real, {
    get(target, name) {
      if (Object.hasOwn(told, name)) return told[name as keyof T];
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });
}
