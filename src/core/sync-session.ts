/**
 * One anti-entropy session between two nodes, as a pure step machine: bytes and slices of
 * time go in, frames and an end state come out. It knows no sockets, timers or clocks.
 */
import type { Contacts } from "./contacts.ts";
import type { Entry } from "./entry.ts";
import type { MerkleTree } from "./merkle.ts";
import type { Store } from "./store.ts";

/** What an initiator wants of a session. */
export type SyncMode = "watermark" | "now" | "full" | "verify" | "fetch" | "inspect";

/** Why a session failed, for whoever decides when to try again. */
export type SyncFailure = "busy" | "duplicate" | "incompatible" | "protocol" | "closed" | "full";

/** How a session ended. Bytes include frame headers. */
export interface SyncResult {
  readonly ok: boolean;
  /** Null exactly when `ok`. */
  readonly failure: SyncFailure | null;
  /** One clear sentence when it failed, else empty. */
  readonly reason: string;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Of those bytes, the values of entries. */
  readonly valueBytesSent: number;
  readonly valueBytesReceived: number;
  /** How often the word went to the responder and came back. */
  readonly roundTrips: number;
  readonly entriesSent: number;
  readonly entriesReceived: number;
  /** Entries received that changed this store. */
  readonly entriesApplied: number;
  readonly entriesSetAside: number;
  /** Entries whose digests were compared one by one. */
  readonly keysCompared: number;
  /** Empty until the peer has said who it is. */
  readonly peerNodeId: string;
  /** Mode "verify": whether the roots were equal afterwards; null when not asked for, or when others wrote meanwhile. */
  readonly rootsEqual: boolean | null;
}

/** What a session is made with. */
export interface SyncSessionOptions {
  readonly role: "initiator" | "responder";
  /** Initiator only; "watermark" by default. */
  readonly mode?: SyncMode;
  readonly store: Store;
  readonly tree: MerkleTree;
  readonly contacts: Contacts;
  /** Name of the cluster (the topic prefix); both sides must have the same. */
  readonly cluster: string;
  readonly nodeId: string;
  /** New at each start of the process; tells two processes with one node id apart. A safe integer. */
  readonly epoch: number;
  /** How far back the watermark lies; longer than an event travels. */
  readonly lagMs: number;
  /** No frame is longer, sent or received; has to hold the largest entry. */
  readonly maxFrameBytes: number;
  /** Unix milliseconds. */
  readonly nowMs: () => number;
  /** Milliseconds from anywhere, for the length of slices. */
  readonly monotonicMs: () => number;
  /** Takes one complete frame; has copied or sent it when it returns. */
  readonly send: (frame: Uint8Array) => void;
  /** An entry that goes no further; valid until this returns. */
  readonly onSetAside: (entry: Entry, reason: "stale" | "future") => void;
  /** Called exactly once, the last thing a session does. */
  readonly onEnd: (result: SyncResult) => void;
  /** Mode "fetch": the keys to ask for. */
  readonly fetchKeys?: readonly Uint8Array[];
}

/** The frame a node sends instead of holding a session, because it holds enough of them. */
export function busyFrame(): Uint8Array {
  throw new Error("not yet");
}

/**
 * One side of a session. Call `step` after `start`, after `receive`, after `canSend` became
 * true again, and as long as it returns true.
 */
export class SyncSession {
  /** The transport clears this while its output queue is long; then the session makes no more. */
  canSend = true;

  constructor(private readonly options: SyncSessionOptions) {}

  /** False while the session has enough input to work on: pause reading until it is true again. Look after `receive` and `step`. */
  get canReceive(): boolean {
    return true;
  }

  /** Initiator: begins. */
  start(): void {}

  /** Takes the next bytes of the stream, cut anywhere. Does no more than store them. */
  receive(_bytes: Uint8Array): void {}

  /** Does one slice of work, about 2 ms. True when there is more to do now: call again soon. */
  step(): boolean {
    return false;
  }

  /** The transport is done with this session: connection lost, timeout, shutdown. */
  close(_reason: string): void {
    void this.options;
  }
}
