/**
 * The sync sessions of a node: begins them with other nodes, serves those that others begin, and
 * keeps the number of both within its bound. Each kind has places of its own: what others begin
 * never takes one that this node needs, nor does a node nobody has met take one from those that are
 * known, nor a client that says SYNC one from the schedule.
 */
import type { Durability, Link, LinkHandler } from "../ports.ts";
import type { Salt } from "../core/sync/short-digest.ts";
import { KEYED_BY_NAME } from "../core/tree/record-digest.ts";
import { SyncSession, type SyncSessionOptions } from "../core/sync/session.ts";
import type { SyncFailure, SyncResult } from "../core/sync/result.ts";
import type { Timing } from "../timing.ts";
import type { TraceContext } from "../trace-context.ts";
import type { Tracer } from "../tracer.ts";
import { Admission, type Guest } from "./admission.ts";
import { Conversation } from "./conversation.ts";
import type { DifferenceMap } from "./difference-map.ts";
import { formatDestination, hostOf, isRelayAddress, type Destination } from "./destination.ts";
import { LongestSlice } from "./longest-slice.ts";
import { Passages } from "./passages.ts";
import type { PeerSeal } from "./peer-seal.ts";
import { SealedLink } from "./sealed-link.ts";
import type { SessionYield } from "./news.ts";
import { Semaphore } from "./semaphore.ts";
import { SessionTree } from "./session-tree.ts";
import { SessionTrace, type TracedEnding } from "./session-trace.ts";
import type { SyncStatistics } from "./sync-statistics.ts";
import type { Trees } from "./trees.ts";
import type { Reach } from "./ways.ts";

/** What all sessions of a node have in common. */
export interface SessionsOptions {
  /** The session's own part: what does not differ from one to the next. */
  readonly common: Omit<
    SyncSessionOptions,
    | "role"
    | "mode"
    | "verify"
    | "fetchKeys"
    | "treeFor"
    | "differences"
    | "salt"
    | "monotonicMs"
    | "send"
    | "admit"
    | "trace"
    | "onTrace"
    | "onRound"
    | "onPeerTime"
    | "onResumable"
    | "onEnd"
  >;
  readonly timing: Timing;
  /** How peers are reached. */
  readonly reach: Reach;
  /** What they are sealed with. */
  readonly seal: PeerSeal;
  /** What they compare. */
  readonly trees: Trees;
  /** So many random words of 32 bits. */
  readonly randomWords: (count: number) => Uint32Array;
  readonly durability: Durability;
  /** A session produces no more while so many bytes of it wait to be sent. */
  readonly maxQueuedBytes: number;
  /** Most sessions of each kind. */
  readonly maxSessions: number;
  /** Whether this node has met a node of that id at an address of its own choice. */
  readonly isKnown: (nodeId: string) => boolean;
  /** A peer that is silent for so long is given up, in ms. */
  readonly silenceMs: number;
  readonly statistics: SyncStatistics;
  /**
   * That peer has entries that are not taken yet, the earliest written at that time, in Unix ms.
   */
  readonly onPostponed: (nodeId: string, entryMs: number) => void;
  /**
   * Who answered at that address, null for through the broker, and calls itself that, says that it
   * is that time, in Unix ms; null: it is in doubt.
   */
  readonly onPeerTime: (nodeId: string, unixMs: number | null, address: string | null) => void;
  /** Told how long the turns of sessions take. */
  readonly longestSlice: LongestSlice;
  /** Told where trees differ. */
  readonly differences: DifferenceMap;
  /** A session threw, which is a mistake in the program. */
  readonly onBug: (error: unknown) => void;
  /** Told of sessions that are traced: by their ratio, or because of what they belong to. */
  readonly tracer: Tracer;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** For whom a session is begun: a peer that is known, one never met, or a client that said SYNC. */
export type Occasion = "known" | "stranger" | "command";

/** What to begin a session with: `greeting` is the request by which the other node gets it. */
export type SessionRequest = Pick<SyncSessionOptions, "mode" | "verify" | "fetchKeys"> & {
  readonly occasion: Occasion;
  readonly greeting: string;
  /** What it belongs to; nothing unless given. */
  readonly parent?: TraceContext | null;
};

/** How a session that this node began came out. */
export type SessionOutcome = Pick<
  SyncResult,
  "ok" | "reason" | "peerNodeId" | "rootsEqual" | "hasSetAside"
> & {
  readonly failure: SyncFailure | "unreachable" | null;
  /** Whether entries went over, in either direction. */
  readonly hasMoved: boolean;
  /** Whether entries came that were new here. */
  readonly hasLearned: boolean;
};

/** The request by which a node comes by itself. */
export const ROUND_GREETING = "PEER ROUND";
/** Why a session failed that this node has ended by `interrupt`. */
export const INTERRUPTED = "the node stops or leaves the cluster";
/** How long somebody who comes may take to say who it is, in ms. */
const HELLO_MS = 5_000;
/**
 * The same for a node that this one calls and never met: it may have to bring its tree up to date.
 */
const STRANGER_HELLO_MS = 10_000;
/**
 * Connections that have said PEER and not yet who they are, at the client port and through the
 * broker; the oldest makes room for another that comes the same way.
 */
const MAX_ARRIVING = 32;
const MAX_ARRIVING_BY_BROKER = 8;
/** Through the broker everything takes longer. */
const HELLO_BY_BROKER_MS = 15_000;
/** How long a session waits for its place, in ms. */
const ENTER_MS = 15_000;

/** See the file header. */
export class Sessions {
  /** Sessions under way, and those about to connect. */
  active = 0;
  private readonly conversations = new Set<Conversation>();
  private readonly passages: Passages;
  private readonly permits: Record<Occasion, Semaphore>;
  /** Those that have not said who they are, in the order in which they came. */
  private readonly arriving = new Set<Conversation>();
  private readonly arrivingByBroker = new Set<Conversation>();
  private readonly admission: Admission;
  /** How often sessions were ended before their time. */
  private interruptions = 0;
  private isStopping = false;

