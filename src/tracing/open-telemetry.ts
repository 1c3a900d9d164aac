/**
 * Spans in the hands of the OpenTelemetry packages, which bring them to a collector by OTLP over
 * HTTP. The only file that imports them, and loaded only when there is somewhere to bring spans:
 * they take 15 MB of memory.
 *
 * Nothing waits for the collector. Spans wait for it, up to a bound, and those beyond are dropped
 * and counted, as are those that it did not take. A few are sent at a time, because making the
 * message holds up everything else.
 */
import {
  createTraceState,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Context,
  type Span as RecordedSpan,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  TracerProvider,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from "@opentelemetry/sdk-trace";
import type { Cancel, Timing } from "../timing.ts";
import type { TraceContext } from "../trace-context.ts";
import type { Span, SpanFacts, SpanKind as Kind } from "../tracer.ts";

/** Most spans that wait for the collector. */
const MAX_WAITING = 2_048;
/** Most spans in a message: one or two milliseconds' work. */
const MESSAGE_SPANS = 256;
/**
 * A span waits so long for others, in ms: a message takes some milliseconds of processor time,
 * however few are in it. The first after as long a quiet waits only a moment, for somebody who
 * tries something out.
 */
const DELAY_MS = 5_000;
const MOMENT_MS = 200;
/** How long the collector may take for a message, repetitions included, in ms. */
const TIMEOUT_MS = 5_000;
/** Longest text among the facts of a span, in UTF-16 units. */
const MAX_FACT_LENGTH = 256;

/** Where spans go, and what is told of it. */
export interface ExportOptions {
  /** A URL of a collector, such as `http://127.0.0.1:4318/v1/traces`. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Facts of the node, by the names of the semantic conventions. */
  readonly resource: SpanFacts;
  readonly version: string;
  /** So many spans have reached the collector. */
  readonly onExported: (spans: number) => void;
  /** So many spans were dropped, for that reason. */
  readonly onDropped: (spans: number, reason: string) => void;
  readonly timing: Timing;
}

/** Spans on their way to one collector. */
export interface SpanExport {
  /** Null when too many wait: then it is dropped, and costs no more than that. */
  begin(
    name: string,
    kind: Kind,
    parent: TraceContext | null,
    facts: SpanFacts | undefined,
  ): Span | null;
  /** Sends what waits, which may take as long as the collector may, and takes no more. */
  stop(): Promise<void>;
}

/** Begins to export. Connects with the first spans. */
export function startExport(options: ExportOptions): SpanExport {
  const { version, resource } = options;
  const waiting = new WaitingSpans(options);
  const provider = new TracerProvider({
    resource: resourceFromAttributes(resource),
    // Whoever begins a span has decided.
    sampler: new AlwaysOnSampler(),
    spanLimits: { attributeValueLengthLimit: MAX_FACT_LENGTH },
    spanProcessors: [waiting],
  });
  const tracer = provider.getTracer("merklekv", version);
  return {
    begin(name, kind, parent, attributes = {}) {
      if (!waiting.hasRoom()) return null;
      const context = parent === null ? ROOT_CONTEXT : within(parent, REMOTE.has(kind));
      return spanOf(tracer.startSpan(name, { kind: KINDS[kind], attributes }, context), parent);
    },
    // What it rejects with was told as dropped.
    stop: () => provider.shutdown().catch(() => {}),
  };
}

/** What became of a message. */
type Answer = Parameters<Parameters<SpanExporter["export"]>[1]>[0];
const SUCCESS = 0;

/** Spans that wait for the collector: the packages' queue, with what becomes of each counted. */
class WaitingSpans implements SpanProcessor {
  private count = 0;
  private sentMs = -Infinity;
  private cancelMoment: Cancel | null = null;
  private readonly queue: BatchSpanProcessor;

  constructor(private readonly options: ExportOptions) {
    const { url, headers } = options;
    const sender = new OTLPTraceExporter({
      url,
      headers: { ...headers },
      timeoutMillis: TIMEOUT_MS,
    });
    const exporter: SpanExporter = {
      export: (spans, done) => {
        this.sentMs = options.timing.nowMs();
        sender.export(spans, (result) => {
          this.noteAnswer(spans.length, result);
          done(result);
        });
      },
      shutdown: () => sender.shutdown(),
    };
    this.queue = new BatchSpanProcessor({
      exporter,
      maxQueueSize: MAX_WAITING,
      maxExportBatchSize: MESSAGE_SPANS,
      scheduledDelayMillis: DELAY_MS,
      exportTimeoutMillis: 2 * TIMEOUT_MS,
    });
  }

  onStart(): void {}

  /** Whether another may wait; if not, one is counted as dropped. */
  hasRoom(): boolean {
    if (this.count < MAX_WAITING) return true;
    this.options.onDropped(1, "the collector takes them too slowly");
    return false;
  }

  onEnd(span: ReadableSpan): void {
    const { timing } = this.options;
    if (!this.hasRoom()) return;
    this.count++;
    this.queue.onEnd(span);
    if (this.cancelMoment !== null || timing.nowMs() - this.sentMs < DELAY_MS) return;
    this.cancelMoment = timing.after(MOMENT_MS, () => {
      this.cancelMoment = null;
      void this.forceFlush();
    });
  }

  // What the queue rejects with was told as dropped.
  forceFlush(): Promise<void> {
    return this.queue.forceFlush().catch(() => {});
  }

  shutdown(): Promise<void> {
    this.cancelMoment?.();
    return this.queue.shutdown();
  }

  private noteAnswer(spans: number, { code, error }: Answer): void {
    const { onExported, onDropped } = this.options;
    this.count -= spans;
    if (code === SUCCESS) onExported(spans);
    else onDropped(spans, error?.message || "the collector did not take them");
  }
}

function within({ traceId, spanId, state }: TraceContext, isRemote: boolean): Context {
  const traceFlags = TraceFlags.SAMPLED;
  const common = { traceId, spanId, traceFlags, isRemote };
  const context = state === "" ? common : { ...common, traceState: createTraceState(state) };
  return trace.setSpanContext(ROOT_CONTEXT, context);
}

function spanOf(span: RecordedSpan, parent: TraceContext | null): Span {
  const { traceId, spanId } = span.spanContext();
  return {
    context: { traceId, spanId, isSampled: true, state: parent?.state ?? "" },
    end(facts, failure) {
      if (facts !== undefined) span.setAttributes(facts);
      if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
      span.end();
    },
  };
}

/** What these belong to is somebody else's. */
const REMOTE: ReadonlySet<Kind> = new Set(["server", "consumer"]);

const KINDS: Readonly<Record<Kind, SpanKind>> = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
};
