/**
 * What of a node's data must outlive its process, by what its disk promises:
 *
 * - The end of a process alone takes nothing that the journal had called safe.
 * - A power cut takes nothing that was safe with `always`; with `everysec` nothing that had been
 *   safe for a second and the time it takes to sync; with `never` anything since the start.
 * - After a clean stop everything is there, and so it is, even for a power cut, once a process has
 *   started from it.
 *
 * And what was set aside does not come back once the journal calls it gone.
 */
import { Entry } from "../../src/core/data/entry.ts";
import type { Store } from "../../src/core/store/store.ts";
import type { Journal } from "../../src/durability/journal.ts";
import {
  baseMs,
  type Held,
  Holding,
  includes,
  isLiars,
  readState,
  textOf,
  versionOf,
} from "./holding.ts";
import type { DiskKind } from "./plan.ts";

/** A journal, as far as it says what is safe. */
export type SafetyJournal = Pick<Journal, "position" | "safePosition" | "whenSafe">;

/** How a process ended. */
export interface End {
  readonly kind: "stop" | "kill" | "power";
  /** With `everysec`, what was safe by then is synced. */
  readonly syncedMs: number;
}

/** A change of the store: an entry, the flush floor, or an entry that was set aside. */
type Change =
  | ({ readonly key: string; readonly expiresAtMs: number } & Held)
  | { readonly floor: bigint }
  | { readonly gone: string; readonly base: bigint };

/** After which a key is not there, and may be forgotten some time: a deletion, or an expiry that passes. */
interface Ending {
  readonly key: string;
  readonly held: Held;
  /** When the key is gone by that, in Unix ms. */
  readonly endsMs: number;
}

/** What is on a disk for certain. */
class Kept {
  holding = new Holding();
  /** Keys that were set aside since the last that is known of them, and the base they had. */
  readonly gone = new Map<string, bigint>();

  /** Takes in changes up to a position. */
  advance(changes: readonly (readonly [number, Change])[], limit: number): void {
    let next = 0;
    for (; next < changes.length && changes[next][0] <= limit; next++) {
      const change = changes[next][1];
      if ("floor" in change) this.holding.raiseFloor(change.floor);
      else if ("gone" in change) {
        this.holding.keys.delete(change.gone);
        this.gone.set(change.gone, change.base);
      } else {
        this.holding.joinKey(change.key, change);
        this.gone.delete(change.key);
      }
    }
    // What comes later may be on the disk too, so it is not certain that these are gone.
    for (const [, change] of changes.slice(next)) {
      if ("key" in change) this.gone.delete(change.key);
      else if ("gone" in change) this.holding.keys.delete(change.gone);
    }
  }
}

/** See the file header. Of one node, through all its processes. */
export class Survival {
  /** What survives the end of the process, and what a power cut. */
  private kept = new Kept();
  private synced = new Kept();
  /** Where in the journal each change ended. */
  private changes: (readonly [number, Change])[] = [];
  /** When the journal called what safe. */
  private safe: { readonly atMs: number; readonly position: number }[] = [];
  /** What the last process ended so that it may be on the disk or not. */
  private uncertain: Ending[] = [];
  /** The same should the power go before the next process is there. */
  private unsynced: Ending[] = [];
  private journal: SafetyJournal | null = null;
  private isWaiting = false;

  constructor(
    /** How the process that is there, or is to come, writes to the disk. */
    public disk: DiskKind,
    private readonly nowMs: () => number,
  ) {}

  /** What the node holds at least. */
  holding(): Holding {
    return this.kept.holding.clone();
  }

  /** All that was on the disk is gone. */
  loseData(): void {
    this.kept = new Kept();
    this.synced = new Kept();
  }

  /** A process came back with this. Says what it lacks, or has and should not. */
  begin(store: Store, journal: SafetyJournal): string | null {
    this.journal = journal;
    this.isWaiting = false;
    const found = readStore(store);
    const problem = this.findLoss(found, store);
    found.join(this.kept.holding);
    this.joinForgotten(found, store);
    this.kept = new Kept();
    this.synced = new Kept();
    this.kept.holding = found;
    this.synced.holding = found.clone();
    return problem;
  }

  /** The store changed, and the journal has it already. */
  note(change: Change): void {
    const { journal } = this;
    if (this.disk === "none" || journal === null) return;
    this.changes.push([journal.position, change]);
    this.awaitSafety(journal);
  }

  /** Where the journal is. */
  get position(): number {
    return this.journal?.position ?? 0;
  }

