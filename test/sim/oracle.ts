/**
 * What must be true of a simulated cluster, kept apart from the code under test: every write
 * a client was told of, and what each node has been seen to hold. It knows how versions are
 * ordered and how a counter's bytes are laid out, nothing else of how merging is done.
 *
 * A write is *acknowledged* when the node answered its client, which it does when its journal
 * calls it safe. A node *holds* a write while, in its memory or on its disk, it has that write or
 * one that beats it, or has had and forgotten it after the tombstone grace. A crash may take from
 * a node what its disk does not promise to keep (`survival.ts`): it holds what it comes back with,
 * and that must be no less. A write that no node holds then is *excused*: it may be gone.
 *
 * Which write beats which:
 * - A SET or DEL beats those of the same key with a lower version (hybrid time, then origin),
 *   whatever the wall clocks said; with equal versions the higher value wins.
 * - An increment adds to the SET, DEL or nothing that its node held at the time, its base.
 *   A SET or DEL with a version above that of the base beats it; other increments never do. Where
 *   the key had expired, the base is nothing, directly behind the latest write that the node held.
 * - FLUSH beats all SETs, DELs and increments whose base has a lower version.
 * - The expiry is that of the latest SET, DEL, EXPIRE or PERSIST, whatever the value is the latest
 *   of: SET KEEPTTL writes the value alone, EXPIRE and PERSIST the expiry alone.
 * - Whether that has passed is a matter of the clock. A node whose clock was wrong may have let go
 *   of a value; whoever has it gives it back, and if nobody has, it is missed by all.
 *
 * So with clocks stepped an hour, "later" means later by version: a node whose clock
 * is behind loses to one whose clock is ahead, unless it had heard of the other's write.
 *
 * A node that was away for longer than the tombstone grace may be made to give up what it held
 * alone from before; it then *sets aside* the entry, which is listed. It no longer
 * holds the write then; if nobody else does, it is excused.
 *
 * At rest every node must show, for each key, exactly what follows from the writes that some
 * node holds. That includes: nothing acknowledged is lost except to a later one, no
 * deleted key is back, each counter is the sum of its increments.
 */
import { Entry } from "../../src/core/data/entry.ts";
import { isDeadBy } from "../../src/core/data/merge.ts";
import type { ChangeObserver } from "../../src/core/store/outcome.ts";
import type { Store } from "../../src/core/store/store.ts";
import {
  foldOf,
  heldUntil,
  Holding,
  type Held,
  isLiars,
  readState,
  textOf,
  versionOf,
} from "./holding.ts";
import type { DiskKind } from "./plan.ts";
import { Survival, type End, type SafetyJournal } from "./survival.ts";

/** A string, or the number of a counter as text, with its expiry in Unix ms (0 none); null: no such key. */
export type Shown = { value: string; expiresAtMs: number } | null;

interface Write {
  readonly key: string;
  readonly base: bigint;
  /** Where in the node's journal it ended. */
  readonly position: number;
}

interface SetOrDelete extends Write {
  /** Null for a DEL. */
  readonly value: string | null;
}

interface Expiry {
  readonly key: string;
  /** Twice its version, plus 1 when it is never. */
  readonly expiry: bigint;
  readonly position: number;
  readonly expiresAtMs: number;
}

interface Increment extends Write {
  readonly origin: bigint;
  readonly time: bigint;
  readonly delta: bigint;
}

/** Writes and who holds them. Nodes are named by their numbers. */
export class Oracle {
  /** Entries set aside because their node had been away too long. */
  readonly setAside: string[] = [];
  /** How often a node folded a counter. */
  folds = 0;
  /** The first thing found wrong. */
  failure: string | null = null;

  private readonly holdings: Holding[] = [];
  private readonly survivals: Survival[] = [];
  private readonly writes = new Map<string, Map<bigint, SetOrDelete[]>>();
  private readonly increments = new Map<string, Map<string, Increment[]>>();
  /** What was written of expiries, by key and by twice the version plus 1 when it is never. */
  private readonly expiries = new Map<string, Map<bigint, Expiry[]>>();
  /** Writes that nobody held when their version was given again, by key and base. */
  private readonly replaced = new Map<string, SetOrDelete[]>();
  /** Of each node those writes that its journal has perhaps not called safe. */
  private readonly latest: (SetOrDelete | Increment | Expiry)[][] = [];
  /** What each fold counts: by key, base, fold and its time. */
  private readonly contents = new Map<string, Map<bigint, bigint>>();
  private readonly view = new Entry();

