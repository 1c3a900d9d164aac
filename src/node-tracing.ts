/**
 * The traces of a node: whether there are any, by its settings, and what became of them. What makes
 * and exports them is loaded when there is somewhere to send them, and not before.
 */
import type { Change, Commit } from "./config/live-config.ts";
import type { Config } from "./config/schema.ts";
import { counter, flag, type Fact } from "./fact.ts";
import type { Logger } from "./observability/log.ts";
import type { Timing } from "./timing.ts";
import type { TraceContext } from "./trace-context.ts";
import type { Span, SpanFacts, SpanKind, Tracer } from "./tracer.ts";
import type { SpanExport } from "./tracing/open-telemetry.ts";
import { version } from "./version.ts";

/** How often the log says that spans do not arrive, in ms. */
const TELL_MS = 60_000;
/** How long a node that stops gives the collector for the last spans, in ms. */
const GOODBYE_MS = 500;
const DEFAULT_PATH = "/v1/traces";

/** See the file header. */
export class NodeTracing implements Tracer {
  isOn = false;
  ratio = 0;
  /** The ratio may be another, and so may be whether anything is traced. */
  onChange = (): void => {};
  private spanExport: SpanExport | null = null;
  private exported = 0;
  private dropped = 0;
  private toldMs = -Infinity;
  /** It was told that spans do not arrive. */
  private isTold = false;

  /** For INFO. */
  static readonly facts: readonly Fact<NodeTracing>[] = [
    flag("tracing_enabled", "Whether traces are made and sent to a collector.", (it) => it.isOn),
    counter(
      "trace_spans_exported",
      "spans",
      "Spans that the collector of `tracing.endpoint` has taken.",
      (it) => it.exported,
    ),
    counter(
      "trace_spans_dropped",
      "spans",
      "Spans that it did not take, or that it took too slowly; nothing waits for it.",
      (it) => it.dropped,
    ),
  ];

  private constructor(
    private readonly config: Config,
    private readonly logger: Logger,
    private readonly timing: Timing,
  ) {}

  /** As the settings have it now. */
  static async open(config: Config, logger: Logger, timing: Timing): Promise<NodeTracing> {
    const tracing = new NodeTracing(config, logger, timing);
    tracing.use(await tracing.load(config.tracing), config.tracing);
    return tracing;
  }

  /** Another collector, from the moment on when the settings are others. */
  async prepare({ next, changed }: Change): Promise<Commit | void> {
    const keys = ["tracing.endpoint", "tracing.headers", "tracing.sample_ratio"] as const;
    if (!keys.some((key) => changed.has(key))) return;
    const isElsewhere = changed.has("tracing.endpoint") || changed.has("tracing.headers");
    const former = this.spanExport;
    const spanExport = isElsewhere ? await this.load(next.tracing) : former;
    return {
      apply: () => {
        this.use(spanExport, next.tracing);
        if (former !== spanExport) void former?.stop();
      },
      abandon: () => {
        if (former !== spanExport) void spanExport?.stop();
      },
    };
  }

  begin(name: string, kind: SpanKind, parent: TraceContext | null, facts?: SpanFacts): Span {
    // None when too many wait; and what was under way when tracing was turned off may still ask.
    return this.spanExport?.begin(name, kind, parent, facts) ?? new UnwantedSpan(parent);
  }

  /** Sends the last spans, as far as the collector is quick. */
  async stop(): Promise<void> {
    const { spanExport } = this;
    this.use(null, this.config.tracing);
    if (spanExport === null) return;
    const late = Promise.withResolvers<void>();
    const cancel = this.timing.after(GOODBYE_MS, late.resolve);
    await Promise.race([spanExport.stop(), late.promise]);
    cancel();
  }

  private use(spanExport: SpanExport | null, { sample_ratio }: Config["tracing"]): void {
    this.spanExport = spanExport;
    this.isOn = spanExport !== null;
    this.ratio = sample_ratio;
    this.onChange();
  }

  private async load({ endpoint, headers }: Config["tracing"]): Promise<SpanExport | null> {
    if (endpoint === "") return null;
    const { node_id, cluster, mqtt } = this.config;
    const url = urlOf(endpoint);
    const { startExport } = await import("./tracing/open-telemetry.ts");
    return startExport({
      url,
      headers: Object.fromEntries(headers.map(headerOf)),
      resource: {
        "service.name": "merklekv",
        "service.namespace": cluster.name || mqtt.topic_prefix,
        "service.instance.id": node_id,
        "service.version": version,
      },
      version,
      timing: this.timing,
      onExported: (spans) => this.noteExported(spans, url),
      onDropped: (spans, reason) => this.noteDropped(spans, url, reason),
    });
  }

  private noteExported(spans: number, endpoint: string): void {
    this.exported += spans;
    if (!this.isTold) return;
    this.isTold = false;
    this.toldMs = -Infinity;
    this.logger.info("Traces reach the collector again", { endpoint, dropped: this.dropped });
  }

  private noteDropped(spans: number, endpoint: string, reason: string): void {
    this.dropped += spans;
    const nowMs = this.timing.nowMs();
    if (nowMs - this.toldMs < TELL_MS) return;
    this.toldMs = nowMs;
    this.isTold = true;
    const message = "Traces do not reach the collector, and are dropped";
    this.logger.warn(message, { endpoint, reason, dropped: this.dropped });
  }
}

/** In place of one that nobody takes: what belongs to it belongs to what it would have. */
class UnwantedSpan implements Span {
  readonly context: TraceContext;

  constructor(parent: TraceContext | null) {
    this.context = parent ?? NOWHERE;
  }

  end(): void {}
}

const NOWHERE = { traceId: "0".repeat(32), spanId: "0".repeat(16), isSampled: false, state: "" };

function urlOf(endpoint: string): string {
  const url = new URL(endpoint);
  if (url.pathname === "/") url.pathname = DEFAULT_PATH;
  return url.href;
}

function headerOf(text: string): [string, string] {
  const colon = text.indexOf(":");
  return [text.slice(0, colon), text.slice(colon + 1).trim()];
}
