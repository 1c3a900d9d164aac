/**
 * What the parts of a node tell of what they do, for traces: spans, each with a beginning, an end
 * and one before it that it belongs to. Where they go is `node-tracing.ts`; without that, nobody
 * listens, and nothing is made.
 */
import type { ChangeObserver } from "./core/store/outcome.ts";
import type { TraceContext } from "./trace-context.ts";

/** What a span is: a part of what a node does; an answer, a request; a message sent, or taken. */
export type SpanKind = "internal" | "server" | "client" | "producer" | "consumer";

/** Small facts of a span. Neither keys nor values of the store are among them. */
export type SpanFacts = Readonly<Record<string, string | number | boolean>>;

/** Something that takes time, from `Tracer.begin` to its `end`. */
export interface Span {
  /** What belongs to it is begun with this. */
  readonly context: TraceContext;
  /** It is over; with a `failure`, it did not succeed, and that says why. Called once. */
  end(facts?: SpanFacts, failure?: string): void;
}

/** Takes spans. */
export interface Tracer {
  /** Whether anybody wants them; only then is anything begun. */
  readonly isOn: boolean;
  /** The part of what could be traced that is: from 0 to 1. */
  readonly ratio: number;
  /** Begins a span that belongs to `parent`; null: a trace of its own. */
  begin(name: string, kind: SpanKind, parent: TraceContext | null, facts?: SpanFacts): Span;
}

/** Takes none. */
export const noTracer: Tracer = {
  isOn: false,
  ratio: 0,
  begin() {
    throw new Error("nobody wants spans");
  },
};

/** Writes of a command that is traced, noted while it runs as an observer of the store. */
export interface TracedWrites extends ChangeObserver {
  /** Of the command that runs. */
  context: TraceContext | null;
}

/**
 * What is traced just now, from one turn of the event loop to its end at most: the log puts its
 * `trace_id` into lines. One for all, as only one thing is done at a time.
 */
let active: TraceContext | null = null;

/** See above; null when nothing is. */
export function activeTrace(): TraceContext | null {
  return active;
}

/** Does something, which is a part of that trace until it returns. */
export function inTrace<T>(context: TraceContext | null, work: () => T): T {
  const outer = active;
  active = context;
  try {
    return work();
  } finally {
    active = outer;
  }
}