  /** `onFailure` is called when something is found wrong. */
  constructor(
    disks: readonly DiskKind[],
    nowMs: () => number,
    private readonly onFailure: () => void,
  ) {
    for (const disk of disks) {
      this.holdings.push(new Holding());
      this.survivals.push(new Survival(disk, nowMs));
      this.latest.push([]);
    }
  }

  /** Says that something is wrong. The first one counts. */
  fail(reason: string): void {
    this.failure ??= reason;
    this.onFailure();
  }

  /**
   * A process has its store back, and serves from now on. Returns what follows that store; it comes
   * behind the journal among the observers.
   */
  begin(node: number, store: Store, journal: SafetyJournal): ChangeObserver {
    const survival = this.survivals[node];
    const lost = survival.begin(store, journal);
    if (lost !== null) this.fail(`node ${node}: ${lost}`);
    this.holdings[node] = survival.holding();
    this.forgetLost(node);
    return {
      changed: (id, local) => this.changed(node, store, id, local),
      removed: (id, flushed) => {
        store.read(id, this.view);
        if (flushed || isDeadBy(store.clock.nowMs(), this.view)) return;
        const gone = textOf(this.view.keyBytes());
        if (isLiars(gone)) return;
        survival.note({ gone, base: readState(this.view).base });
        this.gaveUp(node, gone);
      },
      flushed: () => {
        const { timeHigh, timeLow, originHigh, originLow } = store.floor;
        const floor = versionOf(timeHigh, timeLow, originHigh, originLow);
        if (floor <= this.holdings[node].floor) this.fail(`node ${node}: the flush floor sank`);
        this.holdings[node].raiseFloor(floor);
        survival.note({ floor });
      },
    };
  }

  /** From its next process on a node writes to its disk in another way. */
  changeDisk(node: number, disk: DiskKind): void {
    this.survivals[node].disk = disk;
  }

  /** A process is gone, or its disk lost power while there was none. */
  end(node: number, how: End): void {
    const safePosition = this.survivals[node].end(how);
    this.latest[node] = this.latest[node].filter(({ position }) => position > safePosition);
    this.holdings[node] = this.survivals[node].holding();
  }

  /** What the node is held to have of each key: while it is down, what its disk must have kept. */
  heldBy(node: number): ReadonlyMap<string, Held> {
    return this.holdings[node].keys;
  }

  /** A node lost all that was on its disk, while there was no process. */
  loseData(node: number): void {
    this.survivals[node].loseData();
    this.holdings[node] = new Holding();
  }

  /**
   * A client was told that its SET or DEL (null) is done. `expiresAtMs` is null when it wrote the
   * value alone.
   */
  wrote(
    node: number,
    store: Store,
    key: string,
    value: string | null,
    expiresAtMs: number | null,
  ): void {
    const base = this.newest(store) * 2n + (value === null ? 1n : 0n);
    const held = this.holdings[node].keys.get(key);
    if (held?.base !== base || held.parts.size > 0) {
      this.fail(`node ${node}: acknowledged a write of ${key} and does not hold it`);
    }
    if (expiresAtMs !== null) this.expired(node, store, key, expiresAtMs);
    const writes = getOrMake(this.writes, key, () => new Map<bigint, SetOrDelete[]>());
    const write = { key, base, position: this.survivals[node].position, value };
    const made = getOrMake(writes, base, () => []);
    // A node without memory gives a version again when it knows nothing of the first time. A copy
    // may be on its way all the same: `changed` sees it arrive.
    const isHeld = ({ keys }: Holding, of: number) =>
      of !== node && (keys.get(key)?.base ?? -1n) >= base;
    if (made.length > 0 && !this.holdings.some(isHeld)) {
      getOrMake(this.replaced, `${key} ${base}`, () => []).push(...made.splice(0));
    }
    made.push(write);
    this.latest[node].push(write);
  }

  /** A client was told that the key has that expiry now, 0 for never. */
  expired(node: number, store: Store, key: string, expiresAtMs: number): void {
    const expiry = this.newest(store) * 2n + (expiresAtMs === 0 ? 1n : 0n);
    if (this.holdings[node].keys.get(key)?.expiry !== expiry) {
      this.fail(`node ${node}: acknowledged an expiry of ${key} and does not hold it`);
    }
    const write = { key, expiry, position: this.survivals[node].position, expiresAtMs };
    const expiries = getOrMake(this.expiries, key, () => new Map<bigint, Expiry[]>());
    getOrMake(expiries, expiry, () => []).push(write);
    this.latest[node].push(write);
  }