  constructor(private readonly options: SessionsOptions) {
    const { maxSessions, isKnown, timing } = options;
    this.admission = new Admission(maxSessions, isKnown);
    this.permits = {
      known: new Semaphore(maxSessions, timing),
      stranger: new Semaphore(maxSessions, timing),
      command: new Semaphore(maxSessions, timing),
    };
    this.passages = new Passages(options, this.permits.command);
  }

  /** How many this node may begin at once. */
  get limit(): number {
    return this.permits.known.permits;
  }

  /** `maxSessions` in the options is another one than before. */
  reconfigure(): void {
    const { maxSessions } = this.options;
    this.admission.places = maxSessions;
    for (const semaphore of Object.values(this.permits)) semaphore.setPermits(maxSessions);
  }

  /** Whether another session may begin on that occasion. */
  hasRoom(occasion: Occasion): boolean {
    return this.permits[occasion].isFree;
  }

  /** One session with a peer, as soon as there is room for it. Never rejects. */
  async run(peer: Destination, request: SessionRequest): Promise<SessionOutcome> {
    const semaphore = this.permits[request.occasion];
    if (!(await semaphore.acquire(ENTER_MS))) {
      if (this.isStopping) return failed("closed", "the node stops");
      return failed("busy", "this node holds as many sessions as it may");
    }
    this.active++;
    const outcome = await this.visit(peer, request);
    this.active--;
    semaphore.release();
    return outcome;
  }

