/**
 * Tells of keys that change to whoever watches a prefix. Changes are gathered for a moment and told
 * when they are safe from a crash; of a key that changed more than once the last state is told. The
 * store is only listened to while somebody watches.
 */
import type { KeyFilter } from "../access/definition.ts";
import type { User } from "../access/user.ts";
import { unixMsOf } from "../core/data/clock.ts";
import { Entry, KIND_COUNTER } from "../core/data/entry.ts";
import { KeySlice } from "../core/store/key-order.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import type { Durability, EntryFacts, KeyChange, Watcher } from "../ports.ts";
import { nextTurn, type Timing } from "../timing.ts";

/** How long changes are gathered, in ms. */
const GATHER_MS = 20;
/** Keys that may be gathered for one watcher; with more it is told to look at everything. */
export const MOST_GATHERED_KEYS = 10_000;
/** Bytes of such keys, which are told of in JSON that may be six times as long. */
export const MOST_GATHERED_BYTES = 1024 * 1024;
/** Keys told of at a time, and what they may have together. */
const KEYS_A_TURN = 200;
const BYTES_A_TURN = 64 * 1024;
/** How long watchers are told, one after the other, before others have their turn, in ms. */
const TELLING_MS = 1;
/** Who may watch at a time. */
export const MOST_WATCHERS = 64;

const found = new Entry();

/** What is told of an entry beside its value. */
export function entryFacts(store: Store, id: number): EntryFacts {
  store.read(id, found);
  const origin = hex(found.originHigh) + hex(found.originLow);
  const isCounter = found.kind === KIND_COUNTER;
  // Counters of one version may have other increments besides, which came from other nodes.
  const parts = isCounter ? `-${hex(Bun.hash.crc32(found.valueBytes()))}` : "";
  return {
    kind: isCounter ? "counter" : "string",
    version: `${hex(found.timeHigh)}${hex(found.timeLow)}-${origin}${parts}`,
    origin,
    writtenAtMs: unixMsOf(found.timeHigh, found.timeLow),
    expiresAtMs: found.expiresAtMs,
  };
}

function hex(word: number): string {
  return word.toString(16).padStart(8, "0");
}

/** One that watches, and what it is to be told. */
interface Watching {
  readonly user: User;
  readonly watcher: Watcher;
  /** Which keys may be shown now; null for all. */
  readonly filter: () => KeyFilter | null;
  /** Keys that changed, as text of one byte a character. */
  readonly changed: Set<string>;
  /** Bytes of those. */
  gatheredBytes: number;
  isLost: boolean;
}

/** See the file header. */
export class KeyWatch implements ChangeObserver {
  /** An array, for it is gone through at every write. */
  private watchings: readonly Watching[] = [];
  private isDue = false;
  private readonly key = new KeySlice();

  constructor(
    private readonly store: Store,
    private readonly durability: Durability,
    private readonly timing: Timing,
  ) {}

  /** Begins to tell a watcher; returns what ends it, or null when there are too many. */
  add(user: User, watcher: Watcher, filter: () => KeyFilter | null): (() => void) | null {
    if (this.watchings.length >= MOST_WATCHERS) return null;
    const watching = {
      user,
      watcher,
      filter,
      changed: new Set<string>(),
      gatheredBytes: 0,
      isLost: false,
    };
    if (this.watchings.length === 0) this.store.observers.push(this);
    this.watchings = [...this.watchings, watching];
    return () => this.remove(watching);
  }

  /** Ends all that a user watches. */
  endUser(user: User): void {
    for (const watching of this.watchings) {
      if (watching.user.name === user.name) this.end(watching);
    }
  }

  /** Ends everything. */
  stop(): void {
    for (const watching of this.watchings) this.end(watching);
  }

  changed(id: number): void {
    this.store.locateKey(id, this.key);
    this.note(this.key);
  }

  expired(id: number): void {
    this.changed(id);
  }

