/**
 * Which way leads to a peer: its client port when that can be reached, for it is faster and costs
 * the broker nothing; else the broker. What was found out is remembered by address, so that not
 * every session begins with a call to where nobody answers, and is tried again now and then.
 */
import { formatNodeAddress } from "../config/address.ts";
import type { Logger } from "../observability/log.ts";
import type { Link, LinkHandler } from "../ports.ts";
import type { Timing } from "../timing.ts";
import type { Destination } from "./destination.ts";
import type { Dial } from "./dial.ts";
import type { Relay } from "./relay.ts";

/** A port that does not answer is left alone for so long, then for twice as long, in ms. */
const FIRST_PAUSE_MS = 60_000;
const MAX_PAUSE_MS = 900_000;
/** Most addresses of which that is remembered; the one that failed first is forgotten. */
const MAX_AVOIDED = 1_024;
/** Most peers that INFO names. */
const MAX_NAMED = 32;

/** How a node reaches a peer by whatever way; as `Dial`. */
export type Reach = (
  destination: Destination,
  greeting: string,
  handle: (link: Link) => LinkHandler,
  onRefused: (reason: string) => void,
) => Promise<void>;

/** A peer whose way is to be shown. */
export interface KnownPeer extends Destination {
  readonly nodeId: string;
  /** Whether a session with it has succeeded. */
  readonly isMet: boolean;
}

interface Avoided {
  readonly nodeId: string;
  readonly untilMs: number;
  readonly pauseMs: number;
}

/** See the file header. */
export class Ways {
  private readonly avoided = new Map<string, Avoided>();

  /** Without `relay` there is one way only. `isListed`: whether the configuration names it. */
  constructor(
    private readonly dial: Dial,
    private readonly relay: Pick<Relay, "isOpen" | "dial"> | null,
    private readonly isListed: (address: string) => boolean,
    private readonly timing: Timing,
    private readonly logger: Logger,
  ) {}

  /** Reaches a peer by the way that leads there. Rejects with an Error for people. */
  readonly reach: Reach = async (destination, greeting, handle, onRefused) => {
    const { hostPort, relayTo } = destination;
    let failure: Error | null = null;
    if (hostPort !== null && !this.isRelayed(destination)) {
      try {
        const isListed = this.isListed(formatNodeAddress(hostPort));
        await this.dial(hostPort, greeting, handle, onRefused, isListed);
        return this.noteReached(destination);
      } catch (error) {
        failure = error as Error;
      }
    }
    if (relayTo === "" || this.relay?.isOpen !== true) {
      throw (
        failure ??
        new Error(`"${relayTo}" has no address here, and nothing goes through a broker now`)
      );
    }
    if (failure !== null) this.avoid(destination, failure.message);
    try {
      await this.relay.dial(relayTo, greeting, handle, onRefused);
    } catch (error) {
      const first = failure === null ? "" : `${failure.message}; `;
      throw new Error(first + (error as Error).message);
    }
  };

  /** Whether the way to a peer is through the broker now. */
  isRelayed({ hostPort, relayTo }: Destination): boolean {
    if (relayTo === "" || this.relay?.isOpen !== true) return false;
    if (hostPort === null) return true;
    const avoided = this.avoided.get(formatNodeAddress(hostPort));
    return avoided !== undefined && this.timing.nowMs() < avoided.untilMs;
  }

  /** The same, or the other way is to be tried again, and led nowhere when it was tried last. */
  private wasRelayed(peer: Destination): boolean {
    if (this.isRelayed(peer)) return true;
    return peer.hostPort !== null && this.avoided.has(formatNodeAddress(peer.hostPort));
  }

  /** What answers at that client port is not who was wanted, or no node at all. */
  noteStranger(destination: Destination): void {
    if (destination.relayTo !== "") this.avoid(destination, "another answers there");
  }

  /** By node id: "broker", "tcp", "tls"; empty if untried. */
  of(peers: readonly KnownPeer[]): Map<string, string> {
    const named = peers.filter(({ nodeId }) => nodeId !== "");
    return new Map(
      named.map((peer) => {
        const direct = !peer.isMet ? "" : peer.hostPort?.isSecure ? "tls" : "tcp";
        return [peer.nodeId, this.wasRelayed(peer) ? "broker" : direct];
      }),
    );
  }

  /** `n2=broker n3=tcp n4=tls n5=untried`, by node id. */
  describe(peers: readonly KnownPeer[]): string {
    const ways = Array.from(this.of(peers), ([nodeId, way]) => `${nodeId}=${way || "untried"}`);
    const shown = ways.sort().slice(0, MAX_NAMED).join(" ");
    return ways.length > MAX_NAMED ? `${shown} …` : shown;
  }

  private avoid({ hostPort, relayTo: nodeId }: Destination, reason: string): void {
    if (hostPort === null) return;
    const address = formatNodeAddress(hostPort);
    const former = this.avoided.get(address);
    const pauseMs = former ? Math.min(2 * former.pauseMs, MAX_PAUSE_MS) : FIRST_PAUSE_MS;
    this.avoided.delete(address);
    this.avoided.set(address, { nodeId, pauseMs, untilMs: this.timing.nowMs() + pauseMs });
    if (this.avoided.size > MAX_AVOIDED) this.avoided.delete(this.avoided.keys().next().value!);
    if (former !== undefined) return;
    this.logger.info("A peer is reached through the broker", { peer: nodeId, address, reason });
  }

  private noteReached({ hostPort, relayTo: peer }: Destination): void {
    const address = formatNodeAddress(hostPort!);
    if (!this.avoided.delete(address)) return;
    this.logger.info("A peer is reached at its address again", { peer, address });
  }
}
