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
import { timeHighOf, timeLowOf, unixMsOf } from "../data/clock.ts";
import { MAX_MEMBERS } from "./contacts.ts";
import { BUCKET_LEVEL } from "../tree/digest-tree.ts";
import { LATEST } from "../tree/merkle.ts";
import { printable } from "../data/name.ts";
import { DigestShortener, type Salt, sessionSalt } from "./short-digest.ts";
import { EntryFlow } from "./entries.ts";
import { FrameReader, FrameWriter } from "./frames.ts";
import { Greeting } from "./greeting.ts";
import { type Hello, readHello, readText, writeHello, writeText } from "./hello.ts";
import { Initiator, type SharedBySides } from "./initiator.ts";
import {
  AGAIN,
  END,
  ENTRY,
  FAIL,
  FETCH,
  FULL,
  HAS_SET_ASIDE,
  HELLO,
  LATER,
  OTHERS_WROTE,
  REFUSED,
  ROOT,
  ROOT_BYTES,
  TURN,
  TURN_BEHIND,
  TURN_DONE,
  WITHHELD,
} from "./items.ts";
import { MODES, UP_TO_NOW, type SyncMode, type SyncSessionOptions } from "./options.ts";
import { TreePreparation } from "./preparation.ts";
import { Refusals } from "./refusals.ts";
import { Responder } from "./responder.ts";
import { FAILURES, SyncCounts, type SyncFailure } from "./result.ts";
import { WriteWatch } from "./write-watch.ts";

/** What a session is asked to do, and what it is made with. */
export type { SyncMode, SyncSessionOptions } from "./options.ts";
/** How a session ended. */
export type { SyncFailure, SyncResult } from "./result.ts";

const SLICE_MS = 1;
/** While this much waits to be worked on, no more need be read. */
const ENOUGH_INPUT_BYTES = 131_072;
/** A walk over what turns out to be equal has nothing to say on any level. */
const MAX_IDLE_TURNS = BUCKET_LEVEL;
const NO_NODE = "what answers there is no MerkleKV node";
/** In place of the mode in a responder's HELLO. */
const ROOTS_ARE_EQUAL = 1;

/**
 * One side of a session. Call `step` after `start`, after `receive`, after `canSend` became
 * true again, and as long as it returns true.
 */
export class SyncSession {
  /** The transport clears this while its output queue is long; then the session makes no more. */
  canSend = true;

  private readonly reader: FrameReader;
  private readonly writer: FrameWriter;
  private readonly counts = new SyncCounts();
  private readonly flow: EntryFlow;
  private readonly refusals: Refusals;
  private readonly greeting: Greeting;
  private readonly preparation: TreePreparation;
  private readonly parts: SharedBySides;
  private readonly watch: WriteWatch;
  private readonly isInitiator: boolean;
  private mode: SyncMode;
  /** What is particular to the role; the responder's is made when the mode is known. */
  private half: Initiator | Responder | null = null;

  private hasWord = false;
  /** What follows when the tree is prepared. */
  private afterwards = (): void => {};
  /** Whether the other side has said who it is. */
  isIntroduced = false;
  /** This side's HELLO; the initiator's is what the answer refers to. */
  private own: Hello | null = null;
  /** Initiator: it has introduced itself twice. Responder: it asks for that. */
  private isAgain = false;
  /** Whether it holds back purges in the store. */
  private isHolding = false;
  /** `purges` of the store when it began to. */
  private purges = 0;
  /**
   * One side may have missed a deletion that the other has forgotten, so all is compared as of
   * now. Below a watermark a newer write would hide the entry that the deletion was of, and after
   * the session nobody would ask about it again.
   */
  private isThorough = false;
  /** What is newer than this is not compared. */
  private limitHigh = LATEST;
  private limitLow = LATEST;
  private hasReplied = false;
  /** Whether the word was passed with nothing left to list. */
  private hasListedAll = false;
  /** How often in a row the word came back and nobody had said anything. */
  private idleTurns = 0;
  private areRootsEqual = false;
  private isVerifying = false;
  private isEnding = false;
  private isEnded = false;

