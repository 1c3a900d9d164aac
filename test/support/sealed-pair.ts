/**
 * Two ends of a sealed connection in one process, and somebody in between who does with what is
 * said what he likes.
 */
import { PeerSeal } from "../../src/anti-entropy/peer-seal.ts";
import type { SealedLink } from "../../src/anti-entropy/sealed-link.ts";
import type { Link, LinkHandler } from "../../src/ports.ts";
import type { ClusterSecrets } from "../../src/security/cluster-secrets.ts";
import { seeded } from "./random.ts";

const random = seeded(7);

/** What a node with these secrets seals with; null for none. */
export function sealOf(secrets: ClusterSecrets | null): PeerSeal {
  return new PeerSeal(secrets, (count) =>
    Uint32Array.from({ length: count }, () => Math.floor(random() * 2 ** 32)),
  );
}

/** An end of a connection: what is sent there goes to whoever is in between. */
export class RawEnd implements Link {
  queuedBytes = 0;
  isEnded = false;
  isPaused = false;
  handler: LinkHandler | null = null;

  constructor(
    readonly address: string,
    private readonly onSent: (bytes: Uint8Array) => void,
  ) {}

  send(bytes: Uint8Array): void {
    if (!this.isEnded) this.onSent(new Uint8Array(bytes));
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.isEnded = true;
  }
}

/** Keeps what it gets. */
export class Listener implements LinkHandler {
  readonly received: Uint8Array[] = [];
  closedBecause: string | null = null;
  drains = 0;
  onReceive: (bytes: Uint8Array) => void = () => {};

  get text(): string {
    return Buffer.concat(this.received).toString("latin1");
  }

  receive(bytes: Uint8Array): void {
    this.received.push(new Uint8Array(bytes));
    this.onReceive(bytes);
  }

  drained(): void {
    this.drains++;
  }

  closed(reason = "lost"): void {
    this.closedBecause ??= reason;
  }
}

/** What is done to bytes in between; in their place these go on. */
export type Meddling = (bytes: Uint8Array, fromCaller: boolean) => Uint8Array[];

const HONEST: Meddling = (bytes) => [bytes];

/** See the file header. `caller` calls `callee`. */
export class SealedPair {
  readonly caller: SealedLink | RawEnd;
  readonly callee: SealedLink;
  readonly atCaller = new Listener();
  readonly atCallee = new Listener();
  /** All that went over the wire. */
  readonly wire: { fromCaller: boolean; bytes: Uint8Array }[] = [];
  readonly rawCaller: RawEnd;
  readonly rawCallee: RawEnd;
  private readonly underWay: (() => void)[] = [];

  constructor(
    callerSeal: PeerSeal,
    calleeSeal: PeerSeal,
    private readonly meddle: Meddling = HONEST,
    rounds: { said: boolean; heard: boolean } = { said: false, heard: false },
  ) {
    this.rawCaller = new RawEnd("callee:1", (bytes) => this.carry(bytes, true));
    this.rawCallee = new RawEnd("caller:1", (bytes) => this.carry(bytes, false));
    this.callee = calleeSeal.answer(this.rawCallee, rounds.heard);
    this.callee.handler = this.atCallee;
    this.rawCallee.handler = this.callee;
    if (callerSeal.isSealing) {
      const sealed = callerSeal.call(this.rawCaller, rounds.said);
      sealed.handler = this.atCaller;
      this.caller = sealed;
      this.rawCaller.handler = sealed;
    } else {
      this.caller = this.rawCaller;
      this.rawCaller.handler = this.atCaller;
    }
  }

  /** Carries all that is under way, and what follows from it. */
  run(): this {
    for (let act; (act = this.underWay.shift()) !== undefined;) act();
    return this;
  }

  /** What one side said, as it went over the wire. */
  said(fromCaller: boolean): Buffer {
    return Buffer.concat(
      this.wire.filter((it) => it.fromCaller === fromCaller).map((it) => it.bytes),
    );
  }

  private carry(bytes: Uint8Array, fromCaller: boolean): void {
    this.wire.push({ fromCaller, bytes });
    for (const passed of this.meddle(bytes, fromCaller)) {
      this.underWay.push(() => {
        const to = fromCaller ? this.rawCallee : this.rawCaller;
        if (!to.isEnded) to.handler!.receive(passed);
      });
    }
  }
}
