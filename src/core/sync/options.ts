/** What a sync session is asked to do, and what it is made with. */
import type { Capabilities } from "../data/capabilities.ts";
import type { Contacts } from "./contacts.ts";
import type { Entry } from "../data/entry.ts";
import type { MerkleTree } from "../tree/merkle.ts";
import type { Salt } from "./short-digest.ts";
import type { Store } from "../store/store.ts";
import type { SyncCounts, SyncResult } from "./result.ts";

/**
 * What an initiator wants: to heal as of a while ago ("watermark") or as of now ("now"), comparing
 * every key instead of trusting the tree ("full"), comparing the roots afterwards ("verify"), or
 * just some entries ("fetch"). "inspect" is for who has no store (`sync/inspector.ts`).
 */
export type SyncMode = "watermark" | "now" | "full" | "verify" | "fetch" | "inspect";

/** The numbers of the modes in a HELLO: index into this. */
export const MODES: readonly SyncMode[] = [
  "watermark",
  "now",
  "full",
  "verify",
  "fetch",
  "inspect",
];

/** Those that compare everything, up to now. */
export const UP_TO_NOW: readonly SyncMode[] = ["now", "full", "verify"];

/** Why an entry is set aside. */
export type SetAsideReason = "stale" | "future";
/** Told whether an entry was put away, so that not even a power cut loses it. */
export type SetAsideDone = (isKept: boolean) => void;
/** Puts an entry away where people find it. */
export type SetAsideEntry = (entry: Entry, reason: SetAsideReason, done: SetAsideDone) => void;

/** Somebody who looks where two trees differ. */
export interface DifferenceWatch {
  /** Whether it is worth while to find out what can only be told with some work. */
  readonly isWatched: boolean;
  /**
   * Below that node of the tree, of the level above its buckets, the two differ; perhaps told
   * several times.
   */
  note(node: number): void;
}

/** What a session is made with. */
export interface SyncSessionOptions {
  readonly role: "initiator" | "responder";
  /** Initiator only; "watermark" by default. */
  readonly mode?: SyncMode;
  /** Initiator only: compare the roots afterwards, in any mode; "verify" is "now" with this. */
  readonly verify?: boolean;
  readonly store: Store;
  /**
   * The tree to compare with who has these features in common with this node; before that is known,
   * an initiator asks with its own. It is kept up to date by the caller until the session ends, or
   * asks for another.
   */
  readonly treeFor: (features: number) => MerkleTree;
  readonly contacts: Contacts;
  /** Members are dropped when nothing was heard of them for so long, in ms; never by default. */
  readonly forgetAfterMs?: number;
  /** Name of the cluster (the topic prefix); both sides must have the same. */
  readonly cluster: string;
  readonly nodeId: string;
  /**
   * New at each start of the process; tells two processes with one node id apart. A safe integer.
   */
  readonly epoch: number;
  /** Random, and new for each session. */
  readonly salt: Salt;
  /** What this node speaks; what the program does, unless given. */
  readonly capabilities?: Capabilities;
  /** Whether to compress what the peer reads compressed; true by default. */
  readonly compresses?: boolean;
  /** How far back the watermark lies; longer than an event travels. */
  readonly lagMs: number;
  /** No frame is longer, sent or received; has to hold the largest entry. */
  readonly maxFrameBytes: number;
  /** Unix milliseconds. */
  readonly nowMs: () => number;
  /** Whether there is no doubt about that; true by default. */
  readonly isTimeKnown?: () => boolean;
  /** Initiator only: that node says that it is that time, in Unix ms; null: it is in doubt. */
  readonly onPeerTime?: (nodeId: string, unixMs: number | null) => void;
  /** Milliseconds from anywhere, for the length of slices. */
  readonly monotonicMs: () => number;
  /** Takes one complete frame; has copied or sent it when it returns. */
  readonly send: (frame: Uint8Array) => void;
  /**
   * An entry that goes no further; valid until this returns. `done` is to be called once it
   * is put away for good, or cannot be; an entry of the store is dropped only then.
   */
  readonly onSetAside: SetAsideEntry;
  /** The session waited for a copy to be set aside, and can go on: call `step`. */
  readonly onResumable?: () => void;
  /** Called exactly once, the last thing a session does. */
  readonly onEnd: (result: SyncResult) => void;
  /**
   * Responder only: whether it has room for a session with the node of that id, which has just said
   * who it is. What it is told when there is none, else null.
   */
  readonly admit?: (nodeId: string) => string | null;
  /** Initiator only: the trace that the session belongs to, in bytes that the responder is told. */
  readonly trace?: Uint8Array;
  /** Responder only: what a peer that was admitted says of that; perhaps twice. */
  readonly onTrace?: (trace: Uint8Array) => void;
  /** The word went to the responder and came back. */
  readonly onRound?: (counts: Readonly<SyncCounts>) => void;
  /** Told where the other side has something else. */
  readonly differences?: DifferenceWatch;
  /** Mode "fetch": the keys to ask for. */
  readonly fetchKeys?: readonly Uint8Array[];
}