  /** The process ended, or there was none and the power went. Returns up to where all was safe. */
  end(how: End): number {
    const { changes, safe } = this;
    const isStop = how.kind === "stop";
    const limit = isStop ? Infinity : (safe.at(-1)?.position ?? 0);
    this.kept.advance(changes, limit);
    const lastSync = safe.findLast((it) => it.atMs <= how.syncedMs)?.position ?? 0;
    const syncLimit = this.disk === "never" ? 0 : lastSync;
    this.synced.advance(changes, this.disk === "always" || isStop ? limit : syncLimit);
    if (this.disk === "none") this.kept = new Kept();
    else if (how.kind === "power") this.kept = copyOf(this.synced);
    if (this.journal !== null) {
      const isSafeSynced = this.disk === "always" || isStop;
      this.uncertain = endingsAfter(limit, changes);
      this.unsynced = endingsAfter(isSafeSynced ? limit : syncLimit, changes);
    }
    if (how.kind === "power") this.uncertain = this.unsynced;
    this.changes = [];
    this.safe = [];
    this.journal = null;
    return limit;
  }

  private awaitSafety(journal: SafetyJournal): void {
    if (this.isWaiting) return;
    this.isWaiting = true;
    journal.whenSafe({
      onSafe: () => {
        if (this.journal !== journal) return;
        this.isWaiting = false;
        const { safePosition: position } = journal;
        this.safe.push({ atMs: this.nowMs(), position });
        if (position < journal.position) this.awaitSafety(journal);
      },
    });
  }

  /**
   * What is not here although it must be was deleted or has expired, and that was forgotten: so
   * what ended it had come to the disk.
   */
  private joinForgotten(found: Holding, store: Store): void {
    const forgottenMs = store.deletions.forgottenUpToMs;
    const here = readStore(store);
    for (const { key, held, endsMs } of this.uncertain) {
      if (here.keys.has(key) || endsMs > forgottenMs) continue;
      if (isDeletion(held) || this.kept.holding.keys.has(key)) found.joinKey(key, held);
    }
    this.uncertain = [];
  }

  private findLoss(found: Holding, store: Store): string | null {
    const { holding, gone } = this.kept;
    const forgottenMs = store.deletions.forgottenUpToMs;
    if (found.floor < holding.floor) return "came back without a flush";
    for (const [key, held] of holding.keys) {
      const here = found.keys.get(key);
      const isFlushed = held.base >> 1n < found.floor;
      // In the place of a deletion that was forgotten an older one may have been taken in, or what
      // has expired.
      const isPurged = !isLive(store, key) && baseMs(held.base) <= forgottenMs;
      if (isFlushed || isPurged || (here !== undefined && includes(here, held))) continue;
      return `came back without what it had of ${key}`;
    }
    for (const [key, base] of gone) {
      const here = found.keys.get(key);
      if (here !== undefined && here.base <= base) return `came back with ${key}, once set aside`;
    }
    return null;
  }
}

function endingsAfter(position: number, changes: readonly (readonly [number, Change])[]): Ending[] {
  return changes.flatMap(([at, it]) => {
    if (at <= position || !("key" in it)) return [];
    const { key, base, expiry, expiresAtMs } = it;
    if (isDeletion(it)) {
      return [{ key, held: { base, parts: new Map(), expiry: 0n }, endsMs: baseMs(base) }];
    }
    if (expiresAtMs === 0) return [];
    return [{ key, held: it, endsMs: Math.max(baseMs(base), baseMs(expiry), expiresAtMs) }];
  });
}

function isDeletion({ base }: Pick<Held, "base">): boolean {
  return (base & 1n) === 1n;
}

function copyOf({ holding, gone }: Kept): Kept {
  const copy = new Kept();
  copy.holding = holding.clone();
  for (const [key, base] of gone) copy.gone.set(key, base);
  return copy;
}

function isLive(store: Store, key: string): boolean {
  const bytes = new TextEncoder().encode(key);
  return store.find(bytes, 0, bytes.length) >= 0;
}

function readStore(store: Store): Holding {
  const holding = new Holding();
  const view = new Entry();
  for (let id = 0; id < store.idLimit; id++) {
    if (!store.isUsed(id)) continue;
    store.read(id, view);
    const key = textOf(view.keyBytes());
    if (!isLiars(key)) holding.joinKey(key, readState(view));
  }
  const { timeHigh, timeLow, originHigh, originLow } = store.floor;
  holding.raiseFloor(versionOf(timeHigh, timeLow, originHigh, originLow));
  return holding;
}
