/**
 * One anti-entropy session between two nodes, as a pure step machine: bytes and slices of
 * time go in, frames and an end state come out. It knows no sockets, timers or clocks.
 *
 * The two sides take turns. The one that has the word speaks until it passes it (TURN); the
 * other listens. So neither ever waits to be heard while the other does: what is said out of
 * turn, REFUSED and FULL, asks for no answer. A session that heals anything:
 *
 *   initiator                                responder
 *   HELLO: who, as of when, root        →
 *                                       ←    HELLO; equal roots: that was all. Else 16 digests
 *   digests of level 2, where different →
 *                                       ←    of level 3
 *   of the buckets                      →
 *                                       ←    lists of the buckets that differ
 *   wants, entries, offers              →
 *                                       ←    wanted entries, needs, and further lists
 *   needed entries, answers … END       →
 *                                       ←    END
 *
 * Everything received is merged, so a session can break off anywhere, and the next one goes on
 * with what still differs. Messages are given in `sync/items.ts`.
 */
import { CURRENT, READS_COMPRESSED } from "../data/capabilities.ts";
import { FRAME_BYTES, FrameReader, FrameWriter } from "./frames.ts";
import { FAIL, FULL, REFUSED, TURN } from "./items.ts";
import type { SyncSessionOptions } from "./options.ts";
import type { SyncFailure } from "./result.ts";
import { SyncProtocol } from "./sync-protocol.ts";

/** What a session is asked to do, and what it is made with. */
export type { SyncMode, SyncSessionOptions } from "./options.ts";
/** How a session ended. */
export type { SyncFailure, SyncResult } from "./result.ts";

const SLICE_MS = 1;
/** While this much waits to be worked on, no more need be read. */
const ENOUGH_INPUT_BYTES = 131_072;
/** Longest frame of a side that has not said who it is: with HELLO may come a key to be fetched. */
const INTRODUCTION_BYTES = 4 * FRAME_BYTES;
const NO_NODE = "what answers there is no MerkleKV node";

/**
 * One side of a session. Call `step` after `start`, after `receive`, after `canSend` became
 * true again, and as long as it returns true.
 */
export class SyncSession {
  /** The transport clears this while its output queue is long; then the session makes no more. */
  canSend = true;

  private readonly reader: FrameReader;
  private readonly writer: FrameWriter;
  private readonly protocol: SyncProtocol;

  constructor(private readonly options: SyncSessionOptions) {
    const { features } = options.capabilities ?? CURRENT;
    const maxFrameBytes = Math.min(INTRODUCTION_BYTES, options.maxFrameBytes);
    this.reader = new FrameReader(maxFrameBytes, (features & READS_COMPRESSED) !== 0);
    this.writer = new FrameWriter(options.send);
    this.protocol = new SyncProtocol(options, this.reader, this.writer);
  }

  /**
   * False while the session has enough input to work on: pause reading until it is true again. Look
   * after `receive` and `step`.
   */
  get canReceive(): boolean {
    return !this.hasFrame || this.reader.waitingBytes < ENOUGH_INPUT_BYTES;
  }

  /** Whether a whole frame waits to be worked on. */
  get hasFrame(): boolean {
    return this.reader.hasFrame;
  }

  /** Whether the other side has said who it is. */
  get isIntroduced(): boolean {
    return this.protocol.introduction.isComplete;
  }

  /** Whether it waits for a copy to be set aside, and goes on by itself then. */
  get isSettingAside(): boolean {
    return this.protocol.refusals.isWaiting;
  }

  /** Initiator: begins. */
  start(): void {
    this.protocol.start();
  }

  /** Receives the next bytes of the stream, cut anywhere. Does no more than store them. */
  receive(bytes: Uint8Array): void {
    if (!this.isEnded) this.reader.push(bytes);
  }

  /** Does one slice of work, about 1 ms. True when there is more to do now: call again soon. */
  step(): boolean {
    const { monotonicMs } = this.options;
    if (!this.isEnded && this.protocol.purgeGuard.isBroken) {
      this.fail("busy", "deletions were purged meanwhile; what still differs is compared anew");
    }
    const untilMs = monotonicMs() + SLICE_MS;
    while (!this.isEnded && this.work(untilMs)) {
      if (monotonicMs() >= untilMs) return !this.isEnded;
    }
    return false;
  }

  /** This node has no room for it any longer; the peer is to come again. */
  dismiss(reason: string): void {
    if (!this.isEnded) this.fail("busy", reason);
  }

  /** The transport is done with this session: connection lost, timeout, shutdown. */
  close(reason: string): void {
    this.protocol.close(reason);
  }

  private get isEnded(): boolean {
    return this.protocol.ending.isEnded;
  }

  /** Does a small piece of work. False when there is none. */
  private work(untilMs: number): boolean {
    const { reader, writer } = this;
    const { comparison, turns } = this.protocol;
    if (this.protocol.isBusy) {
      this.protocol.goOn();
      if (this.isIntroduced) reader.maxFrameBytes = this.options.maxFrameBytes;
      return true;
    }
    if (comparison.isPreparing) {
      comparison.slice(untilMs);
      return true;
    }
    if (this.isSettingAside && !this.hasMoreRefusals()) return false;
    // The side that has the word always listens, but hears at most refusals. The side that has not
    // says what it refuses before it listens to more. So neither ever waits for the other.
    const mayHear = turns.hasWord || this.canSend || writer.waitingBytes === 0;
    if (mayHear && reader.next()) {
      this.hear();
      return true;
    }
    if (reader.failure !== "") this.failFraming();
    else if (turns.hasWord && this.canSend) {
      this.protocol.speak();
      return true;
    }
    return false;
  }

  /** Whether a refusal comes next, and can be read while copies are being set aside. */
  private hasMoreRefusals(): boolean {
    const { reader } = this;
    return !this.protocol.refusals.isFull && reader.next() && reader.peek() === REFUSED;
  }

  /** Hears one item. */
  private hear(): void {
    const { reader } = this;
    const { turns, introduction } = this.protocol;
    const tag = reader.u8();
    const isInPlace = this.isIntroduced
      ? tag === REFUSED || tag === FULL || tag === FAIL || !turns.hasWord
      : introduction.allows(tag);
    if (tag !== TURN) turns.noteSpoken();
    const isUnderstood = isInPlace && this.protocol.handle(tag);
    if (this.isEnded || (isUnderstood && !reader.overrun)) return;
    if (!this.isIntroduced && this.options.role === "initiator") this.fail("protocol", NO_NODE);
    else this.fail("protocol", `it does not keep to the sync protocol (item ${tag})`);
  }

  /** What came is no frame. Of what answers a call and is no node, nothing is told. */
  private failFraming(): void {
    const isNode = this.isIntroduced || this.options.role === "responder";
    this.fail("protocol", isNode ? `it sent ${this.reader.failure}` : NO_NODE);
  }

  private fail(failure: SyncFailure, reason: string): void {
    this.protocol.ending.fail(failure, reason);
  }
}
