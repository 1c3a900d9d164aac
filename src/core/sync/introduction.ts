/**
 * How the two sides of a session introduce themselves: each says HELLO once, the initiator first.
 *
 * An initiator names only the members that it was last in contact with, and gives a digest of its
 * contacts with the rest (`contact-summary.ts`). A responder that cannot tell from the digest what
 * those are asks for a HELLO in full (AGAIN).
 */
import { MAX_MEMBERS } from "./contacts.ts";
import type { Comparison } from "./comparison.ts";
import type { FailureReason, Greeting } from "./greeting.ts";
import { type Hello, readHello, writeHello } from "./hello.ts";
import type { SharedBySides } from "./initiator.ts";
import { AGAIN, FAIL, FETCH, HELLO, TURN } from "./items.ts";
import { MODES, type SyncSessionOptions } from "./options.ts";
import { type Salt, sessionSalt } from "./short-digest.ts";

/** In place of the mode in a responder's HELLO. */
export const ROOTS_ARE_EQUAL = 1;

/** See the file header. */
export class Introduction {
  /** Whether the other side has said who it is. */
  isComplete = false;
  /** Initiator: it has introduced itself in full. Responder: it asks for that. */
  isInFull = false;
  private readonly isInitiator: boolean;
  /** This side's HELLO; the initiator's is what the answer refers to. */
  private own: Hello | null = null;

  constructor(
    private readonly options: SyncSessionOptions,
    private readonly parts: SharedBySides,
    private readonly comparison: Comparison,
    private readonly greeting: Greeting,
  ) {
    this.isInitiator = options.role === "initiator";
  }

  /** Whether an item may come before the other side has said who it is. */
  allows(tag: number): boolean {
    if (tag === HELLO || tag === FAIL) return true;
    return this.isInitiator ? tag === AGAIN : tag === TURN && this.isInFull;
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

  /** Responder: asks who has introduced itself to do so in full. */
  askAgain(): void {
    const { writer } = this.parts;
    writer.reserve(1);
    writer.u8(AGAIN);
    writer.flush();
  }

  /** Initiator: an AGAIN came. False when it is out of place; else call `begin` again. */
  handleAgain(): boolean {
    if (this.isComplete || this.isInFull || this.comparison.mode === "fetch") return false;
    this.isInFull = true;
    this.options.contacts.noteRecognised(false);
    return true;
  }

  /**
   * Handles a HELLO, whose tag has been read. Null when it is malformed or out of place; else what
   * the session fails for, or the HELLO. A responder has to ask for another one then, with
   * `askAgain`, while this one does not make the introduction complete.
   */
  handleHello(): Hello | FailureReason | null {
    if (this.isComplete) return null;
    const { parts, comparison, isInitiator } = this;
    const hello = readHello(parts.reader, isInitiator ? this.own : null);
    if (hello === null) return null;
    if (typeof hello === "string") return ["incompatible", hello];
    parts.counts.peerNodeId = hello.nodeId;
    if (!isInitiator) {
      if (hello.mode >= MODES.length) return null;
      const refusal = this.options.admit?.(hello.nodeId) ?? null;
      if (refusal !== null) return ["busy", refusal];
      comparison.mode = MODES[hello.mode];
      if (!this.isRecognised(hello)) {
        if (this.isInFull) return null;
        this.isInFull = true;
        return hello;
      }
    }
    parts.flow.peer = hello;
    parts.shortener.setSalt(this.saltWith(hello.salt));
    this.isComplete = true;
    return hello;
  }

  /** Whether this side knows of all members what the peer knows. */
  private isRecognised(hello: Hello): boolean {
    const isKnown = hello.recognise(this.options.contacts);
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
    flow.told = this.options.contacts.clone();
    const own = this.greeting.hello(mode, this.comparison.root());
    if (this.isInFull) own.mostNamed = MAX_MEMBERS;
    writeHello(writer, own, this.isInitiator ? null : flow.peer);
    this.own = own;
  }
}
