/**
 * How the two sides of a session introduce themselves: each says HELLO once, the initiator first.
 *
 * An initiator that knows many members gives a digest of its contacts with all
 * (`contact-summary.ts`). A responder that cannot tell from the digest what those are asks for
 * another HELLO (AGAIN), with digests of groups of members, and the initiator names the groups
 * that differ.
 */
import { agree, CURRENT, READS_COMPRESSED } from "../data/capabilities.ts";
import { Compressor } from "../data/compression.ts";
import {
  firstMask,
  MAX_GROUPS_BYTES,
  readGroups,
  writeGroups,
  type GroupMask,
} from "./contact-summary.ts";
import type { Contacts } from "./contacts.ts";
import type { Comparison } from "./comparison.ts";
import type { FailureReason, Greeting } from "./greeting.ts";
import { type Hello, readHello, writeHello } from "./hello.ts";
import type { SharedBySides } from "./shared.ts";
import { AGAIN, FAIL, FETCH, HELLO, TURN } from "./items.ts";
import { MODES, type SyncSessionOptions } from "./options.ts";
import { type Salt, sessionSalt } from "./short-digest.ts";

/** In place of the mode in a responder's HELLO. */
export const ROOTS_ARE_EQUAL = 1;

/** See the file header. */
export class Introduction {
  /** Whether the other side has said who it is. */
  isComplete = false;
  /** Initiator: it introduces itself for the second time. Responder: it asks for that. */
  isAgain = false;
  private readonly isInitiator: boolean;
  /** This side's HELLO; the initiator's is what the answer refers to. */
  private own: Hello | null = null;
  /** Responder: a HELLO of whose members something else is known here. */
  private unrecognised: Hello | null = null;
  /** Initiator: the groups that are named the second time. */
  private mask: GroupMask | null = null;
  /** This side's contacts as it tells them in this session; null before it has. */
  private told: Contacts | null = null;

  constructor(
    private readonly options: SyncSessionOptions,
    private readonly parts: SharedBySides,
    private readonly comparison: Comparison,
    private readonly greeting: Greeting,
    /** Responder: called when the initiator has said in what mode, before anything is told. */
    private readonly onIntroduced: () => void,
  ) {
    this.isInitiator = options.role === "initiator";
  }

  /** Whether an item may come before the other side has said who it is. */
  allows(tag: number): boolean {
    if (tag === HELLO || tag === FAIL) return true;
    return this.isInitiator ? tag === AGAIN : tag === TURN && this.isAgain;
  }

  /** Initiator: makes ready what `begin` says. Of thousands of members, either takes a while. */
  prepare(): void {
    this.tell(this.stepMs());
  }

  /** Initiator: says HELLO, and in the mode "fetch" what is to be sent. */
  begin(): void {
    const { writer } = this.parts;
    this.say(MODES.indexOf(this.comparison.mode));
    if (this.comparison.mode !== "fetch") return;
    for (const key of this.options.fetchKeys ?? []) {
      writer.reserve(6 + key.length);
      writer.u8(FETCH);
      writer.varint(key.length);
      writer.copy(key, 0, key.length);
    }
  }

  /** Responder: says HELLO. */
  answer(areRootsEqual: boolean): void {
    this.say(areRootsEqual ? ROOTS_ARE_EQUAL : 0);
  }

  /** Responder: asks who has introduced itself to name the members of groups that differ. */
  askAgain(): void {
    const { writer } = this.parts;
    const asking = this.unrecognised!;
    writer.reserve(1 + MAX_GROUPS_BYTES);
    writer.u8(AGAIN);
    writeGroups(writer, this.tell(asking.stepMs), asking);
    writer.flush();
  }

