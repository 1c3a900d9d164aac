/** A tracer that keeps what it is told. */
import type { TraceContext } from "../../src/trace-context.ts";
import type { Span, SpanFacts, SpanKind, Tracer } from "../../src/tracer.ts";

/** A span as it was told. */
export interface RecordedSpan {
  readonly name: string;
  readonly kind: SpanKind;
  readonly parent: TraceContext | null;
  readonly context: TraceContext;
  isEnded: boolean;
  failure: string | undefined;
}

/** See the file header. */
export class RecordingTracer implements Tracer {
  isOn = true;
  readonly spans: RecordedSpan[] = [];

  constructor(public ratio = 0) {}

  begin(name: string, kind: SpanKind, parent: TraceContext | null): Span {
    const spanId = (this.spans.length + 1).toString(16).padStart(16, "0");
    const { traceId, state } = parent ?? { traceId: `f${spanId.padStart(31, "0")}`, state: "" };
    const context = { traceId, spanId, isSampled: true, state };
    const span: RecordedSpan = {
      ...{ name, kind, parent, context },
      isEnded: false,
      failure: undefined,
    };
    this.spans.push(span);
    return {
      context,
      end(_facts?: SpanFacts, failure?: string) {
        if (span.isEnded) throw new Error(`${name} has ended already`);
        span.isEnded = true;
        span.failure = failure;
      },
    };
  }

  /** `name < name of what it belongs to`, in the order in which they began. */
  get shape(): string[] {
    const nameOf = (parent: TraceContext | null): string =>
      this.spans.find(({ context }) => context === parent)?.name ?? "";
    return this.spans.map(({ name, parent }) => `${name} < ${nameOf(parent)}`);
  }
}