  removed(id: number, flushed: boolean): void {
    // A deletion that is forgotten was told of when it was made.
    if (flushed) this.changed(id);
  }

  flushed(_local: boolean, cleared: boolean): void {
    if (!cleared) return;
    for (const watching of this.watchings) this.lose(watching);
  }

  private end(watching: Watching): void {
    this.remove(watching);
    watching.watcher.onEnd();
  }

  private remove(watching: Watching): void {
    if (!this.watchings.includes(watching)) return;
    this.watchings = this.watchings.filter((it) => it !== watching);
    if (this.watchings.length > 0) return;
    const { observers } = this.store;
    observers.splice(observers.indexOf(this), 1);
  }

  private note(key: KeySlice): void {
    const { watchings } = this;
    let text: string | null = null;
    for (let i = 0; i < watchings.length; i++) {
      const watching = watchings[i];
      if (watching.isLost || !startsWith(key, watching.watcher.prefix)) continue;
      const { bytes, offset, length } = key;
      text ??= Buffer.from(bytes.buffer, bytes.byteOffset + offset, length).toString("latin1");
      const { changed } = watching;
      if (!changed.has(text)) watching.gatheredBytes += length;
      changed.add(text);
      const isTooMuch = watching.gatheredBytes > MOST_GATHERED_BYTES;
      if (isTooMuch || changed.size > MOST_GATHERED_KEYS) this.lose(watching);
      this.tellSoon();
    }
  }

  private lose(watching: Watching): void {
    watching.isLost = true;
    watching.changed.clear();
    watching.gatheredBytes = 0;
    this.tellSoon();
  }

  private tellSoon(): void {
    if (this.isDue) return;
    this.isDue = true;
    this.timing.after(GATHER_MS, () => void this.tell());
  }

  /** One after the other: of one that watches much there is more to be told later. */
  private async tell(): Promise<void> {
    const { timing } = this;
    let endMs = timing.nowMs() + TELLING_MS;
    for (const watching of this.watchings) {
      if (timing.nowMs() > endMs) {
        await nextTurn(timing);
        endMs = timing.nowMs() + TELLING_MS;
      }
      await this.tellOne(watching);
    }
    this.isDue = false;
    const hasMore = (it: Watching): boolean => it.isLost || it.changed.size > 0;
    if (this.watchings.some(hasMore)) this.tellSoon();
  }

  private async tellOne(watching: Watching): Promise<void> {
    const { watcher, isLost } = watching;
    watching.isLost = false;
    const changes = isLost ? [] : this.changesOf(watching);
    if (!isLost && changes.length === 0) return;
    // What they are now may have been written only just.
    await new Promise<void>((onSafe) => this.durability.whenSafe({ onSafe }));
    if (!this.watchings.includes(watching)) return;
    if (isLost) watcher.onLost();
    else watcher.onChanges(changes);
  }

  /** The next of them, as they are now. */
  private changesOf(watching: Watching): KeyChange[] {
    const { changed, filter } = watching;
    const mayShow = filter();
    const changes: KeyChange[] = [];
    const enoughBytes = watching.gatheredBytes - BYTES_A_TURN;
    for (const text of changed) {
      if (changes.length >= KEYS_A_TURN || watching.gatheredBytes < enoughBytes) break;
      changed.delete(text);
      watching.gatheredBytes -= text.length;
      const key = new Uint8Array(Buffer.from(text, "latin1"));
      if (mayShow !== null && !mayShow(key, 0, key.length)) continue;
      const id = this.store.find(key, 0, key.length);
      changes.push({ key, facts: id < 0 ? null : entryFacts(this.store, id) });
    }
    return changes;
  }
}

function startsWith({ bytes, offset, length }: KeySlice, prefix: Uint8Array): boolean {
  if (length < prefix.length) return false;
  // From its end on: keys that are alike are so from their beginning.
  for (let i = prefix.length - 1; i >= 0; i--) if (bytes[offset + i] !== prefix[i]) return false;
  return true;
}
