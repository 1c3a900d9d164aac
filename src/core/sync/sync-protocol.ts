/**
 * What the two sides of a session say to each other, and what follows from what the other says: the
 * parts of the protocol that both roles have. The halves that differ are `initiator.ts` and
 * `responder.ts`; the course of a session is drawn in `session.ts`.
 */
import { CURRENT, FINDS_BY_SKETCH } from "../data/capabilities.ts";
import { printable } from "../data/name.ts";
import { Comparison } from "./comparison.ts";
import { Ending } from "./ending.ts";
import type { Entry } from "../data/entry.ts";
import { EntryFlow } from "./entries.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import { Greeting } from "./greeting.ts";
import { Hello, readText } from "./hello.ts";
import { Initiator } from "./initiator.ts";
import type { SharedBySides } from "./shared.ts";
import { Introduction, ROOTS_ARE_EQUAL } from "./introduction.ts";
import {
  AGAIN,
  END,
  ENTRY,
  FAIL,
  FULL,
  HELLO,
  LATER,
  REFUSED,
  ROOT,
  TURN,
  WITHHELD,
} from "./items.ts";
import type { SyncSessionOptions } from "./options.ts";
import { PurgeGuard } from "./purge-guard.ts";
import { Refusals } from "./refusals.ts";
import { Responder } from "./responder.ts";
import { FAILURES, SyncCounts } from "./result.ts";
import { DigestShortener } from "./short-digest.ts";
import { Turns } from "./turns.ts";
import { Verification } from "./verification.ts";
import { WriteWatch } from "./write-watch.ts";

/** One side of the protocol. */
export class SyncProtocol {
  readonly comparison: Comparison;
  readonly introduction: Introduction;
  readonly turns: Turns;
  readonly refusals: Refusals;
  readonly purgeGuard: PurgeGuard;
  readonly ending: Ending;
  private readonly parts: SharedBySides;
  private readonly greeting: Greeting;
  private readonly verification: Verification;
  private readonly watch: WriteWatch;
  private readonly isInitiator: boolean;
  /** What is particular to the role; made when it is known who the other side is. */
  private half: Initiator | Responder | null = null;
  private hasReplied = false;
  private areRootsEqual = false;
  /** Initiator: the other side does not compare the tree of which it was told the root. */
  private isAnotherTree = false;
  /** What is still to be done of what was begun, before anything else is. */
  private readonly steps: (() => void)[] = [];
  /** Nothing more is to be said or heard. */
  private isFinishing = false;

  constructor(
    private readonly options: SyncSessionOptions,
    reader: FrameReader,
    writer: FrameWriter,
  ) {
    const { store } = options;
    const counts = new SyncCounts();
    const flow = new EntryFlow(options, reader, writer, counts);
    const shortener = new DigestShortener();
    const onDiffering = (node: number): void => options.differences?.note(node);
    this.isInitiator = options.role === "initiator";
    this.refusals = new Refusals(options, reader, flow, counts);
    this.greeting = new Greeting(options);
    const comparison = (this.comparison = new Comparison(options, this.greeting));
    const parts = {
      ...{ reader, writer, flow, counts, shortener, onDiffering, features: 0 },
      get tree() {
        return comparison.tree;
      },
    };
    this.parts = parts;
    this.introduction = new Introduction(options, parts, this.comparison, this.greeting, () =>
      this.begin(),
    );
    this.turns = new Turns(writer);
    this.watch = new WriteWatch(store, () => flow.isApplying);
    flow.othersWrote = () => this.watch.othersWrote;
    this.purgeGuard = new PurgeGuard(store.deletions);
    this.verification = new Verification(parts, this.comparison, this.watch);
    this.ending = new Ending(options, parts, this.comparison, () => {
      this.watch.stop();
      this.purgeGuard.end();
      this.half?.release();
    });
  }

  /** Initiator: begins. */
  start(): void {
    this.begin();
    this.comparison.choose(this.ownFeatures);
    this.comparison.setLimit();
    this.comparison.prepare(() => this.introduce());
  }

  /** From now on it matters to this session what others do to the store. */
  private begin(): void {
    this.greeting.begin();
    this.watch.start();
    if (this.comparison.isMerging) this.purgeGuard.begin();
  }

  /** Whether something is half done: then call `goOn`, and nothing else. */
  get isBusy(): boolean {
    return this.steps.length > 0;
  }

  /** Does the next part of it. */
  goOn(): void {
    this.steps.shift()!();
  }

  /** The peer cannot be reached any more. */
  close(reason: string): void {
    // The peer has all that it waited for, and may have hung up for that.
    if (this.isFinishing) this.finishNow();
    else this.ending.finish("closed", reason);
  }

