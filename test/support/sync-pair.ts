/** Two stores in one process and a pipe between their sync sessions: real sessions, no sockets. */
import { HybridClock } from "../../src/core/clock.ts";
import { Contacts } from "../../src/core/contacts.ts";
import type { Entry } from "../../src/core/entry.ts";
import { MerkleTree } from "../../src/core/merkle.ts";
import { Store } from "../../src/core/store.ts";
import { SyncSession } from "../../src/core/sync-session.ts";
import type { SyncResult, SyncSessionOptions } from "../../src/core/sync-session.ts";

/** What a node of a test may be made with; times in ms. */
export interface SyncNodeOptions {
  nowMs?: () => number;
  maxClockSkewMs?: number;
  tombstoneGraceMs?: number;
  memoryLimitBytes?: number;
  cluster?: string;
  maxFrameBytes?: number;
  lagMs?: number;
  epoch?: number;
}

/** A store with a tree, contacts, and what was set aside. */
export class SyncNode {
  readonly store: Store;
  readonly tree: MerkleTree;
  readonly contacts = new Contacts();
  readonly setAside: { key: string; reason: string; entry: Entry }[] = [];

  constructor(
    readonly nodeId: string,
    readonly options: SyncNodeOptions = {},
  ) {
    const id = Bun.SHA256.hash(nodeId) as Uint8Array;
    const view = new DataView(id.buffer);
    this.store = new Store({
      clock: new HybridClock(options.nowMs ?? Date.now),
      origin: { high: view.getUint32(0), low: view.getUint32(4) },
      hashSeed: { high: 1, low: 2 },
      random: () => 0.3,
      memoryLimitBytes: options.memoryLimitBytes ?? 0,
      maxClockSkewMs: options.maxClockSkewMs ?? 60_000,
      tombstoneGraceMs: options.tombstoneGraceMs ?? 86_400_000,
    });
    this.tree = new MerkleTree(this.store);
    this.store.observers.push(this.tree);
  }

  /** One side of a session, sending through `send`. */
  session(
    role: "initiator" | "responder",
    send: (frame: Uint8Array) => void,
    onEnd: (result: SyncResult) => void,
    more: Partial<SyncSessionOptions> = {},
  ): SyncSession {
    const { options } = this;
    return new SyncSession({
      role,
      store: this.store,
      tree: this.tree,
      contacts: this.contacts,
      cluster: options.cluster ?? "merkle-kv",
      nodeId: this.nodeId,
      epoch: options.epoch ?? 1,
      lagMs: options.lagMs ?? 2_000,
      maxFrameBytes: options.maxFrameBytes ?? 1_048_576,
      nowMs: options.nowMs ?? Date.now,
      monotonicMs: () => performance.now(),
      send,
      onSetAside: (entry, reason) =>
        this.setAside.push({
          key: new TextDecoder().decode(entry.keyBytes()),
          reason,
          entry: entry.clone(),
        }),
      onEnd,
      ...more,
    });
  }
}

/** How the pipe of a run treats what goes through it. */
export interface PipeOptions {
  /** How many bytes arrive at once, at most; asked anew for each piece. */
  pieceBytes?: () => number;
  /** Bytes under way in one direction above which the sender is told to wait. */
  queueBytes?: number;
  /** May change what goes from the initiator (true) or to it; null cuts the connection there. */
  tamper?: (fromInitiator: boolean, frame: Uint8Array) => Uint8Array | null;
  /** Called after each slice of either side. */
  betweenSlices?: () => void;
  /** Told the length of each slice, in ms. */
  onSlice?: (ms: number) => void;
}

/** What came of a run. */
export interface PairResult {
  readonly initiator: SyncResult;
  readonly responder: SyncResult;
  /** Most bytes that were in the pipe, in either direction. */
  readonly mostQueuedBytes: number;
}

/** A side of the pipe: what it sent and the other has not got. */
class End {
  queue: Uint8Array[] = [];
  queuedBytes = 0;
  mostQueuedBytes = 0;
  result: SyncResult | null = null;
  session!: SyncSession;

  take(atMost: number): Uint8Array {
    const first = this.queue[0];
    const piece = first.subarray(0, atMost);
    if (piece.length === first.length) this.queue.shift();
    else this.queue[0] = first.subarray(atMost);
    this.queuedBytes -= piece.length;
    return piece;
  }
}

/** Runs one session between two nodes to its end. */
export function runPair(
  initiator: SyncNode,
  responder: SyncNode,
  more: Partial<SyncSessionOptions> = {},
  pipe: PipeOptions = {},
): PairResult {
  const ends = [new End(), new End()];
  const queueBytes = pipe.queueBytes ?? 262_144;
  let isCut = false;
  for (const [i, node] of [initiator, responder].entries()) {
    const end = ends[i];
    end.session = node.session(
      i === 0 ? "initiator" : "responder",
      (frame) => {
        const passed = pipe.tamper ? pipe.tamper(i === 0, frame.slice()) : frame.slice();
        if (passed === null) isCut = true;
        else if (!isCut && passed.length > 0) {
          end.queue.push(passed);
          end.queuedBytes += passed.length;
        }
        end.mostQueuedBytes = Math.max(end.mostQueuedBytes, end.queuedBytes);
        if (end.queuedBytes > queueBytes) end.session.canSend = false;
      },
      (result) => {
        if (end.result !== null) throw new Error("ended twice");
        end.result = result;
      },
      i === 0 ? more : {},
    );
  }
  ends[0].session.start();
  while (ends.some((end) => end.result === null)) {
    let isMoving = false;
    for (const [i, end] of ends.entries()) {
      const other = ends[1 - i];
      const before = performance.now();
      const isMore = end.result === null && end.session.step();
      pipe.onSlice?.(performance.now() - before);
      pipe.betweenSlices?.();
      if (isMore) isMoving = true;
      while (end.queue.length > 0 && (other.session.canReceive || other.result !== null)) {
        other.session.receive(end.take(pipe.pieceBytes?.() ?? 65_536));
        isMoving = true;
      }
      if (end.queuedBytes <= queueBytes / 2 && !end.session.canSend) {
        end.session.canSend = true;
        isMoving = true;
      }
    }
    if (isMoving) continue;
    for (const end of ends) {
      end.session.step();
      if (end.queue.length === 0) end.session.close(isCut ? "cut off" : "silence");
    }
  }
  return {
    initiator: ends[0].result!,
    responder: ends[1].result!,
    mostQueuedBytes: Math.max(...ends.map((end) => end.mostQueuedBytes)),
  };
}