  /**
   * Serves a peer on its connection, if there is room when it has said who it is; `isRound` as in
   * `PEER ROUND`.
   */
  serve(outer: Link, isRound: boolean, onEnd: (result: SyncResult) => void): LinkHandler {
    const { statistics, seal, timing } = this.options;
    const beganMs = timing.nowMs();
    const link = seal.answer(outer, isRound);
    const isByBroker = isRelayAddress(link.address);
    const arriving = isByBroker ? this.arrivingByBroker : this.arriving;
    if (arriving.size >= (isByBroker ? MAX_ARRIVING_BY_BROKER : MAX_ARRIVING)) {
      const [oldest] = arriving;
      oldest.close("others came that have not said who they are either");
    }
    this.active++;
    let guest: Guest | null = null;
    const admit = (nodeId: string): string | null => {
      // A node may be asked to introduce itself again.
      if (guest !== null) return guest.nodeId === nodeId ? null : "it is another all at once";
      const host = hostOf(link.address);
      const newcomer: Guest = {
        nodeId,
        host,
        hasHadItsTurn: (patience) => conversation.hasHadItsTurn(patience),
        dismiss: (reason) => conversation.dismiss(reason),
      };
      arriving.delete(conversation);
      const refusal = this.admission.admit(newcomer);
      if (refusal === null) guest = newcomer;
      return refusal;
    };
    let trace: SessionTrace | null = null;
    const onTrace = (told: Uint8Array): void => {
      trace ??= SessionTrace.answer(this.options.tracer, told, link.address);
    };
    const helloMs = isByBroker ? HELLO_BY_BROKER_MS : HELLO_MS;
    const parts = { role: "responder", admit, onTrace } as const;
    const conversation = this.converse(link, parts, helloMs, (result) => {
      this.active--;
      arriving.delete(conversation);
      if (guest !== null) this.admission.leave(guest, result.ok);
      const tookMs = timing.nowMs() - beganMs;
      const ending = withSealing(result, link);
      traced(trace, ending, () => statistics.record(ending, link.address, "responder", tookMs));
      onEnd(result);
    });
    arriving.add(conversation);
    link.handler = conversation;
    conversation.start(false);
    return link;
  }

  /** Passes a connection on to another node (`Passages`). */
  passOn(link: Link, peer: Destination): LinkHandler {
    return this.passages.passOn(link, peer);
  }

  /** Ends the sessions under way, and those about to connect. */
  interrupt(): void {
    this.interruptions++;
    for (const conversation of this.conversations) conversation.close(INTERRUPTED);
    this.passages.interrupt(INTERRUPTED);
  }

  /** Ends them and begins no more. */
  stop(): void {
    this.isStopping = true;
    this.interrupt();
    for (const semaphore of Object.values(this.permits)) semaphore.close();
  }

  private async visit(peer: Destination, request: SessionRequest): Promise<SessionOutcome> {
    const { promise, resolve } = Promise.withResolvers<SessionOutcome>();
    const { interruptions } = this;
    const beganMs = this.options.timing.nowMs();
    const { occasion, greeting, parent = null, ...parts } = request;
    const helloMs = occasion === "stranger" ? STRANGER_HELLO_MS : Infinity;
    let address = formatDestination(peer);
    const trace = this.beginTrace(parent, request.mode ?? "watermark", address);
    const converse = (outer: Link): LinkHandler => {
      ({ address } = outer);
      const { seal } = this.options;
      const sealed = seal.isSealing ? seal.call(outer, greeting === ROUND_GREETING) : null;
      const link = sealed ?? outer;
      trace?.noteReached();
      const asked = { role: "initiator", ...parts, ...tracing(trace) } as const;
      const conversation = this.converse(link, asked, helloMs, (result) =>
        resolve(outcomeOf(result, sealed)),
      );
      if (sealed !== null) sealed.handler = conversation;
      conversation.start(true);
      if (this.interruptions > interruptions) conversation.close(INTERRUPTED);
      return sealed ?? conversation;
    };
    const onRefused = (reason: string): void => resolve(failed("unreachable", reason));
    try {
      await this.options.reach(peer, greeting, converse, onRefused);
    } catch (error) {
      resolve(failed("unreachable", (error as Error).message));
    }
    const outcome = await promise;
    const { statistics, timing } = this.options;
    const tookMs = timing.nowMs() - beganMs;
    traced(trace, outcome, () => statistics.record(outcome, address, "initiator", tookMs));
    return outcome;
  }