  /** Handles one item, whose tag has been read. False when it is malformed or out of place. */
  handle(tag: number): boolean {
    const { half } = this;
    switch (tag) {
      case HELLO:
        return this.handleHello();
      case AGAIN:
        return this.handleAgain();
      case TURN:
        return this.handleTurn();
      case END:
        return this.handleEnd();
      case FAIL:
        return this.handleFailure();
      case LATER:
      case FULL:
      case WITHHELD:
      case REFUSED:
      case ROOT:
      case ENTRY:
        return this.comparison.isMerging && this.handleMerging(tag);
      default:
        return half !== null && half.handle(tag);
    }
  }

  /** The items of both roles that there are only when entries go over. */
  private handleMerging(tag: number): boolean {
    const { half } = this;
    const { flow } = this.parts;
    switch (tag) {
      case ENTRY:
        if (!flow.handleEntry()) return false;
        half?.noteMerged(flow.arrived);
        this.noteDiffering(flow.arrived);
        return true;
      case LATER:
        return flow.handleLater();
      case WITHHELD:
        return flow.handleWithheld();
      case REFUSED:
        return this.handleRefusal();
      case ROOT:
        return this.verification.handle(this.isInitiator);
      default:
        flow.peer.isFull = true;
        return true;
    }
  }

  /** Of thousands of members, each part of this takes a while. */
  private handleHello(): boolean {
    const hello = this.introduction.handleHello();
    if (hello === null) return false;
    if (!(hello instanceof Hello)) return this.ending.fail(...hello);
    this.steps.push(() => this.take(hello));
    return true;
  }

  private take(hello: Hello): void {
    const { introduction, comparison } = this;
    if (!introduction.take(hello)) {
      this.ending.fail(
        "protocol",
        "it introduces itself again with other members than it was asked",
      );
    } else if (introduction.isComplete) {
      this.chooseTree();
      const { parts, options } = this;
      this.half = this.isInitiator
        ? new Initiator(parts, options.store, comparison.isWalking)
        : new Responder(parts, options.store, comparison.mode);
      if (comparison.isMerging) this.steps.push(() => this.meet(hello));
    }
  }

  /** Both know now what features they have in common. In a fetch no tree is compared. */
  private chooseTree(): void {
    const { comparison, ownFeatures, parts } = this;
    const features = comparison.mode === "fetch" ? ownFeatures : parts.features;
    this.isAnotherTree = comparison.choose(features);
  }

  private get ownFeatures(): number {
    return (this.options.capabilities ?? CURRENT).features;
  }

  /** Initiator: introduces itself for the second time. */
  private handleAgain(): boolean {
    if (!this.introduction.handleAgain()) return false;
    this.noteRoundTrip();
    this.introduce();
    return true;
  }

  /** Both have said who they are: what they conclude from that. */
  private meet(hello: Hello): void {
    const { greeting } = this;
    const met = greeting.meet(hello, this.parts.counts);
    if (typeof met === "object") {
      // A member that claims what cannot be may have a wrong clock: it learns here what time it is.
      if (greeting.isOfMembers && !this.isInitiator) this.introduction.answer(false);
      this.ending.fail(...met);
    } else this.steps.push(() => this.agree(hello, met));
  }

  /** `wasFlushed`: a flush came with it. */
  private agree(hello: Hello, wasFlushed: boolean): void {
    const { greeting, comparison } = this;
    comparison.isThorough = greeting.hasMissed(hello);
    comparison.setLimit();
    if (!this.isInitiator) return;
    this.areRootsEqual = hello.mode === ROOTS_ARE_EQUAL;
    // A flush is carried out before anything is compared.
    const isNewsToCompare = comparison.isThorough && !this.areRootsEqual;
    if (wasFlushed || this.isAnotherTree || isNewsToCompare) comparison.prepare(() => {});
  }

  private noteRoundTrip(): void {
    const { counts } = this.parts;
    counts.roundTrips++;
    this.options.onRound?.(counts);
  }

  private handleTurn(): boolean {
    const { turns, half } = this;
    const { reader, counts } = this.parts;
    const flags = reader.u8();
    if (!turns.noteTurn()) {
      return this.ending.fail("protocol", "it passes the word again and again and says nothing");
    }
    this.noteRoundTrip();
    if (!this.introduction.isComplete) {
      this.introduction.askAgain();
      return true;
    }
    turns.hasWord = true;
    if (half instanceof Responder) return half.endHearing(flags) && this.prepareAnswer();
    if (this.verification.isUnderWay) this.sayEnd();
    else if (this.areRootsEqual) {
      counts.rootsEqual = this.comparison.mode === "watermark" ? null : true;
      this.finishComplete();
    } else return half!.endHearing(flags);
    return true;
  }

