/**
 * Where the parts of a node meet: what one part asks of another, as interfaces. Whoever asks and
 * whoever answers both depend on this file and not on each other; `node.ts` puts them together.
 */
import type { NodeAddress } from "./config/address.ts";
import type { RespError, RespReply } from "./protocol/resp-value.ts";

/** How replication stands. */
export interface ReplicationControl {
  /** `nodes` counts the nodes known to be online, this one included. */
  status(): { enabled: boolean; nodes: number };
  enable(): void;
  /** Resolves when this node has left the cluster. */
  disable(): Promise<void>;
}

/** Waits for what was written to be safe from a crash. */
export interface SafeWaiter {
  /** Called once; never from within `whenSafe`. */
  onSafe(): void;
}

/** How far writes are safe from a crash. Positions count what was written since the start. */
export interface Durability {
  /** Where the next write will begin. */
  readonly position: number;
  /** Every write before this is safe. */
  readonly safePosition: number;
  /** Not null while nothing can be kept, so that no writes may be taken. */
  readonly failure: {
    readonly kind: "full" | "write" | "sync" | "gone";
    readonly message: string;
  } | null;
  /** Calls the waiter once all that is written by now is safe. */
  whenSafe(waiter: SafeWaiter): void;
}

/** What is told of an entry beside its value. */
export interface EntryFacts {
  /** `string` or `counter`. */
  readonly kind: string;
  /** Another one with every write, the same on every node that has the same. */
  readonly version: string;
  /** Who wrote it: the first 8 bytes of SHA-256 of its node id, for strings, in hexadecimal. */
  readonly origin: string;
  /** When it was written, in Unix ms by the writer's clock. */
  readonly writtenAtMs: number;
  /** Unix ms; 0 for never. */
  readonly expiresAtMs: number;
}

/** Runs commands one after the other, with nobody else's between them. */
export interface RequestTurn {
  /**
   * Runs one that answers at once, as those do that write single keys. Bytes in its reply are there
   * until the next one is run.
   */
  run(words: readonly (Uint8Array | string)[]): RespReply;
  /** Runs GET. */
  get(key: Uint8Array): HeldValue | RespError | null;
  /** Whether a key is live. No rights are asked for. */
  has(key: Uint8Array): boolean;
  /** What is told of a live key; null when there is none. No rights are asked for. */
  entry(key: Uint8Array): EntryFacts | null;
}

/** A change of a key, as those are told of it who watch. */
export interface KeyChange {
  readonly key: Uint8Array;
  /** Null when the key is not there any more. */
  readonly facts: EntryFacts | null;
}

/** Who watches keys. */
export interface Watcher {
  /** Keys that begin so are watched. */
  readonly prefix: Uint8Array;
  /** Keys have changed, each of which is named once, as it is now. All of it is safe. */
  onChanges(changes: readonly KeyChange[]): void;
  /** So much changed that not all of it is told: look at everything again. */
  onLost(): void;
  /** There will be nothing any more: its user is gone, or the node stops. */
  onEnd(): void;
}

/** A value as it was read, whatever becomes of the key, until it is released. */
export interface HeldValue {
  readonly bytes: Uint8Array;
  /** May be called again. */
  release(): void;
}

/** Requests of a user that do not come on the client port, and are run as if they did. */
export interface InnerClient {
  /**
   * Runs commands in one go. Resolves when what was written is safe; rejects with a LostWrite when
   * it may never be, and with a ClientGone when they are not run.
   */
  inTurn<T>(work: (turn: RequestTurn) => T): Promise<T>;
  /** Runs a command whose reply may take a while. Rejects as `inTurn`. */
  ask(words: readonly (Uint8Array | string)[]): Promise<RespReply>;
  /** The same, for a reply that may be long: as it is in RESP3. */
  askForBytes(words: readonly (Uint8Array | string)[]): Promise<Uint8Array>;
  /** Tells a watcher of keys that the user may read. Null when there are too many watchers. */
  watch(watcher: Watcher): (() => void) | null;
  /** Nobody waits for replies any more. */
  end(): void;
}

/** Thrown when a write was made that may be lost in a crash, as the disk fails. */
export class LostWrite extends Error {}

/** Thrown in place of doing something: nobody waits for it any more, or the node is stopping. */
export class ClientGone extends Error {}

/** What is known of the time, and what clients cannot do because of it. */
export interface TimeControl {
  /** What is thought of the wall clock. */
  readonly state: string;
  /** Why no write is taken; null when writes are. */
  readonly writeRefusal: string | null;
  /**
   * Whether what is to expire so much later may be written: not if it may be dead already where it
   * arrives, as this node's clock may be behind.
   */
  readonly knowsExpiries: boolean;
  /** Whether there is anybody who may refuse what is written here. */
  hasPeers(): boolean;
}

/** A finished backup. */
export interface BackupMade {
  readonly name: string;
  readonly bytes: number;
  readonly entries: number;
}

/** Backups of the running node. Everything may reject with an OperationalError. */
export interface BackupControl {
  /** Makes one; without a name it gets its time as one. */
  create(name?: string): Promise<BackupMade>;
  /** Up to `count` bytes of a backup from `offset` on; none past its end. */
  read(name: string, offset: number, count: number): Promise<Uint8Array>;
  /** Removes a backup. */
  remove(name: string): Promise<void>;
}

/** A connection that left the client protocol, as whoever took it over sees it. */
export interface Link {
  /** Where the other side is, `host:port`. */
  readonly address: string;
  /** Bytes that were to be sent and that the system has not taken yet. */
  readonly queuedBytes: number;
  /** Sends bytes, which are gone or copied when this returns. */
  send(bytes: Uint8Array): void;
  /** Reads no more until `resume`, so that the other side is held back. */
  pause(): void;
  /** Reads again. */
  resume(): void;
  /** Ends the connection once everything is sent. What still comes is dropped. */
  end(): void;
}

