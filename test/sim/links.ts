/**
 * Connections between simulated nodes as the replicas see them: one side dials and says PEER, the
 * other finds out who shall have it, and then both have a Link over a `Stream`. It stands in for
 * `anti-entropy/dial.ts` and for the client port.
 */
import type { Dial } from "../../src/anti-entropy/dial.ts";
import type { Link, LinkHandler } from "../../src/ports.ts";
import { Stream, type StreamEnd } from "./network.ts";
import type { Simulation } from "./simulation.ts";

/** Who makes connections and takes them: a process of a node, or the liar. */
export interface Party {
  readonly id: string;
  /** Its number in the network. */
  readonly place: number;
  /** Nothing happens to it any more. */
  readonly isOver: boolean;
  readonly links: Set<LinkEnd>;
  /** As in SyncControl; null while it does not listen. */
  accept(isRound: boolean): ((link: Link) => LinkHandler) | string | null;
}

/** Until a connection to nobody fails, in ms. */
const CONNECT_MS = 5_000;
const REFUSAL = "ERROR";
/** How many bytes the system takes before it says that some wait. */
const WINDOWS = [0, 1_000, 100_000];

/** How a party reaches others. */
export function simulatedDial(simulation: Simulation, caller: Party): Dial {
  const { network, timeline, plan } = simulation;
  return ({ host, port }, greeting, handle, onRefused) =>
    new Promise((resolve, reject) => {
      const address = `${host}:${port}`;
      const found = simulation.partyAt(address);
      const chance = simulation.chanceOf(`${caller.id} calls ${address}`);
      const fail = (why: string): void => reject(new Error(`cannot reach ${address}: ${why}`));
      const later = (ms: number, act: () => void): void => {
        timeline.after(ms, () => {
          if (!caller.isOver) act();
        });
      };
      const isReached = found !== null && network.connects(caller.place, found.place);
      if (!isReached) return later(CONNECT_MS, () => fail("no connection within 5 s"));
      later(chance.next() * plan.maxLatencyMs, () => {
        const { party } = found;
        if (party === null || party.isOver) return fail("connection refused");
        const [mine, theirs] = connect(simulation, caller, party, address);
        mine.begin(greeting, onRefused);
        theirs.awaitGreeting((isRound) => party.accept(isRound));
        mine.attach(handle(mine));
        resolve();
      });
    });
}

function connect(
  simulation: Simulation,
  caller: Party,
  callee: Party,
  address: string,
): [LinkEnd, LinkEnd] {
  const { network, timeline, plan } = simulation;
  const chances = [
    simulation.chanceOf(`${caller.id} to ${callee.id}`),
    simulation.chanceOf(`${callee.id} to ${caller.id}, asked`),
  ] as const;
  const ends = [
    new LinkEnd(simulation, caller, callee.id, 0, address, chances[0].pick(WINDOWS)),
    new LinkEnd(simulation, callee, caller.id, 1, `${caller.id}:50000`, chances[1].pick(WINDOWS)),
  ] as const;
  const isCut = simulation.isTroubled && chances[0].happens(plan.cuts);
  const cutAfter = isCut ? chances[0].magnitude(1, 4_000) : Infinity;
  const stream = new Stream(network, timeline, chances, plan.maxLatencyMs, ...ends, cutAfter);
  for (const end of ends) end.open(stream);
  return [ends[0], ends[1]];
}

/** One end of a connection. */
export class LinkEnd implements Link, StreamEnd {
  queuedBytes = 0;
  readonly place: number;
  /** When it was made, in the time of the simulation. */
  readonly sinceMs: number;
  private stream!: Stream;
  private handler: LinkHandler | null = null;
  /** Said before anything else. */
  private greeting = "";
  /** Looks at what came until it is clear what to do with it; returns what is left then. */
  private opening: ((all: Buffer) => Uint8Array | null) | null = null;
  private begun: Buffer = Buffer.alloc(0);
  private isOver = false;

  constructor(
    private readonly simulation: Simulation,
    private readonly party: Party,
    private readonly peerId: string,
    private readonly side: 0 | 1,
    readonly address: string,
    private readonly windowBytes: number,
  ) {
    this.place = party.place;
    this.sinceMs = simulation.timeline.nowMs;
    party.links.add(this);
  }

  /** Whether a session has it; until PEER is said, it is a client's like any other. */
  get isPeers(): boolean {
    return this.handler !== null;
  }

  open(stream: Stream): void {
    this.stream = stream;
  }

  /** As who dials: the other side may refuse instead of answering. */
  begin(greeting: string, onRefused: (reason: string) => void): void {
    this.greeting = `${greeting}\n`;
    this.opening = (all) => {
      const text = all.toString("latin1", 0, 1_000);
      if (!text.startsWith(REFUSAL)) return REFUSAL.startsWith(text) ? null : all;
      if (!text.includes("\n")) return null;
      onRefused(`the node there answered "${text.slice(REFUSAL.length + 1).trim()}"`);
      const { handler } = this;
      this.end();
      handler?.closed();
      return null;
    };
  }

  /** As who was dialled: the other side says what it came for. */
  awaitGreeting(accept: (isRound: boolean) => ((link: Link) => LinkHandler) | string | null): void {
    this.opening = (all) => {
      const end = all.indexOf("\n");
      if (end < 0) return null;
      const accepted = accept(all.toString("latin1", 0, end) === "PEER ROUND");
      if (typeof accepted === "function") {
        this.handler = accepted(this);
        return all.subarray(end + 1);
      }
      if (accepted !== null) this.send(Buffer.from(`${REFUSAL} Connection failed - ${accepted}\n`));
      this.end();
      return null;
    };
  }

  attach(handler: LinkHandler): void {
    if (!this.isOver) this.handler = handler;
  }

  send(bytes: Uint8Array): void {
    if (this.isOver) return;
    const { history } = this.simulation;
    history.noteBytes(bytes, (keys) => `${this.party.id} tells ${this.peerId} of ${keys}`);
    const { greeting } = this;
    this.greeting = "";
    const all = greeting === "" ? bytes : Buffer.concat([Buffer.from(greeting), bytes]);
    this.stream.send(this.side, all);
  }

  pause(): void {
    this.stream.pause(this.side);
  }

  resume(): void {
    this.stream.resume(this.side);
  }

  end(): void {
    if (this.isOver) return;
    this.leave();
    this.stream.close(this.side);
  }

  /** Its process is gone; with "power", its machine is. */
  vanish(how: "kill" | "power"): void {
    this.leave();
    if (how === "kill") this.stream.close(this.side);
    else this.stream.abandon(this.side);
  }

  receive(bytes: Uint8Array): void {
    if (this.isOver) return;
    if (this.opening === null) return this.handler?.receive(bytes);
    this.begun = Buffer.concat([this.begun, bytes]);
    const rest = this.opening(this.begun);
    if (rest === null || this.isOver) return;
    this.opening = null;
    if (rest.length > 0) this.handler?.receive(rest);
  }

  queued(bytes: number): void {
    if (this.isOver) return;
    const hadQueued = this.queuedBytes > 0;
    this.queuedBytes = Math.max(0, bytes - this.windowBytes);
    if (hadQueued && this.queuedBytes === 0) this.handler?.drained();
  }

  closed(): void {
    if (this.isOver) return;
    const { handler } = this;
    this.leave();
    handler?.closed();
  }

  private leave(): void {
    this.isOver = true;
    this.handler = null;
    this.queuedBytes = 0;
    this.party.links.delete(this);
  }
}
