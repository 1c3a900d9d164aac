/**
 * The sync sessions of a node: begins them with other nodes, serves those that others begin, and
 * keeps their number within its bound, whoever began them. A peer that comes when there are
 * enough is told so; one that this node begins waits for its turn.
 */
import { formatHostPort, type HostPort } from "../config/address.ts";
import type { Durability, Link, LinkHandler } from "../commands/services.ts";
import type { Salt } from "../core/short-digest.ts";
import { SyncSession, busyFrame, type SyncSessionOptions } from "../core/sync-session.ts";
import type { SyncFailure, SyncResult } from "../core/sync-tally.ts";
import type { SyncAccounts } from "./accounts.ts";
import { Conversation } from "./conversation.ts";
import { dial } from "./dial.ts";
import { LongestSlice } from "./longest-slice.ts";

/** What all sessions of a node have in common. */
export interface SessionsOptions {
  /** The session's own part: what does not differ from one to the next. */
  readonly common: Omit<
    SyncSessionOptions,
    | "role"
    | "mode"
    | "verify"
    | "fetchKeys"
    | "salt"
    | "nowMs"
    | "monotonicMs"
    | "send"
    | "onSettled"
    | "onEnd"
  >;
  readonly durability: Durability;
  readonly maxSessions: number;
  /** A peer that is silent for so long is given up, in ms. */
  readonly silenceMs: number;
  readonly accounts: SyncAccounts;
  /** A session threw, which is a mistake in the program. */
  readonly onBug: (error: unknown) => void;
}

/** What to begin a session with: `greeting` is the request by which the other node gets it. */
export type Errand = Pick<SyncSessionOptions, "mode" | "verify" | "fetchKeys"> & {
  readonly greeting: string;
};

/** How a session that this node began came out. */
export type Outcome = Pick<
  SyncResult,
  "ok" | "reason" | "peerNodeId" | "rootsEqual" | "hasSetAside"
> & {
  readonly failure: SyncFailure | "unreachable" | null;
};

const INTERRUPTED = "the node stops or leaves the cluster";

/** See the file header. */
export class Sessions {
  /** Sessions under way, and those about to connect. */
  active = 0;
  /** Of all sessions. */
  readonly longestSlice = new LongestSlice();
  private readonly conversations = new Set<Conversation>();
  private readonly waiting: (() => void)[] = [];
  /** How often sessions were ended before their time. */
  private interruptions = 0;
  private isStopping = false;

  constructor(private readonly options: SessionsOptions) {}

  /** Whether another session may begin. */
  get hasRoom(): boolean {
    return this.active < this.options.maxSessions;
  }

  /** One session with a peer, as soon as there is room for it. Never rejects. */
  async run({ host, port }: HostPort, errand: Errand): Promise<Outcome> {
    while (!this.hasRoom && !this.isStopping) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    if (this.isStopping) return failed("closed", "the node stops");
    this.active++;
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const { interruptions } = this;
    let isConnected = false;
    const converse = (link: Link): LinkHandler => {
      isConnected = true;
      const conversation = this.converse(link, errand, resolve);
      if (this.interruptions > interruptions) conversation.close(INTERRUPTED);
      return conversation;
    };
    const onRefused = (reason: string): void => resolve(failed("unreachable", reason));
    try {
      await dial(host, port, errand.greeting, converse, onRefused);
    } catch (error) {
      if (!isConnected) this.release();
      resolve(failed("unreachable", (error as Error).message));
    }
    const outcome = await promise;
    this.options.accounts.note(outcome, formatHostPort(host, port), "initiator");
    return outcome;
  }

  /** Serves a peer on its connection, unless there are sessions enough. */
  serve(link: Link, onEnd: (result: SyncResult) => void): LinkHandler {
    const { accounts } = this.options;
    if (!this.hasRoom) {
      accounts.turnedAway++;
      link.send(busyFrame());
      link.end();
      return { receive() {}, drained() {}, closed() {} };
    }
    this.active++;
    return this.converse(link, null, (result) => {
      accounts.note(result, link.address, "responder");
      onEnd(result);
    });
  }

  /** Ends the sessions under way, and those about to connect. */
  interrupt(): void {
    this.interruptions++;
    for (const conversation of this.conversations) conversation.close(INTERRUPTED);
  }

  /** Ends them and begins no more. */
  stop(): void {
    this.isStopping = true;
    this.interrupt();
    for (const proceed of this.waiting.splice(0)) proceed();
  }

  /** `errand` is null for the responder. */
  private converse(
    link: Link,
    errand: Errand | null,
    onEnd: (result: SyncResult) => void,
  ): Conversation {
    const { common, durability, silenceMs, onBug } = this.options;
    const { greeting: _, ...parts } = errand ?? { greeting: "" };
    const conversation: Conversation = new Conversation({
      link,
      durability,
      silenceMs,
      longestSlice: this.longestSlice,
      create: (send, end, onSettled) =>
        new SyncSession({
          ...common,
          role: errand === null ? "responder" : "initiator",
          ...parts,
          salt: newSalt(),
          nowMs: Date.now,
          monotonicMs: () => performance.now(),
          send,
          onSettled,
          onEnd: end,
        }),
      onEnd: (result) => {
        this.conversations.delete(conversation);
        this.release();
        onEnd(result);
      },
      onBug,
    });
    this.conversations.add(conversation);
    conversation.start(errand !== null);
    return conversation;
  }

  private release(): void {
    this.active--;
    this.waiting.shift()?.();
  }
}

function failed(failure: Outcome["failure"], reason: string): Outcome {
  return { ok: false, failure, reason, peerNodeId: "", rootsEqual: null, hasSetAside: false };
}

function newSalt(): Salt {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return { high: high!, low: low! };
}
