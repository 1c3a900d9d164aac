/**
 * Looks into another node's store without having one, and changes nothing there: asks for the
 * digests of all buckets, then for descriptions of what chosen buckets hold. It is the initiator
 * of a session in the mode "inspect" (see `sync/session.ts`), as a pure step machine.
 */
import { BUCKETS, FANOUT } from "../tree/digest-tree.ts";
import { CURRENT, type Capabilities } from "../data/capabilities.ts";
import { Entry, KIND_COUNTER } from "../data/entry.ts";
import type { Salt } from "./short-digest.ts";
import { readDigest } from "./digest-set.ts";
import { FrameReader, FrameWriter } from "./frames.ts";
import { printable } from "../data/name.ts";
import { Hello, readHello, readText, writeHello } from "./hello.ts";
import {
  ABOUT,
  ABOUT_VALUE_BYTES,
  ASK,
  ASK_ALL,
  DIGESTS,
  END,
  FAIL,
  HELLO,
  TURN,
  TURN_DONE,
  readAbout,
} from "./items.ts";
import { MODES } from "./options.ts";

/** What an inspector is made with. */
export interface InspectorOptions {
  /** Random; inspectors with the same get digests that can be compared. */
  readonly salt: Salt;
  readonly maxFrameBytes: number;
  /** What it speaks; what the program does, unless given. */
  readonly capabilities?: Capabilities;
  /** Takes one complete frame; has copied or sent it when it returns. */
  readonly send: (frame: Uint8Array) => void;
  /**
   * An entry of a bucket that was asked for, with the start of its value, as much as `mergeRule`
   * looks at, and the length of the whole. Valid for the call.
   */
  readonly onEntry: (digest: number, entry: Entry, valueBytes: number) => void;
  /** All that was asked for last has come. */
  readonly onAnswered: () => void;
  /** It is of no use any more; one clear sentence. */
  readonly onFailure: (reason: string) => void;
}

/** See the file header. Ask one question at a time. */
export class SyncInspector {
  /** Who answers; null before the first answer. */
  hello: Hello | null = null;
  /** The digest of each bucket, in 48 bits; 0 for an empty one. Filled by the answer to `start`. */
  readonly digests = new Float64Array(BUCKETS);

  private readonly own = new Hello();
  private readonly reader: FrameReader;
  private readonly writer: FrameWriter;
  private readonly entry = new Entry();
  /** The next node of the level above the buckets' parents whose digests come. */
  private nextNode = 0;
  private isDescribing = false;
  private isOver = false;

  constructor(private readonly options: InspectorOptions) {
    this.reader = new FrameReader(options.maxFrameBytes);
    this.writer = new FrameWriter(options.send);
  }

  /** Introduces itself and asks for the digests. */
  start(): void {
    const { own } = this;
    own.mode = MODES.indexOf("inspect");
    own.nodeId = "inspector";
    own.capabilities = this.options.capabilities ?? CURRENT;
    own.salt = this.options.salt;
    own.maxFrameBytes = this.options.maxFrameBytes;
    writeHello(this.writer, own);
    this.writer.reserve(1);
    this.writer.u8(ASK_ALL);
    this.passWord();
  }

  /** Asks what these buckets hold. */
  ask(buckets: readonly number[]): void {
    this.isDescribing = true;
    for (const bucket of buckets) {
      this.writer.reserve(3);
      this.writer.u8(ASK);
      this.writer.u16(bucket);
    }
    this.passWord();
  }

  /** Says that it is done. */
  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.writer.reserve(1);
    this.writer.u8(END);
    this.writer.flush();
  }

  /** Receives the next bytes of the stream, cut anywhere. */
  receive(bytes: Uint8Array): void {
    const { reader } = this;
    if (!this.isOver) reader.push(bytes);
    while (!this.isOver && reader.next()) {
      const tag = reader.u8();
      if (!this.handle(tag) || (reader.overrun && !this.isOver)) {
        this.fail(`it does not keep to the sync protocol (item ${tag})`);
      }
    }
    if (reader.failure !== "") this.fail(`it sent ${reader.failure}`);
  }

  /** Handles one item, whose tag has been read. False when it is malformed or out of place. */
  private handle(tag: number): boolean {
    if (tag === FAIL) return this.handleFailure();
    if (this.hello === null) return tag === HELLO && this.handleHello();
    if (tag === TURN) return this.handleTurn();
    if (tag === DIGESTS) return !this.isDescribing && this.handleDigests();
    return tag === ABOUT && this.isDescribing && this.handleAbout();
  }

  private handleFailure(): boolean {
    this.reader.u8();
    this.fail(printable(readText(this.reader)));
    return true;
  }

  private handleHello(): boolean {
    const hello = readHello(this.reader, this.own, this.own.capabilities);
    if (typeof hello === "string") this.fail(hello);
    else this.hello = hello;
    return hello !== null;
  }

  private handleTurn(): boolean {
    const isDone = (this.reader.u8() & TURN_DONE) !== 0;
    if (!this.isDescribing) {
      if (this.nextNode !== BUCKETS / FANOUT / FANOUT) return false;
    } else if (!isDone) {
      this.passWord();
      return true;
    }
    this.options.onAnswered();
    return true;
  }

  /**
   * The digests of 256 buckets: 16 nodes, all of them told of, with the children that are not
   * empty.
   */
  private handleDigests(): boolean {
    const { reader, digests } = this;
    if (this.nextNode >= BUCKETS / FANOUT / FANOUT || reader.u16() !== 0xffff) return false;
    const first = this.nextNode++ * FANOUT * FANOUT;
    for (let node = 0; node < FANOUT; node++) {
      const present = reader.u16();
      for (let child = 0; child < FANOUT; child++) {
        const isPresent = (present & (1 << child)) !== 0;
        digests[first + node * FANOUT + child] = isPresent ? readDigest(reader) : 0;
      }
    }
    return true;
  }

  private handleAbout(): boolean {
    const { reader, entry } = this;
    const digest = readDigest(reader);
    const valueBytes = readAbout(reader, entry);
    // A counter without a base cannot be judged.
    if (entry.kind === KIND_COUNTER && valueBytes < ABOUT_VALUE_BYTES) return false;
    if (!reader.overrun) this.options.onEntry(digest, entry, valueBytes);
    return true;
  }

  private passWord(): void {
    this.writer.reserve(2);
    this.writer.u8(TURN);
    this.writer.u8(TURN_DONE);
    this.writer.flush();
  }

  private fail(reason: string): void {
    if (this.isOver) return;
    this.isOver = true;
    this.options.onFailure(reason);
  }
}