/** Gets what comes over a Link. */
export interface LinkHandler {
  /** Bytes came. They are the handler's to look at until it returns: what it keeps, it copies. */
  receive(bytes: Uint8Array): void;
  /** Everything is sent; called after `queuedBytes` was above 0. */
  drained(): void;
  /** The connection is over, from this side or the other; why, if anything was wrong with it. */
  closed(reason?: string): void;
}

/**
 * Messages from node to node by way of the broker. They may be lost, repeated, late and out of
 * order, and anybody at the broker can make up some.
 */
export interface Messenger {
  /** Whether messages can be sent, and reach this node. */
  readonly isOpen: boolean;
  /** Longest message that the broker takes, in bytes. */
  readonly maxMessageBytes: number;
  /** Whether this node's own writes wait for the broker, which are to go first. */
  readonly isCrowded: boolean;
  /** Whether the broker takes only so many messages a second. */
  readonly isPaced: boolean;
  /**
   * For how long nothing is to be sent, in ms, as the broker takes only so many messages a second
   * and there is to be room for this node's writes; 0 when something may be.
   */
  pauseMs(): number;
  /**
   * Sends a message to a box of that node; its bytes are the messenger's from now on. `taken` is
   * called when the system has them, and not at all when the connection to the broker ends first.
   */
  send(nodeId: string, box: string, message: Uint8Array, taken: () => void): void;
  /** Gets what comes for this node: to which box, and the message, valid for the call. */
  onMessage: (box: string, message: Uint8Array) => void;
  /** Told whenever it opens. */
  onOpen: () => void;
}

/** What is told of in the audit file; see `AuditEvent.event`. */
export type AuditKind = "administration" | "acl" | "login_failed" | "denied";

/** Something that was done or tried, and by whom. It holds no values and no passwords. */
export interface AuditEvent {
  /**
   * A command of administration or one that changes users was let through, a login failed, or a
   * command was refused for lack of rights.
   */
  readonly event: AuditKind;
  /** The user's name; for a failed login the one that was tried. */
  readonly user: string;
  /** Where the client is, `host:port`. */
  readonly address: string;
  /** The name in the client's certificate; null when it showed none. */
  readonly certificate: string | null;
  /** The command, and its subcommand: `CONFIG GET`. */
  readonly command: string;
  /** The key it was about; null when there is none. */
  readonly key: Uint8Array | null;
  /** What else there is to know, such as whose rights were changed, or why it was refused. */
  readonly detail?: string;
}

/** Where it is written down who did what. */
export interface Audit {
  /** Takes a copy of what it needs and returns at once. */
  record(event: AuditEvent): void;
}

/** Writes nothing down. */
export const noAudit: Audit = { record() {} };

/** What a sync with another node came to. */
export interface SyncReport {
  /** Whether both nodes now hold what either held. */
  readonly ok: boolean;
  /** Why not; empty if ok. */
  readonly reason: string;
  /**
   * Of a verified sync: whether the roots were equal afterwards; null if they were not compared.
   */
  readonly rootsEqual: boolean | null;
  /** Of a verified sync: entries were set aside on either side, for which the roots may differ. */
  readonly hasSetAside: boolean;
}

/** How nodes heal their differences. */
export interface SyncControl {
  /**
   * Compares this node with another and heals both, up to the present moment. `peer` is where that
   * one listens, or its node id.
   */
  sync(peer: NodeAddress | string, isFull: boolean, isVerified: boolean): Promise<SyncReport>;
  /** Whether that is the address of a peer: from the configuration, or from presence. */
  isPeer(address: NodeAddress): boolean;
  /**
   * What takes over a connection on which a peer said PEER, or why it may not. `isRound`: the
   * peer came by itself, not because somebody said SYNC.
   */
  accept(isRound: boolean): ((link: Link) => LinkHandler) | string;
  /**
   * What takes over a connection on which somebody asked to be passed on to the node of that id, or
   * why nothing does.
   */
  passOn(nodeId: string): ((link: Link) => LinkHandler) | string;
  /**
   * That node is gone for good: nobody counts with it any more, until it is met again. Null when
   * that is noted, and told to others with the next sessions; else why it is not.
   */
  forget(nodeId: string): string | null;
  /** Begins anew with the facts that say how much something was at most. */
  resetPeaks(): void;
}

/** A node of the cluster, as another one knows it. */
export interface MemberView {
  readonly node_id: string;
  /** `host:port`; empty when it says none. */
  readonly address: string;
  /** The same where it speaks TLS; empty if nowhere. */
  readonly tls_address: string;
  readonly version: string;
  readonly online: boolean;
  /**
   * The root in hexadecimal of its Merkle tree that has the key of the asked node's; null while
   * that is unknown, or if it has no such tree.
   */
  readonly root: string | null;
  /** Whether it says that it hears of what others write. */
  readonly hears: boolean;
  /** Milliseconds since it was heard of; 0 for the node that is asked. */
  readonly seen_ms_ago: number;
  /** Milliseconds since the node that is asked compared itself with it; null if it did not. */
  readonly last_sync_ms_ago: number | null;
  /** Seconds since the newest write that its messages told of; null if there were none. */
  readonly newest_write_seconds_ago: number | null;
  /** How far the clock of the node that is asked is ahead of its clock; null if not known. */
  readonly clock_ahead_ms: number | null;
  /** By which way the node that is asked reaches it: "tcp", "tls", "broker"; empty if untried. */
  readonly way: string;
}
