/** A collector of traces for tests: takes OTLP over HTTP, as JSON, and keeps what came. */
import { eventually } from "./eventually.ts";

/** A span that came. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for the first of a trace. */
  readonly parentSpanId: string;
  readonly name: string;
  /** As OTLP numbers them: 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
  readonly kind: number;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly hasFailed: boolean;
  readonly traceState: string;
  /** `service.instance.id`: the node that made it. */
  readonly node: string;
  /** From beginning to end, in ns of Unix time. */
  readonly from: bigint;
  readonly to: bigint;
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** See the file header. */
export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = [];
  /** Headers and paths of the requests that came. */
  readonly requests: { readonly path: string; readonly headers: Headers }[] = [];
  /** What is answered; by default that all is well. */
  answer: () => Response | Promise<Response> = () => Response.json({});
  private readonly server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => this.take(request),
  });

  /** For `tracing.endpoint`. */
  get url(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  /** The spans of a trace, once as many have come as are wanted. */
  async trace(traceId: string, count: number): Promise<ReceivedSpan[]> {
    const found = (): ReceivedSpan[] => this.spans.filter((span) => span.traceId === traceId);
    const problem = (): string => `${count} spans of ${traceId}`;
    await eventually(problem(), () => found().length >= count);
    return found();
  }

  /** Takes no more. */
  async stop(): Promise<void> {
    await this.server.stop(true);
  }

  private async take(request: Request): Promise<Response> {
    this.requests.push({ path: new URL(request.url).pathname, headers: request.headers });
    const body = (await request.json()) as { resourceSpans: Record<string, any>[] };
    const response = await this.answer();
    if (!response.ok) return response;
    for (const { resource, scopeSpans } of body.resourceSpans) {
      const node = String(factsOf(resource.attributes)["service.instance.id"]);
      for (const scope of scopeSpans) {
        for (const span of scope.spans) this.spans.push({ ...spanOf(span), node });
      }
    }
    return response;
  }
}

function spanOf(span: Record<string, any>): Omit<ReceivedSpan, "node"> {
  const { traceId, spanId, parentSpanId = "", name, kind, attributes, status } = span;
  return {
    ...{ traceId, spanId, parentSpanId, name, kind },
    facts: factsOf(attributes),
    hasFailed: status.code === 2,
    traceState: span["traceState"] ?? "",
    from: BigInt(span["startTimeUnixNano"]),
    to: BigInt(span["endTimeUnixNano"]),
  };
}

function factsOf(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
