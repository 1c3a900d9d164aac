/**
 * The journal, as the rest of the node sees it: it is told of every change of the store, and
 * says how far the changes are safe.
 *
 * Positions count journalled bytes since the start. A change is *safe* once a crash cannot
 * undo it: for `fsync = "always"` a power cut, for the other modes the death of the process.
 * Nothing that shows a change may leave the node before it is safe, be it a reply, an event
 * or an answer to a peer. There is one rule for all of them: bytes made at `position` leave
 * when `safePosition` has reached it; `whenSafe` tells.
 */
import type { SafeWaiter } from "../ports.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import { Metadata } from "./metadata.ts";

/** Why nothing can be written for now. */
export interface JournalFailure {
  /**
   * `full`: no space; `write`: another failed write; `sync`: a failed sync; `gone`: the files are.
   */
  readonly kind: "full" | "write" | "sync" | "gone";
  /** One line: what happened, where, and how it ends. */
  readonly message: string;
  /**
   * Whether writing resumes by itself. After a failed sync only a restart tells what is on disk.
   */
  readonly isPassing: boolean;
}

/** Keeps the changes of a store. */
export interface Journal {
  /** Where it keeps them, by the names of `storage.engine`. */
  readonly engine: "memory" | "log";
  /** Belongs into `store.observers`, before all that publish. */
  readonly observer: ChangeObserver;
  /** Where the next change will begin. Never decreases. */
  readonly position: number;
  /** Everything before this is safe. Never decreases, and is never above `position`. */
  readonly safePosition: number;
  /**
   * Not null while nothing can be written. Then no new writes may be taken, from clients
   * or peers, and reads need not wait: what they show may be undone by a crash.
   */
  readonly failure: JournalFailure | null;
  /**
   * Called when `failure` appears, changes or goes. To be set by whoever has to act on it in the
   * turn of the event loop in which the journal was opened: the first write may fail.
   */
  onFailureChange: () => void;
  /**
   * Calls the waiter, in order, once all that is journalled by now is safe. While a failure
   * lasts it waits on.
   */
  whenSafe(waiter: SafeWaiter): void;
  /** What was remembered under a name; undefined when nothing was. */
  metadata(name: string): Uint8Array | undefined;
  /** Remembers a small value over restarts; an empty one forgets. The name is short ASCII. */
  setMetadata(name: string, value: Uint8Array): void;
  /** Remembers what `read` returns, which is asked once a second. */
  followMetadata(name: string, read: () => Uint8Array): void;
  /** All of them as they are now. */
  allMetadata(): ReadonlyMap<string, Uint8Array>;
  /**
   * Writes the data anew and drops the log so far, unless next to nothing was logged since that
   * was done last. Resolves when it is on disk; rejects with an OperationalError.
   */
  compact(): Promise<void>;
  /** Writes what is left, marks the clean end and lets go of the directory. */
  close(): Promise<void>;
}

/** Keeps nothing: everything is as safe as it gets at once. For `storage.engine = "memory"`. */
export class MemoryJournal implements Journal {
  readonly engine = "memory";
  readonly observer: ChangeObserver = { changed() {}, removed() {}, flushed() {} };
  readonly position = 0;
  readonly safePosition = 0;
  readonly failure = null;
  onFailureChange = (): void => {};
  private readonly remembered = new Metadata();

  whenSafe(waiter: SafeWaiter): void {
    queueMicrotask(() => waiter.onSafe());
  }

  metadata(name: string): Uint8Array | undefined {
    return this.remembered.get(name);
  }

  setMetadata(name: string, value: Uint8Array): void {
    this.remembered.set(name, value);
  }

  followMetadata(name: string, read: () => Uint8Array): void {
    this.remembered.follow(name, read);
  }

  allMetadata(): ReadonlyMap<string, Uint8Array> {
    return this.remembered.all();
  }

  async compact(): Promise<void> {}

  async close(): Promise<void> {}
}
