/**
 * Bad input for sealed sessions: openings, answers and messages that are changed, cut, mixed, made
 * up or said again, for either side, at any moment of a session. Nothing that nobody said comes
 * out, whatever is refused ends its connection and is counted by its reason, and a good session
 * goes on as if nothing had been.
 */
import { PeerSeal } from "../../src/anti-entropy/peer-seal.ts";
import type { SealedLink } from "../../src/anti-entropy/sealed-link.ts";
import { Dice } from "./dice.ts";
import { seeded } from "./random.ts";
import { Listener, RawEnd } from "./sealed-pair.ts";
import { clusterSecrets } from "./secrets.ts";

const SECRETS = clusterSecrets("one", ["other"]);
/** Pieces that a mutation puts in: what begins openings, answers and refusals, and lengths. */
const PIECES = [
  "\xc1",
  "\xc2",
  "\xc3\x00\x30",
  "\xc4\x01",
  "\xc4\x02",
  "\x00\x00",
  "\x00\x10",
  "\xff\xff",
  "\x00",
  "x".repeat(70),
];
const GOOD_EVERY = 50;

/** One end, and what came out of it. */
interface End {
  readonly link: SealedLink;
  readonly raw: RawEnd;
  readonly listener: Listener;
  readonly sent: Buffer[];
}

/** See the file header. */
export class NoiseFuzzer {
  readonly name = "Noise messages";
  private readonly dice: Dice;
  private readonly seals: readonly [PeerSeal, PeerSeal, PeerSeal];
  private steps = 0;
  private refused = 0;
  private goodSessions = 0;

  constructor(seed: number) {
    const random = seeded(seed);
    this.dice = new Dice(random);
    const words = (count: number): Uint32Array =>
      Uint32Array.from({ length: count }, () => Math.floor(random() * 2 ** 32));
    this.seals = [
      new PeerSeal(SECRETS, words),
      new PeerSeal(SECRETS, words),
      new PeerSeal(null, words),
    ];
  }

  /** One more session that goes wrong at some point, or is no session at all. */
  step(): Promise<void> {
    const { dice } = this;
    const kind = dice.below(5);
    if (kind === 0) this.fuzzOpening();
    else if (kind === 1) this.fuzzAnswer();
    else if (kind === 2) this.fuzzTalk();
    else if (kind === 3) this.fuzzGuest();
    else this.fuzzWithoutSecret();
    if (++this.steps % GOOD_EVERY === 0) this.talk();
    return Promise.resolve();
  }

  /** Throws when not all that was refused was counted. */
  check(): void {
    const counters = PeerSeal.facts.filter(({ kind }) => kind === "counter");
    const counts = this.seals.flatMap((seal) => counters.map(({ read }) => Number(read(seal))));
    const counted = counts.reduce((sum, count) => sum + count, 0);
    if (counted !== this.refused) throw new Error(`${this.refused} refused, ${counted} counted`);
    if (this.goodSessions === 0) throw new Error("there was no good session");
  }

  private answering(seal: PeerSeal, isRound = false): End {
    const sent: Buffer[] = [];
    const raw = new RawEnd("caller:1", (bytes) => void sent.push(Buffer.from(bytes)));
    const link = seal.answer(raw, isRound);
    const listener = (link.handler = new Listener());
    return { link, raw, listener, sent };
  }

  private calling(seal: PeerSeal, first: string): End {
    const sent: Buffer[] = [];
    const raw = new RawEnd("callee:1", (bytes) => void sent.push(Buffer.from(bytes)));
    const link = seal.call(raw, false);
    const listener = (link.handler = new Listener());
    link.send(Buffer.from(first));
    return { link, raw, listener, sent };
  }

  /** Gives an end bytes in pieces, and counts if it refuses them. */
  private give(end: End, bytes: Uint8Array): void {
    const { dice } = this;
    const at = dice.chance(0.7) ? bytes.length : dice.below(bytes.length + 1);
    for (const piece of [bytes.subarray(0, at), bytes.subarray(at)]) {
      if (piece.length > 0) end.link.receive(piece);
    }
    const { problem } = end.link;
    if (problem === null) return;
    this.refused++;
    if (!end.raw.isEnded) throw new Error(`"${problem}", and the connection goes on`);
    if (end.listener.closedBecause !== problem) throw new Error("the session does not know why");
  }

  /** Whatever came out of an end was said, from its beginning. */
  private expectSaid(end: End, said: string): void {
    if (!said.startsWith(end.listener.text)) throw new Error(`made up: ${end.listener.text}`);
  }

  private damaged(bytes: Buffer): Buffer {
    const { dice } = this;
    return dice.chance(0.15) ? dice.bytes(150) : dice.mutate(bytes, PIECES);
  }

  private fuzzOpening(): void {
    const [caller, callee] = this.seals;
    const opening = this.calling(caller, "hello").sent[0];
    const end = this.answering(callee, this.dice.chance(0.1));
    end.listener.onReceive = () => end.link.send(Buffer.from("answer"));
    this.give(end, this.damaged(opening));
    this.expectSaid(end, "hello");
    if (Buffer.concat(end.sent).includes("answer")) throw new Error("answered in clear");
  }

  private fuzzAnswer(): void {
    const [caller, callee] = this.seals;
    const first = this.calling(caller, "hello");
    const second = this.answering(callee);
    second.listener.onReceive = () => second.link.send(Buffer.from("answer"));
    second.link.receive(first.sent[0]);
    this.give(first, this.damaged(Buffer.concat(second.sent)));
    this.expectSaid(first, "answer");
  }

  /** In the middle of a session, in either direction. */
  private fuzzTalk(): void {
    const { dice } = this;
    const [caller, callee] = [this.calling(this.seals[0], "hello"), this.answering(this.seals[1])];
    callee.link.receive(caller.sent.shift()!);
    caller.link.receive(callee.sent.shift()!);
    const [from, to] = dice.chance(0.5) ? [caller, callee] : [callee, caller];
    for (const words of ["one ", "two ", "three"]) from.link.send(Buffer.from(words));
    const said = dice.chance(0.3) ? from.sent.reverse() : from.sent;
    this.give(to, this.damaged(Buffer.concat(said)));
    this.expectSaid(to, to === callee ? "helloone two three" : "one two three");
  }

  /** Who wants to be passed on. */
  private fuzzGuest(): void {
    const opening = this.calling(this.seals[0], "hello").sent[0];
    const damaged = this.damaged(opening);
    if (damaged.length === 0) return;
    const found = this.seals[1].examineGuest(damaged);
    if (found === null) {
      // What follows the opening is not looked at.
      if (!damaged.subarray(0, opening.length).equals(opening)) throw new Error("passed on");
    } else if (found !== "more") this.refused++;
  }

  /** A node without a secret gets sealed things, and what it takes for frames. */
  private fuzzWithoutSecret(): void {
    const end = this.answering(this.seals[2]);
    const damaged = this.damaged(this.calling(this.seals[0], "hello").sent[0]);
    this.give(end, damaged);
    if (end.link.problem !== null) return;
    if (!damaged.toString("latin1").startsWith(end.listener.text)) throw new Error("changed");
  }

  private talk(): void {
    const [caller, callee] = [this.calling(this.seals[0], "good"), this.answering(this.seals[1])];
    callee.link.receive(caller.sent.shift()!);
    caller.link.receive(callee.sent.shift()!);
    callee.link.send(Buffer.from("and well"));
    caller.link.receive(callee.sent.shift()!);
    if (callee.listener.text + caller.listener.text !== "goodand well") {
      throw new Error("a good session does not get through");
    }
    this.goodSessions++;
  }
}