  constructor(private readonly options: SyncSessionOptions) {
    const { store, tree } = options;
    this.isInitiator = options.role === "initiator";
    this.mode = options.mode ?? "watermark";
    this.reader = new FrameReader(options.maxFrameBytes);
    this.writer = new FrameWriter(options.send);
    this.flow = new EntryFlow(options, this.reader, this.writer, this.counts);
    this.refusals = new Refusals(options, this.reader, this.flow, this.counts);
    this.greeting = new Greeting(options);
    this.preparation = new TreePreparation(store, tree, options.monotonicMs);
    const { reader, writer, flow, counts } = this;
    const shortener = new DigestShortener();
    this.parts = { tree, reader, writer, flow, counts, shortener };
    this.watch = new WriteWatch(store, () => flow.isApplying);
    if (this.isInitiator) this.half = new Initiator(this.parts, this.isWalking);
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

  /** Whether it waits for a copy to be set aside, and goes on by itself then. */
  get isSettingAside(): boolean {
    return this.refusals.isWaiting;
  }

  /** Initiator: begins. */
  start(): void {
    this.begin();
    this.setLimit();
    this.prepare(() => this.sayFirstHello());
  }

  /** Receives the next bytes of the stream, cut anywhere. Does no more than store them. */
  receive(bytes: Uint8Array): void {
    if (!this.isEnded) this.reader.push(bytes);
  }

  /** Does one slice of work, about 1 ms. True when there is more to do now: call again soon. */
  step(): boolean {
    const { monotonicMs } = this.options;
    this.checkPurges();
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
    this.finish("closed", reason);
  }

  /** Whether entries go over; not when somebody only looks. */
  private get isMerging(): boolean {
    return this.mode !== "inspect";
  }

  /** Whether the buckets that differ are found by a walk down the tree. */
  private get isWalking(): boolean {
    return this.mode === "watermark" || this.mode === "now" || this.mode === "verify";
  }

  /** From now on it matters to this session what others do to the store. */
  private begin(): void {
    const { deletions } = this.options.store;
    this.greeting.begin();
    this.watch.start();
    if (!this.isMerging) return;
    this.isHolding = true;
    this.purges = deletions.purges;
    deletions.beginSession();
  }

  /** What this node said of its deletions, or found by what the peer said, holds no longer. */
  private checkPurges(): void {
    if (this.isEnded || !this.isHolding || this.purges === this.options.store.deletions.purges)
      return;
    this.fail("busy", "deletions were purged meanwhile; what still differs is compared anew");
  }

  /** Does a small piece of work. False when there is none. */
  private work(untilMs: number): boolean {
    const { preparation, reader, writer } = this;
    if (preparation.isWaiting) {
      preparation.slice(untilMs);
      if (!preparation.isWaiting) this.afterwards();
      return true;
    }
    if (this.isSettingAside && !this.hasMoreRefusals()) return false;
    // Who has the word hears at most refusals, and always; who has not says what it refuses
    // before it hears more. So the one never waits for the other.
    const mayHear = this.hasWord || this.canSend || writer.waitingBytes === 0;
    if (mayHear && reader.next()) {
      this.hear();
      return true;
    }
    if (reader.failure !== "") this.failFraming();
    else if (this.hasWord && this.canSend) {
      this.speak();
      return true;
    }
    return false;
  }

  /** Whether a refusal comes next, and can be read while copies are being set aside. */
  private hasMoreRefusals(): boolean {
    const { reader, refusals } = this;
    return !refusals.isFull && reader.next() && reader.peek() === REFUSED;
  }

  /** What came is no frame. Of what answers a call and is no node, nothing is told. */
  private failFraming(): void {
    const isNode = this.isIntroduced || !this.isInitiator;
    this.fail("protocol", isNode ? `it sent ${this.reader.failure}` : NO_NODE);
  }

  // Hearing.

  private hear(): void {
    const { reader } = this;
    const tag = reader.u8();
    const isInPlace = this.isIntroduced
      ? tag === REFUSED || tag === FULL || tag === FAIL || !this.hasWord
      : this.isIntroduction(tag);
    if (tag !== TURN) this.idleTurns = 0;
    const isUnderstood = isInPlace && this.handle(tag);
    if (this.isEnded || (isUnderstood && !reader.overrun)) return;
    if (!this.isIntroduced && this.isInitiator) return void this.fail("protocol", NO_NODE);
    this.fail("protocol", `it does not keep to the sync protocol (item ${tag})`);
  }

  private isIntroduction(tag: number): boolean {
    if (tag === HELLO || tag === FAIL) return true;
    return this.isInitiator ? tag === AGAIN : tag === TURN && this.isAgain;
  }

  /** Handles one item, whose tag has been read. False when it is malformed or out of place. */
  private handle(tag: number): boolean {
    const { flow, half } = this;
    switch (tag) {
      case HELLO:
        return !this.isIntroduced && this.handleHello();
      case AGAIN:
        return !this.isIntroduced && this.handleAgain();
      case TURN:
        return this.handleTurn();
      case END:
        return this.handleEnd();
      case FAIL:
        return this.handleFailure();
      case LATER:
        return this.isMerging && flow.handleLater();
      case FULL:
        flow.peer.isFull = true;
        return this.isMerging;
      case WITHHELD:
        return this.isMerging && flow.handleWithheld();
      case REFUSED:
        return this.isMerging && this.handleRefusal();
      case ROOT:
        return this.isMerging && this.handleRoot();
      case ENTRY:
        if (!this.isMerging || !flow.handleEntry()) return false;
        if (half instanceof Responder) half.noteMerged(flow.arrived);
        return true;
      default:
        return half !== null && half.handle(tag);
    }
  }

  private handleHello(): boolean {
    const { isInitiator } = this;
    const hello = readHello(this.reader, isInitiator ? this.own : null);
    if (hello === null) return false;
    if (typeof hello === "string") return this.fail("incompatible", hello);
    this.counts.peerNodeId = hello.nodeId;
    if (!isInitiator) {
      if (hello.mode >= MODES.length) return false;
      const refusal = this.options.admit?.(hello.nodeId) ?? null;
      if (refusal !== null) return this.fail("busy", refusal);
      this.mode = MODES[hello.mode];
      const isKnown = hello.recognise(this.options.contacts);
      // Of a fetch nobody concludes who has what.
      if (!isKnown && this.mode !== "fetch" && this.isMerging) {
        const isFirst = !this.isAgain;
        this.isAgain = true;
        return isFirst;
      }
      this.half = new Responder(this.parts, this.options.store, this.mode);
      this.begin();
    }
    this.flow.peer = hello;
    this.isIntroduced = true;
    this.parts.shortener.setSalt(this.saltWith(hello.salt));
    return !this.isMerging || this.acquaint(hello);
  }

  /** An inspector compares what several nodes tell it: then the salt is its alone. */
  private saltWith(theirs: Salt): Salt {
    if (!this.isMerging) return theirs;
    const { salt } = this.options;
    return this.isInitiator ? sessionSalt(salt, theirs) : sessionSalt(theirs, salt);
  }

  /** Initiator: introduces itself in full. */
  private handleAgain(): boolean {
    if (this.isAgain || this.mode === "fetch") return false;
    this.isAgain = true;
    this.counts.roundTrips++;
    this.options.contacts.noteRecognised(false);
    this.sayFirstHello();
    return true;
  }

  private acquaint(hello: Hello): boolean {
    const { greeting, isInitiator } = this;
    const refusal = greeting.judge(hello);
    if (refusal !== null) return this.fail(...refusal);
    const adopted = greeting.adopt(hello);
    if (typeof adopted === "object") {
      const { timeHigh, timeLow } = hello.floor;
      const { store } = this.options;
      if (store.isTooFarAhead(timeHigh, timeLow)) this.counts.postpone(unixMsOf(timeHigh, timeLow));
      return this.fail(...adopted);
    }
    greeting.agree(hello);
    this.isThorough = greeting.hasMissed(hello);
    this.setLimit();
    if (!isInitiator) return true;
    if (!this.isAgain) this.options.contacts.noteRecognised(true);
    this.areRootsEqual = hello.mode === ROOTS_ARE_EQUAL;
    // A flush that came with it is carried out before anything is compared.
    if (adopted || (this.isThorough && !this.areRootsEqual)) this.prepare(() => {});
    return true;
  }

  private handleTurn(): boolean {
    const flags = this.reader.u8();
    if (this.idleTurns++ > MAX_IDLE_TURNS) {
      return this.fail("protocol", "it passes the word again and again and says nothing");
    }
    this.counts.roundTrips++;
    if (!this.isIntroduced) return this.askAgain();
    this.hasWord = true;
    if (!this.isInitiator) return this.handleTurnOfInitiator(flags);
    if (this.isVerifying) this.sayEnd();
    else if (this.areRootsEqual) {
      this.counts.rootsEqual = this.mode === "watermark" ? null : true;
      this.finishComplete();
    } else return (this.half as Initiator).endHearing(flags);
    return true;
  }

  /** Responder: asks who has introduced itself to do so in full. */
  private askAgain(): boolean {
    this.writer.reserve(1);
    this.writer.u8(AGAIN);
    this.writer.flush();
    return true;
  }

  /** Responder: prepares what the answer needs. */
  private handleTurnOfInitiator(flags: number): boolean {
    if (!(this.half as Responder).endHearing(flags)) return false;
    if (this.isVerifying) {
      this.isVerifying = false;
      this.setLimit(true);
      this.prepare(() => this.sayRoot());
    } else if (!this.hasReplied) {
      this.hasReplied = true;
      this.prepare(() => this.reply());
    }
    return true;
  }

  private handleEnd(): boolean {
    if (!this.mayEnd) return false;
    if (!this.isInitiator) this.sayEnd();
    this.finishComplete();
    return true;
  }

  /** Whether the peer may end it: who does so earlier has not compared all there is. */
  private get mayEnd(): boolean {
    return this.isInitiator ? this.isEnding : this.hasListedAll || !this.isMerging;
  }

  private handleFailure(): boolean {
    const failure = FAILURES[this.reader.u8()] ?? "protocol";
    const text = readText(this.reader);
    // It misses something; this side has all that it has.
    if (failure === "incomplete" && this.mayEnd) this.noteContact();
    if (failure === "self" || failure === "duplicate") {
      this.counts.peerNodeId = this.options.nodeId;
    }
    this.finish(failure, `the peer ended the session, saying "${printable(text)}"`);
    return true;
  }

  private handleRefusal(): boolean {
    const { deletions } = this.options.store;
    const purgesBefore = deletions.purges;
    const handled = this.refusals.handle();
    // What is purged because of this peer's refusal, both sides of this session agree on.
    this.purges += deletions.purges - purgesBefore;
    return typeof handled === "string" ? this.fail("untrue", handled) : handled;
  }

  private handleRoot(): boolean {
    const { reader, counts } = this;
    const at = reader.skip(ROOT_BYTES);
    const flags = reader.u8();
    const othersWrote = (flags & OTHERS_WROTE) !== 0 || this.watch.othersWrote;
    if (reader.overrun || this.isInitiator !== this.isVerifying) return false;
    if (this.isInitiator) {
      const root = this.rootOfTree();
      const isEqual = root.every((byte, i) => byte === reader.bytes[at + i]);
      counts.rootsEqual = isEqual ? true : othersWrote ? null : false;
      counts.hasSetAside = (flags & HAS_SET_ASIDE) !== 0 || this.flow.leavesDifferences;
    } else this.isVerifying = true;
    return true;
  }

  // Speaking.

  private speak(): void {
    const speech = this.half!.speak();
    if (speech === "more") this.idleTurns = 0;
    else if (speech !== "end") this.passWord(speech === "done");
    else if (this.options.verify !== true && this.mode !== "verify") this.sayEnd();
    else {
      this.hasWord = false;
      this.isVerifying = true;
      this.setLimit(true);
      this.prepare(() => this.sayRoot());
    }
  }

  /** Initiator: the first word. */
  private sayFirstHello(): void {
    this.introduce(MODES.indexOf(this.mode));
    if (this.mode === "fetch") {
      for (const key of this.options.fetchKeys ?? []) {
        this.writer.reserve(6 + key.length);
        this.writer.u8(FETCH);
        this.writer.varint(key.length);
        this.writer.copy(key, 0, key.length);
      }
    }
    this.passWord(false);
  }

  /** Responder: the first answer, and the last when the roots are equal. */
  private reply(): void {
    const { flow } = this;
    const half = this.half as Responder;
    const root = this.rootOfTree();
    const isComparable = this.isWalking && (this.mode !== "watermark" || !this.isThorough);
    const isSame = isComparable && root.every((byte, i) => byte === flow.peer.root[i]);
    this.introduce(isSame ? ROOTS_ARE_EQUAL : 0);
    if (isSame) {
      this.passWord(true);
      this.finishComplete();
    } else if (this.isWalking) half.beginWalk();
    else if (this.mode === "full") half.compareAll();
  }

  private introduce(mode: number): void {
    this.flow.told = this.options.contacts.clone();
    const own = this.greeting.hello(mode, this.rootOfTree());
    if (this.isAgain) own.mostNamed = MAX_MEMBERS;
    writeHello(this.writer, own, this.isInitiator ? null : this.flow.peer);
    this.own = own;
  }

  private sayRoot(): void {
    this.writer.reserve(2 + ROOT_BYTES);
    this.writer.u8(ROOT);
    this.writer.copy(this.rootOfTree(), 0, ROOT_BYTES);
    const hasSetAside = this.flow.leavesDifferences;
    this.writer.u8((this.watch.othersWrote ? OTHERS_WROTE : 0) | (hasSetAside ? HAS_SET_ASIDE : 0));
    this.passWord(true);
  }

  private sayEnd(): void {
    this.flow.sayLater();
    this.flow.sayWithheld();
    // So that the peer does not mistake it for a complete session either.
    if (this.counts.missed > 0) return void this.fail("incomplete", this.whatIsMissed());
    this.writer.reserve(1);
    this.writer.u8(END);
    this.writer.flush();
    this.hasWord = false;
    this.isEnding = true;
  }

  private passWord(isDone: boolean): void {
    const isBehind = this.half instanceof Initiator && this.half.isBehind;
    this.hasListedAll = isDone;
    this.flow.sayWithheld();
    this.writer.reserve(2);
    this.writer.u8(TURN);
    this.writer.u8((isDone ? TURN_DONE : 0) | (isBehind ? TURN_BEHIND : 0));
    this.writer.flush();
    this.hasWord = false;
  }

  // Preparing.

  /** Compares as of the watermark, or as of now when the mode says so or `isLatest`. */
  private setLimit(isLatest = this.mode !== "watermark" || this.isThorough): void {
    const { watermarkMs } = this.greeting;
    this.limitHigh = isLatest ? LATEST : timeHighOf(watermarkMs);
    this.limitLow = isLatest ? LATEST : timeLowOf(watermarkMs);
  }

  /** Brings the tree to the limit, then goes on with `afterwards`. */
  private prepare(afterwards: () => void): void {
    if (this.mode === "fetch") return afterwards();
    this.afterwards = afterwards;
    this.preparation.begin(this.limitHigh, this.limitLow, this.mode === "full");
  }

  private rootOfTree(): Uint8Array {
    return this.options.tree.root()?.subarray(0, ROOT_BYTES) ?? new Uint8Array(ROOT_BYTES);
  }

  // Ending.

  private finishComplete(): void {
    if (this.isEnded) return;
    this.noteContact();
    // What the peer refused last it refused after this side had said that it was done.
    if (this.counts.missed > 0) this.finish("incomplete", this.whatIsMissed());
    else this.finish(null, "");
  }

  private whatIsMissed(): string {
    const { missed, missedBecause } = this.counts;
    return `${missed} entries missed: ${missedBecause}`;
  }

  /** Everything was compared, and what the peer has is here. */
  private noteContact(): void {
    const { peer, preventsContact } = this.flow;
    if (this.mode === "fetch" || !this.isMerging) return;
    if (preventsContact || this.refusals.preventsContact || this.counts.missed > 0) return;
    // Meanwhile another session brought something the peer may have purged and was not asked
    // about. It is to be, next time, and by a node that had no contact.
    if (this.watch.oldestMs > peer.forgottenUpToMs()) this.greeting.noteContact(peer);
  }

  /** Ends the session because of the peer, and tells it. */
  private fail(failure: SyncFailure, reason: string): true {
    sayFailure(this.writer, failure, reason);
    this.finish(failure, reason);
    return true;
  }

  private finish(failure: SyncFailure | null, reason: string): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.watch.stop();
    if (this.isHolding) this.options.store.deletions.endSession();
    const { missed: _, missedBecause: __, ...result } = this.counts;
    this.options.onEnd({
      ok: failure === null,
      failure,
      reason,
      bytesSent: this.writer.bytesSent,
      bytesReceived: this.reader.bytesReceived,
      isUpToNow: failure === null && UP_TO_NOW.includes(this.mode),
      ...result,
    });
  }
}

function sayFailure(writer: FrameWriter, failure: SyncFailure, reason: string): void {
  writer.reserve(2048);
  writer.u8(FAIL);
  writer.u8(FAILURES.indexOf(failure));
  writeText(writer, reason);
  writer.flush();
}
