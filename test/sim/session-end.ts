/** One end of a sync session in the simulation: the real session, on a simulated connection. */
import { SafeSender } from "../../src/anti-entropy/safe-sender.ts";
import type { Job } from "../../src/anti-entropy/scheduler.ts";
import { LAG_MS } from "../../src/anti-entropy/tree-keeper.ts";
import { SyncSession, type SyncResult } from "../../src/core/sync/session.ts";
import type { Chance } from "./chance.ts";
import type { Stream, StreamEnd } from "./network.ts";
import type { Process, SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";
import { watchedStore } from "./watched-store.ts";

const MAX_FRAME_BYTES = 1_048_576;

/** One end of a sync session, and what moves it on. */
export class SessionEnd implements StreamEnd {
  readonly place: number;
  private session!: SyncSession;
  private stream!: Stream;
  private sender!: SafeSender;
  private queuedBytes = 0;
  private isWaiting = false;
  private isOver = false;
  private readonly maxQueuedBytes: number;
  private readonly chance: Chance;

  constructor(
    private readonly simulation: Simulation,
    private readonly node: SimNode,
    private readonly process: Process,
    private readonly side: 0 | 1,
    /** Id of the node at the other end. */
    private readonly peerId: string,
    private readonly done: (result: SyncResult) => void,
  ) {
    this.place = node.place;
    this.chance = simulation.chanceOf(`${node.id}, session with ${peerId}`);
    this.maxQueuedBytes = this.chance.magnitude(100, 100_000);
    process.sessions.push(this);
  }

  open(stream: Stream, job: Partial<Job>): void {
    const { node, process, simulation, side } = this;
    const { tree, contacts, replicator } = process;
    const { history, originNames } = simulation;
    const store = watchedStore(process.store, history, originNames, node.id, this.peerId);
    this.stream = stream;
    this.sender = new SafeSender(
      { send: (frame) => stream.send(side, frame), end: () => stream.close(side) },
      process.journal,
      () => this.steer(),
    );
    this.session = new SyncSession({
      role: side === 0 ? "initiator" : "responder",
      ...job,
      store,
      tree,
      contacts,
      cluster: "sim",
      nodeId: node.id,
      epoch: replicator.epoch,
      salt: { high: this.chance.below(2 ** 32), low: this.chance.below(2 ** 32) },
      lagMs: LAG_MS,
      maxFrameBytes: MAX_FRAME_BYTES,
      nowMs: () => node.wallMs(),
      monotonicMs: () => node.monotonicMs(),
      send: (frame) => {
        history.noteBytes(frame, (keys) => `${node.id} tells ${this.peerId} of ${keys}`);
        this.sender.send(frame);
        this.steer();
      },
      onSetAside: (entry, reason, settled) => {
        simulation.noteSetAside(node, entry, reason);
        settled(true);
      },
      onEnd: (result) => this.ended(result),
    });
    if (side === 0) this.session.start();
    this.move();
  }

  receive(bytes: Uint8Array): void {
    if (this.isOver) return;
    this.session.receive(bytes);
    this.move();
  }

  queued(bytes: number): void {
    this.queuedBytes = bytes;
    this.steer();
  }

  closed(reason: string): void {
    if (!this.isOver) this.session.close(reason);
  }

  /** The process is gone. */
  vanish(): void {
    this.isOver = true;
    this.stream.close(this.side);
  }

  private steer(): void {
    if (this.isOver) return;
    const couldSend = this.session.canSend;
    this.session.canSend = this.queuedBytes + this.sender.waitingBytes <= this.maxQueuedBytes;
    if (this.session.canSend && !couldSend) this.move();
  }

  /** One slice now, the next one after everybody else had a turn. */
  private move(): void {
    if (this.isWaiting || this.isOver || !this.session.step() || this.isOver) return;
    this.isWaiting = true;
    const delayMs = this.chance.next() * this.simulation.plan.slowness;
    this.simulation.timeline.after(delayMs, () => {
      this.isWaiting = false;
      this.move();
    });
  }

  private ended(result: SyncResult): void {
    const { node, process, simulation } = this;
    this.isOver = true;
    process.sessions.splice(process.sessions.indexOf(this), 1);
    if (result.ok) simulation.counts.syncs++;
    else simulation.counts.failedSyncs++;
    if (result.entriesPostponed > 0) {
      simulation.counts.refusedFuture += result.entriesPostponed;
      process.scheduler.notePostponed(result.peerNodeId, result.postponedMs);
    }
    if (!result.ok || result.entriesSent + result.entriesApplied > 0) {
      const { ok, reason, peerNodeId, entriesSent: sent, entriesApplied: applied } = result;
      const how = ok ? `${sent} sent, ${applied} applied` : reason;
      simulation.history.noteAside(() => `${node.id} ends a session with ${peerNodeId}: ${how}`);
    }
    this.sender.end();
    this.done(result);
    process.waiting.shift()?.();
  }
}