  private beginTrace(
    parent: TraceContext | null,
    mode: string,
    address: string,
  ): SessionTrace | null {
    const { tracer, random } = this.options;
    if (!tracer.isOn || (parent === null && random() >= tracer.ratio)) return null;
    return SessionTrace.call(tracer, parent, mode, address);
  }

  private converse(
    link: Link,
    parts: Pick<
      SyncSessionOptions,
      "role" | "mode" | "verify" | "fetchKeys" | "admit" | "trace" | "onTrace" | "onRound"
    >,
    helloMs: number,
    onEnd: (result: SyncResult) => void,
  ): Conversation {
    const { common, durability, silenceMs, onBug, timing, maxQueuedBytes, longestSlice } =
      this.options;
    const address = isRelayAddress(link.address) ? null : link.address;
    const { onPeerTime } = this.options;
    const compared = new SessionTree(this.options.trees, this.options.differences.begin(), () =>
      link instanceof SealedLink ? link.secretId : KEYED_BY_NAME,
    );
    const conversation: Conversation = new Conversation({
      link,
      timing,
      maxQueuedBytes,
      durability,
      silenceMs,
      helloMs: Math.min(helloMs, silenceMs),
      longestSlice,
      create: (send, end, onResumable) =>
        new SyncSession({
          ...common,
          ...parts,
          salt: this.newSalt(),
          monotonicMs: timing.nowMs,
          onPeerTime: (nodeId, unixMs) => onPeerTime(nodeId, unixMs, address),
          treeFor: (features) => compared.treeFor(features),
          differences: compared,
          send,
          onResumable,
          onEnd: end,
        }),
      onEnd: (result) => {
        this.conversations.delete(conversation);
        compared.end(result.ok);
        const { peerNodeId, entriesPostponed, postponedMs } = result;
        if (entriesPostponed > 0) this.options.onPostponed(peerNodeId, postponedMs);
        onEnd(result);
      },
      onBug,
    });
    this.conversations.add(conversation);
    return conversation;
  }

  private newSalt(): Salt {
    const [high, low] = this.options.randomWords(2);
    return { high, low };
  }
}

/** What a traced session is made with. */
function tracing(trace: SessionTrace | null): Pick<SyncSessionOptions, "trace" | "onRound"> {
  if (trace === null) return {};
  return { trace: trace.told, onRound: (counts) => trace.noteRound(counts) };
}

/** Does what follows the end of a session, as a part of its trace if it has one. */
function traced(trace: SessionTrace | null, ending: TracedEnding, then: () => void): void {
  if (trace === null) then();
  else trace.end(ending, then);
}

/** What a session came to. */
export function yieldOf({ entriesSent, entriesApplied }: SyncResult): SessionYield {
  return { hasMoved: entriesSent + entriesApplied > 0, hasLearned: entriesApplied > 0 };
}

/** What came of a session that this node began. */
function outcomeOf(result: SyncResult, sealed: SealedLink | null): SessionOutcome {
  if (sealed === null) return { ...result, ...yieldOf(result) };
  const outcome = { ...withSealing(result, sealed), ...yieldOf(result) };
  // Nobody who has the secret was met, so it may be that another answers at that address.
  const isReached = result.peerNodeId !== "" || sealed.problem === null;
  return isReached ? outcome : { ...outcome, failure: "unreachable", reason: sealed.problem! };
}

/** A result with what sealing added to the bytes. */
function withSealing(result: SyncResult, link: SealedLink): SyncResult {
  const bytesSent = result.bytesSent + link.sealingSent;
  return { ...result, bytesSent, bytesReceived: result.bytesReceived + link.sealingReceived };
}

function failed(failure: SessionOutcome["failure"], reason: string): SessionOutcome {
  return {
    ok: false,
    failure,
    reason,
    peerNodeId: "",
    rootsEqual: null,
    hasSetAside: false,
    hasMoved: false,
    hasLearned: false,
  };
}