  /** A client was told that its increment is done. */
  incremented(node: number, store: Store, key: string, delta: bigint): void {
    const time = this.newest(store) >> 64n;
    const held = this.holdings[node].keys.get(key);
    const part = held === undefined ? undefined : [...held.parts].find(([, it]) => it === time);
    if (held === undefined || part === undefined) {
      return this.fail(`node ${node}: acknowledged an increment of ${key} and does not hold it`);
    }
    const increments = getOrMake(this.increments, key, () => new Map<string, Increment[]>());
    const [{ base }, [origin], position] = [held, part, this.survivals[node].position];
    const increment = { key, base, origin, time, delta, position };
    getOrMake(increments, `${base} ${origin}`, () => []).push(increment);
    this.latest[node].push(increment);
  }

  /** A node set an entry aside because it had been away too long. */
  gaveUp(node: number, key: string): void {
    this.setAside.push(key);
    this.holdings[node].keys.delete(key);
  }

  /** What everybody should show for the key at this time, by what anybody holds. */
  expected(key: string, nowMs: number): Shown {
    const all = new Holding();
    for (const holding of this.holdings) all.join(holding);
    const held = all.keys.get(key);
    if (held === undefined || held.base >> 1n < all.floor) return null;
    const isString = (held.base & 1n) === 0n;
    const writes = this.writes.get(key)?.get(held.base) ?? [];
    // A version that was given twice may be held with either value; the higher wins where they meet.
    const write = writes.reduce<SetOrDelete | undefined>(higher, undefined);
    if (isString && write === undefined) {
      this.fail(`${key}: held is a value that nobody wrote`);
      return null;
    }
    const expiresAtMs = this.expectedExpiry(key, held);
    if (expiresAtMs !== 0 && expiresAtMs <= nowMs) return null;
    if (held.parts.size === 0) return isString ? { value: write!.value!, expiresAtMs } : null;
    let sum = isString ? BigInt(write!.value!) : 0n;
    for (const [origin, time] of held.parts) {
      const fold = foldOf(origin);
      const folded = this.foldedBy(key, held.base, fold, held.parts.get(fold) ?? 0n);
      if (origin === fold) {
        for (const [of, until] of folded) sum += this.sumOf(key, held.base, of, until);
        continue;
      }
      // What the fold counts of it already.
      const counted = folded.get(origin) ?? 0n;
      if (time <= counted) continue;
      sum += this.total(key, held.base, origin, time) - this.sumOf(key, held.base, origin, counted);
    }
    return { value: String(sum), expiresAtMs };
  }

  /** When a key expires, by what is held of that. */
  private expectedExpiry(key: string, { expiry }: Held): number {
    // A counter begun from nothing has the expiry of nothing, which nobody wrote.
    if ((expiry & 1n) === 1n || expiry === 0n) return 0;
    const written = this.expiries.get(key)?.get(expiry) ?? [];
    if (written.length === 0) this.fail(`${key}: held is an expiry that nobody wrote`);
    // Of a version that was given twice the later wins where the two meet.
    return Math.max(0, ...written.map(({ expiresAtMs }) => expiresAtMs));
  }

  /**
   * Forgets the writes that a node had perhaps not called safe and came back without. Nobody was
   * told of them, so the node knows nothing of them, and nothing keeps it from giving their very
   * times to others.
   */
  private forgetLost(node: number): void {
    for (const write of this.latest[node].splice(0)) {
      const { key } = write;
      const held = this.holdings[node].keys.get(key);
      if ("expiry" in write) {
        const { expiry } = write;
        if ((held?.expiry ?? -1n) < expiry) remove(this.expiries.get(key)!.get(expiry)!, write);
        continue;
      }
      const { base } = write;
      // What has something newer of the key behind it in the journal was kept as well.
      if ("value" in write) {
        if ((held?.base ?? -1n) < base) remove(this.writes.get(key)!.get(base)!, write);
      } else if (held?.base !== base || heldUntil(held.parts, write.origin) < write.time) {
        remove(this.increments.get(key)!.get(`${base} ${write.origin}`)!, write);
      }
    }
  }

