/**
 * Syncs that a client asks for by `SYNC`: with a peer that has no room it comes again for a while,
 * and where no peer is known to be it calls only so often, for a client may name any address.
 */
import type { NodeAddress } from "../config/address.ts";
import type { SyncReport } from "../ports.ts";
import { delay, type Timing } from "../timing.ts";
import { activeTrace } from "../tracer.ts";
import type { Destination } from "./destination.ts";
import type { Sessions } from "./sessions.ts";
import { StrangerBudget } from "./stranger-budget.ts";

/** How long it comes again to a busy peer. */
const BUSY_MS = 15_000;

const OWN_ID: SyncReport = {
  ok: false,
  reason: "that is this node's own id",
  rootsEqual: null,
  hasSetAside: false,
};
const TOO_MANY_ODD_CALLS: SyncReport = {
  ok: false,
  reason: "too many addresses were tried where no node answers; try again in a few seconds",
  rootsEqual: null,
  hasSetAside: false,
};

/** What they are made with. */
export interface AskedSyncsOptions {
  readonly nodeId: string;
  readonly timing: Timing;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly sessions: Pick<Sessions, "run">;
  /** Where the node of that id is reached. */
  readonly destinationOf: (nodeId: string) => Destination;
  /** Whether a peer is known to be at that address. */
  readonly isPeer: (address: NodeAddress) => boolean;
}

/** See the file header. */
export class AskedSyncs {
  /** How often a call may go where no peer is known to be, and none answers. */
  private readonly oddCalls = new StrangerBudget();

  constructor(private readonly options: AskedSyncsOptions) {}

  /** As `SyncControl.sync`. */
  async sync(
    peer: NodeAddress | string,
    isFull: boolean,
    isVerified: boolean,
  ): Promise<SyncReport> {
    const { nodeId, sessions, timing, random, isPeer } = this.options;
    if (peer === nodeId) return OWN_ID;
    const mode = isFull ? "full" : "now";
    const destination = this.destinationOf(peer);
    const isOdd = typeof peer !== "string" && !isPeer(peer);
    if (isOdd && !this.oddCalls.allows(timing.nowMs())) return TOO_MANY_ODD_CALLS;
    if (isOdd) this.oddCalls.spend();
    const untilMs = timing.nowMs() + BUSY_MS;
    const asked = { occasion: "command", greeting: "PEER", parent: activeTrace() } as const;
    for (;;) {
      const outcome = await sessions.run(destination, { mode, verify: isVerified, ...asked });
      if (isOdd && outcome.peerNodeId !== "") this.oddCalls.restore();
      if (outcome.failure !== "busy" || timing.nowMs() > untilMs) return outcome;
      await delay(timing, 100 + random() * 400);
    }
  }

  private destinationOf(peer: NodeAddress | string): Destination {
    if (typeof peer === "string") return this.options.destinationOf(peer);
    return { hostPort: peer, relayTo: "" };
  }
}