  /** Initiator: an AGAIN came. False when it is none or out of place; else call `begin` again. */
  handleAgain(): boolean {
    const { own, comparison } = this;
    const isOutOfPlace = this.isComplete || this.isAgain || comparison.mode === "fetch";
    if (isOutOfPlace || own === null) return false;
    this.isAgain = true;
    this.mask = readGroups(this.parts.reader, own.contacts, own);
    return this.mask !== null;
  }

  /**
   * Handles a HELLO, whose tag has been read. Null when it is malformed or out of place; else what
   * the session fails for, or the HELLO, which is to be taken with `take` then.
   */
  handleHello(): Hello | FailureReason | null {
    if (this.isComplete) return null;
    const { parts, comparison, isInitiator } = this;
    const { capabilities } = this.options;
    const hello = readHello(parts.reader, isInitiator ? this.own : null, capabilities);
    if (hello === null) return null;
    if (typeof hello === "string") return ["incompatible", hello];
    parts.counts.peerNodeId = hello.nodeId;
    if (!isInitiator) {
      if (hello.mode >= MODES.length) return null;
      const refusal = this.options.admit?.(hello.nodeId) ?? null;
      if (refusal !== null) return ["busy", refusal];
      if (hello.trace.length > 0) this.options.onTrace?.(hello.trace);
      comparison.mode = MODES[hello.mode];
    }
    return hello;
  }

  /**
   * Takes the other side to be what it said. A responder has to ask for another HELLO, with
   * `askAgain`, while this one does not make the introduction complete. False when it was asked.
   */
  take(hello: Hello): boolean {
    const { parts } = this;
    if (!this.isInitiator && !this.isRecognised(hello)) {
      if (this.isAgain) return false;
      this.isAgain = true;
      this.unrecognised = hello;
      return true;
    }
    parts.flow.peer = hello;
    this.noteCapabilities(hello);
    parts.shortener.setSalt(this.saltWith(hello.salt));
    this.isComplete = true;
    return true;
  }

  /** From now on what is said may be said in ways that both understand. */
  private noteCapabilities({ capabilities }: Hello): void {
    const { capabilities: own = CURRENT, compresses = true } = this.options;
    const features = agree(own, capabilities)?.features ?? 0;
    this.parts.features = features;
    const isRead = (features & READS_COMPRESSED) !== 0;
    if (compresses && isRead) this.parts.writer.compressor = new Compressor();
  }

  /** Whether this side knows of all members what the peer knows. */
  private isRecognised(hello: Hello): boolean {
    // What this node vouches for it tells as of later.
    if (this.told === null) this.onIntroduced();
    const isKnown = hello.recognise(this.tell(hello.stepMs), this.greeting.graceMs);
    // Of a fetch nobody concludes who has what.
    return isKnown || this.comparison.mode === "fetch" || !this.comparison.isMerging;
  }

  /** An inspector compares what several nodes tell it: then the salt is its alone. */
  private saltWith(theirs: Salt): Salt {
    if (!this.comparison.isMerging) return theirs;
    const { salt } = this.options;
    return this.isInitiator ? sessionSalt(salt, theirs) : sessionSalt(theirs, salt);
  }

  private say(mode: number): void {
    const { flow, writer } = this.parts;
    const stepMs = this.stepMs();
    const told = this.tell(stepMs);
    const own = this.greeting.hello(mode, this.comparison.root(), told);
    own.stepMs = stepMs;
    own.mask = this.mask ?? firstMask(told);
    if (this.isInitiator && this.options.trace) own.trace = this.options.trace;
    writeHello(writer, own, this.isInitiator ? null : flow.peer);
    this.own = own;
  }

  private stepMs(): number {
    if (!this.isInitiator) return this.parts.flow.peer.stepMs;
    return this.own?.stepMs ?? this.greeting.stepMs();
  }

  /** This side's contacts, as of when they are first told in this session. */
  private tell(stepMs: number): Contacts {
    if (this.told === null) this.parts.flow.told = this.options.contacts.clone();
    this.told ??= this.greeting.tell(stepMs);
    return this.told;
  }
}