  /** Of which origins a fold counts what, each up to a time. */
  private foldedBy(key: string, base: bigint, fold: bigint, time: bigint): Map<bigint, bigint> {
    if (time === 0n) return new Map<bigint, bigint>();
    const folded = this.contents.get(`${key} ${base} ${fold} ${time}`);
    if (folded === undefined) this.fail(`${key}: held is a fold that nobody made`);
    return folded ?? new Map<bigint, bigint>();
  }

  /** A fold counts what the node that made it held then; what nobody held is in none. */
  private noteFolds(key: string, base: bigint, before: Held, parts: Held["parts"]): void {
    for (const [fold, time] of parts) {
      const name = `${key} ${base} ${fold} ${time}`;
      if (fold !== foldOf(fold) || this.contents.has(name)) continue;
      const earlier = before.parts.get(fold) ?? 0n;
      const folded = new Map(this.foldedBy(key, base, fold, earlier));
      for (const [origin, until] of before.parts) {
        if (origin === fold || foldOf(origin) !== fold || until > time) continue;
        if (until > (folded.get(origin) ?? 0n)) folded.set(origin, until);
      }
      this.contents.set(name, folded);
    }
  }

  /** What was counted under an origin up to a time. */
  private sumOf(key: string, base: bigint, origin: bigint, until: bigint): bigint {
    let sum = 0n;
    for (const { time, delta } of this.increments.get(key)?.get(`${base} ${origin}`) ?? []) {
      if (time <= until) sum += delta;
    }
    return sum;
  }

  private total(key: string, base: bigint, origin: bigint, until: bigint): bigint {
    const increments = this.increments.get(key)?.get(`${base} ${origin}`) ?? [];
    let sum = 0n;
    let last = 0n;
    for (const { time, delta } of increments) {
      if (time > until) break;
      sum += delta;
      last = time;
    }
    if (last !== until) {
      const [ms, count] = [until >> 16n, until & 0xffffn];
      this.fail(`${key}: held is an increment that nobody asked for, of ${ms} ms + ${count}`);
    }
    return sum;
  }

  private changed(node: number, store: Store, id: number, local: boolean): void {
    const { view } = this;
    store.read(id, view);
    const key = textOf(view.key, view.keyOffset, view.keyLength);
    if (isLiars(key)) return;
    const holding = this.holdings[node];
    const state = readState(view);
    const { base, parts } = state;
    this.noteArrival(key, base, view);
    const before = holding.keys.get(key);
    if (before !== undefined && base < before.base) {
      // A deletion older than the one that was forgotten is nothing that came back.
      if (!store.isLive(id)) return;
      this.fail(`node ${node}: ${key} is back as it was before a write that this node had seen`);
    }
    for (const [origin, time] of parts) {
      const isFold = local && origin === foldOf(origin);
      if (isFold && (before?.parts.get(origin) ?? 0n) < time) this.folds++;
    }
    if (before?.base === base) this.noteFolds(key, base, before, parts);
    holding.joinKey(key, state);
    this.survivals[node].note({ key, expiresAtMs: view.expiresAtMs, ...state });
  }

  /** A copy of a write that seemed to be held by nobody has arrived. */
  private noteArrival(key: string, base: bigint, { value, valueOffset, valueLength }: Entry): void {
    const replaced = this.replaced.get(`${key} ${base}`);
    if (replaced === undefined) return;
    const text = textOf(value, valueOffset, valueLength);
    for (const write of replaced.filter((it) => (it.value ?? "") === text)) {
      remove(replaced, write);
      this.writes.get(key)!.get(base)!.push(write);
    }
  }

  private newest(store: Store): bigint {
    const { clock, origin } = store;
    return versionOf(clock.high, clock.low, origin.high, origin.low);
  }
}

/** What a store shows for a key. */
export function shownBy(store: Store, key: Uint8Array, view: Entry): Shown {
  const id = store.find(key, 0, key.length);
  if (id < 0) return null;
  store.readValue(id, view);
  const value = textOf(view.value, view.valueOffset, view.valueLength);
  return { value, expiresAtMs: view.expiresAtMs };
}

function higher(a: SetOrDelete | undefined, b: SetOrDelete): SetOrDelete {
  return a !== undefined && (a.value ?? "") > (b.value ?? "") ? a : b;
}

function remove<T>(from: T[], one: T): void {
  from.splice(from.indexOf(one), 1);
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let found = map.get(key);
  if (found === undefined) map.set(key, (found = make()));
  return found;
}
