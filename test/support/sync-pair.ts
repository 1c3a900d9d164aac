/** Two stores in one process and a pipe between their sync sessions: real sessions, no sockets. */
import { HybridClock } from "../../src/core/data/clock.ts";
import { Contacts } from "../../src/core/sync/contacts.ts";
import type { Entry } from "../../src/core/data/entry.ts";
import { MerkleTree } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { Store } from "../../src/core/store/store.ts";
import { SyncSession } from "../../src/core/sync/session.ts";
import type { SyncResult, SyncSessionOptions } from "../../src/core/sync/session.ts";
import { seeded } from "./random.ts";

/** How far the clock of slices goes on with each look at it. */
const LOOK_MS = 0.005;

/** What a node of a test may be made with; times in ms. */
export interface SyncNodeOptions {
  nowMs?: () => number;
  maxClockSkewMs?: number;
  tombstoneGraceMs?: number;
  /** As in StoreOptions. */
  expiredMs?: () => number;
  /** As in StoreOptions. */
  mayForget?: () => boolean;
  memoryLimitBytes?: number;
  cluster?: string;
  maxFrameBytes?: number;
  lagMs?: number;
  epoch?: number;
  /** In place of the cluster's. */
  digester?: RecordDigester;
  /**
   * For the length of slices; a function that counts up makes every piece of work a slice. Unless
   * given, so much work is a slice, not so much time: a session is the same whenever it is run.
   */
  monotonicMs?: () => number;
}

/** A store with a tree, contacts, and what was set aside. */
export class SyncNode {
  readonly store: Store;
  readonly tree: MerkleTree;
  readonly contacts = new Contacts();
  /** Changes to what its sessions are made with. */
  moreOptions: Partial<SyncSessionOptions> = {};
  readonly setAside: { key: string; reason: string; entry: Entry }[] = [];
  private lookedMs = 0;
  /** For salts: a node's own, so that sessions do not depend on which tests ran before. */
  private readonly chance: () => number;

  constructor(
    readonly nodeId: string,
    readonly options: SyncNodeOptions = {},
  ) {
    this.chance = seeded(Bun.hash.crc32(nodeId));
    this.store = new Store({
      clock: new HybridClock(options.nowMs ?? Date.now),
      origin: originOf(nodeId),
      hashSeed: { high: 1, low: 2 },
      random: seeded(nodeId.length),
      memoryLimitBytes: options.memoryLimitBytes ?? 0,
      maxClockSkewMs: options.maxClockSkewMs ?? 60_000,
      tombstoneGraceMs: options.tombstoneGraceMs ?? 86_400_000,
      ...(options.expiredMs && { expiredMs: options.expiredMs }),
      ...(options.mayForget && { mayForget: options.mayForget }),
    });
    const treeKey = treeKeyOf(options.cluster ?? "merkle-kv");
    this.tree = new MerkleTree(this.store, options.digester ?? new RecordDigester(treeKey));
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
    const below32 = (): number => Math.floor(this.chance() * 2 ** 32);
    return new SyncSession({
      role,
      store: this.store,
      treeFor: () => this.tree,
      contacts: this.contacts,
      cluster: options.cluster ?? "merkle-kv",
      nodeId: this.nodeId,
      epoch: options.epoch ?? 1,
      salt: { high: below32(), low: below32() },
      lagMs: options.lagMs ?? 2_000,
      maxFrameBytes: options.maxFrameBytes ?? 1_048_576,
      nowMs: options.nowMs ?? Date.now,
      monotonicMs: options.monotonicMs ?? (() => (this.lookedMs += LOOK_MS)),
      send,
      onSetAside: (entry, reason, done) => {
        this.setAside.push({
          key: new TextDecoder().decode(entry.keyBytes()),
          reason,
          entry: entry.clone(),
        });
        done(true);
      },
      onEnd,
      ...this.moreOptions,
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
  /** Told the length of each slice, in ms, and whose it was: the initiator's is 0. */
  onSlice?: (ms: number, end: number) => void;
  /** By what slices are measured, in ms; the clock by default. */
  sliceClock?: () => number;
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

/** One session between two nodes, under way. */
export class Pair {
  private readonly ends = [new End(), new End()];
  private readonly queueBytes: number;
  /** Whether a side waits for something of its own, so that silence is no reason to end it. */
  isPatient = (): boolean => false;
  private isCut = false;
  private idleSteps = 0;

  constructor(
    initiator: SyncNode,
    responder: SyncNode,
    more: Partial<SyncSessionOptions> = {},
    private readonly pipe: PipeOptions = {},
  ) {
    this.queueBytes = pipe.queueBytes ?? 262_144;
    for (const [i, node] of [initiator, responder].entries()) {
      const end = this.ends[i];
      end.session = node.session(
        i === 0 ? "initiator" : "responder",
        (frame) => this.send(end, i === 0, frame.slice()),
        (result) => {
          if (end.result !== null) throw new Error("ended twice");
          end.result = result;
        },
        i === 0 ? more : {},
      );
    }
    this.ends[0].session.start();
  }

  /** What came of it; null while it goes on. */
  get result(): PairResult | null {
    const [initiator, responder] = this.ends.map((end) => end.result);
    if (initiator === null || responder === null) return null;
    const mostQueuedBytes = Math.max(...this.ends.map((end) => end.mostQueuedBytes));
    return { initiator, responder, mostQueuedBytes };
  }

  /** One slice of each side, and what is under way arrives. */
  step(): void {
    const isMoving = [this.moveEnd(0), this.moveEnd(1)].some((moving) => moving);
    this.idleSteps = isMoving ? 0 : this.idleSteps + 1;
    // One may just have made room. Then nothing moves any more: what a timeout is for.
    if (this.idleSteps < 2 || this.isPatient()) return;
    for (const end of this.ends) {
      if (end.result === null) end.session.close(this.isCut ? "cut off" : "silence");
    }
  }

  private moveEnd(i: number): boolean {
    const { pipe } = this;
    const end = this.ends[i];
    const other = this.ends[1 - i];
    const clock = pipe.sliceClock ?? (() => performance.now());
    const before = clock();
    let isMoving = end.result === null && end.session.step();
    pipe.onSlice?.(clock() - before, i);
    pipe.betweenSlices?.();
    while (end.queue.length > 0 && (other.result !== null || other.session.canReceive)) {
      other.session.receive(end.take(pipe.pieceBytes?.() ?? 65_536));
      isMoving = true;
    }
    if (end.queuedBytes <= this.queueBytes / 2 && !end.session.canSend) {
      end.session.canSend = true;
      isMoving = true;
    }
    return isMoving;
  }

  private send(end: End, fromInitiator: boolean, frame: Uint8Array): void {
    if (this.isCut) return;
    const { tamper } = this.pipe;
    const passed = tamper ? tamper(fromInitiator, frame) : frame;
    if (passed === null) this.isCut = true;
    else if (passed.length > 0) {
      end.queue.push(passed);
      end.queuedBytes += passed.length;
    }
    end.mostQueuedBytes = Math.max(end.mostQueuedBytes, end.queuedBytes);
    if (end.queuedBytes > this.queueBytes) end.session.canSend = false;
  }
}

/** Runs one session between two nodes to its end. */
export function runPair(
  initiator: SyncNode,
  responder: SyncNode,
  more: Partial<SyncSessionOptions> = {},
  pipe: PipeOptions = {},
): PairResult {
  const pair = new Pair(initiator, responder, more, pipe);
  for (let steps = 0; ; steps++) {
    if (pair.result !== null) return pair.result;
    if (steps > 10_000_000) throw new Error("the session does not end");
    pair.step();
  }
}