  /** Responder: prepares what the answer needs. */
  private prepareAnswer(): boolean {
    if (this.verification.isUnderWay) {
      this.verification.isUnderWay = false;
      this.verify();
    } else if (!this.hasReplied) {
      this.hasReplied = true;
      this.comparison.prepare(() => this.reply());
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
    const { isEnding, hasListedAll } = this.turns;
    return this.isInitiator ? isEnding : hasListedAll || !this.comparison.isMerging;
  }

  private handleFailure(): boolean {
    const { reader, counts } = this.parts;
    const failure = FAILURES[reader.u8()] ?? "protocol";
    const text = readText(reader);
    // It misses something; this side has all that it has.
    if (failure === "incomplete" && this.mayEnd) this.noteContact();
    if (failure === "self" || failure === "duplicate") {
      counts.peerNodeId = this.options.nodeId;
    }
    this.ending.finish(failure, `the peer ended the session, saying "${printable(text)}"`);
    return true;
  }

  private handleRefusal(): boolean {
    const handled = this.purgeGuard.allowing(() => this.refusals.handle());
    return typeof handled === "string" ? this.ending.fail("untrue", handled) : handled;
  }

  /** Says the next piece of this side's turn. */
  speak(): void {
    const { turns, comparison, verification } = this;
    const spoken = this.half!.speak();
    if (spoken === "more") turns.noteSpoken();
    else if (spoken !== "end") this.passWord(spoken === "done");
    else if (this.options.verify !== true && comparison.mode !== "verify") this.sayEnd();
    else {
      turns.hasWord = false;
      verification.isUnderWay = true;
      this.verify();
    }
  }

  /** Initiator: the first word. */
  private introduce(): void {
    this.steps.push(
      () => this.introduction.prepare(),
      () => {
        this.introduction.begin();
        this.passWord(false);
      },
    );
  }

  /** Responder: the first answer, and the last when the roots are equal. */
  private reply(): void {
    const { comparison } = this;
    const half = this.half as Responder;
    const isSame = comparison.isDecidedByRoots && comparison.hasRoot(this.parts.flow.peer.root);
    this.introduction.answer(isSame);
    if (isSame) {
      this.passWord(true);
      this.finishComplete();
    } else if (comparison.isWalking) half.begin(this.mayBeFew);
    else if (comparison.mode === "full") half.compareAll();
  }

  /** Of a bucket of which nothing is here, only what comes of it tells. */
  private noteDiffering(arrived: Entry): void {
    const { differences, mode } = this.options;
    // What is fetched was written a moment ago, and is no difference.
    if (differences?.isWatched !== true || mode === "fetch") return;
    differences.note(this.parts.tree.nodeAbove(arrived));
  }

  /** Whether it may be few buckets that differ, and the peer can find those by a sketch. */
  private get mayBeFew(): boolean {
    const { features, flow } = this.parts;
    if ((features & FINDS_BY_SKETCH) === 0) return false;
    return [flow.peer.root, this.comparison.root()].every((root) =>
      root.some((byte) => byte !== 0),
    );
  }

  /** Says the root of the tree as of now. */
  private verify(): void {
    this.comparison.setLimit(true);
    this.comparison.prepare(() => {
      this.verification.say();
      this.passWord(true);
    });
  }

  private sayEnd(): void {
    const { flow, counts } = this.parts;
    flow.sayLater();
    flow.sayWithheld();
    // So that the peer does not mistake it for a complete session either.
    if (counts.missed > 0) this.ending.fail("incomplete", counts.whatIsMissed);
    else this.turns.sayEnd();
  }

  private passWord(isDone: boolean): void {
    this.parts.flow.sayWithheld();
    this.turns.pass(isDone, this.half instanceof Initiator && this.half.isBehind);
  }

  private finishComplete(): void {
    this.isFinishing = true;
    this.steps.push(() => this.finishNow());
  }

  private finishNow(): void {
    const { ending } = this;
    const { counts } = this.parts;
    this.isFinishing = false;
    if (ending.isEnded) return;
    this.noteContact();
    // What the peer refused last it refused after this side had said that it was done.
    if (counts.missed > 0) ending.finish("incomplete", counts.whatIsMissed);
    else ending.finish(null, "");
  }

  /** Everything was compared, and what the peer has is here. */
  private noteContact(): void {
    const { comparison, refusals } = this;
    const { peer, preventsContact } = this.parts.flow;
    if (comparison.mode === "fetch" || !comparison.isMerging) return;
    if (preventsContact || refusals.preventsContact || this.parts.counts.missed > 0) return;
    // Meanwhile another session brought something the peer may have purged and was not asked
    // about. It is to be, next time, and by a node that had no contact.
    if (this.watch.oldestMs > peer.forgottenUpToMs()) this.greeting.noteContact(peer);
  }
}
