/**
 * The trace of one session: a span from its beginning to its end, and in it one for the way to the
 * peer and one for each round, that is from when the word goes to the peer until it is back. The
 * peer's part is a span that belongs to it: its HELLO says to which.
 */
import type { SyncCounts } from "../core/sync/result.ts";
import { decodeContext, encodeContext, type TraceContext } from "../trace-context.ts";
import { inTrace, type Span, type SpanFacts, type Tracer } from "../tracer.ts";

/** How a session ended. */
export interface TracedEnding {
  readonly ok: boolean;
  readonly reason: string;
  readonly peerNodeId: string;
  readonly entriesSent?: number;
  readonly entriesReceived?: number;
  readonly bytesSent?: number;
  readonly bytesReceived?: number;
}

/** One side's part of it. */
export class SessionTrace {
  /** The way to the peer, then one round after the other. */
  private part: Span | null = null;
  private rounds = 0;
  private sent = 0;
  private received = 0;

  private constructor(
    private readonly tracer: Tracer,
    private readonly span: Span,
  ) {}

  /** Of a session that this node begins, towards that address. */
  static call(
    tracer: Tracer,
    parent: TraceContext | null,
    mode: string,
    address: string,
  ): SessionTrace {
    const facts = { "merklekv.sync.mode": mode, "server.address": address };
    const trace = new SessionTrace(tracer, tracer.begin("sync", "client", parent, facts));
    trace.part = tracer.begin("reach", "internal", trace.span.context);
    return trace;
  }

  /** Of one that a peer began; null unless its HELLO says that it is traced there. */
  static answer(tracer: Tracer, told: Uint8Array, address: string): SessionTrace | null {
    const parent = tracer.isOn ? decodeContext(told) : null;
    if (parent?.isSampled !== true) return null;
    const facts = { "network.peer.address": address };
    return new SessionTrace(tracer, tracer.begin("serve sync", "server", parent, facts));
  }

  /** What the peer is told, for its part. */
  get told(): Uint8Array {
    return encodeContext(this.span.context);
  }

  /** The peer is reached: the first round begins. */
  noteReached(): void {
    this.part?.end();
    this.beginRound();
  }

  /** The word is back. */
  noteRound(counts: Pick<SyncCounts, "entriesSent" | "entriesReceived">): void {
    if (this.part === null) return;
    this.endRound(counts.entriesSent, counts.entriesReceived);
    this.beginRound();
  }

  /** It is over. `then` is done as a part of the trace. */
  end(ending: TracedEnding, then: () => void): void {
    const { ok, reason, peerNodeId, entriesSent = 0, entriesReceived = 0 } = ending;
    const { bytesSent = 0, bytesReceived = 0 } = ending;
    if (this.rounds > 0) this.endRound(entriesSent, entriesReceived);
    else this.part?.end({}, reason || undefined);
    this.part = null;
    const facts: SpanFacts = {
      "merklekv.peer": peerNodeId,
      "merklekv.sync.entries_sent": entriesSent,
      "merklekv.sync.entries_received": entriesReceived,
      "merklekv.sync.bytes_sent": bytesSent,
      "merklekv.sync.bytes_received": bytesReceived,
    };
    this.span.end(facts, ok ? undefined : reason);
    inTrace(this.span.context, then);
  }

  private beginRound(): void {
    this.rounds++;
    this.part = this.tracer.begin("round", "internal", this.span.context, {
      "merklekv.sync.round": this.rounds,
    });
  }

  private endRound(entriesSent: number, entriesReceived: number): void {
    this.part?.end({
      "merklekv.sync.entries_sent": entriesSent - this.sent,
      "merklekv.sync.entries_received": entriesReceived - this.received,
    });
    this.sent = entriesSent;
    this.received = entriesReceived;
  }
}
