/**
 * The HTTP port, for whoever watches a node: `/metrics` for Prometheus, `/healthz` and `/readyz`
 * for whatever starts and stops nodes, `/version`. It only reads. It serves from before the data
 * is back from disk, so that a long recovery looks like one and not like a dead node.
 */
import { isIP } from "node:net";
import { formatHostPort, isLoopbackHost } from "../config/address.ts";
import { OperationalError } from "../operational-error.ts";
import { CONTENT_TYPES, metricsText, type MetricsFormat, type MetricsSource } from "./metrics.ts";

/** Something that a node must be to serve well. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Why, or how it stands. */
  readonly reason: string;
}

/** What a port tells of. */
export interface HttpPortSource {
  readonly version: string;
  readonly nodeId: string;
  /** Null while there is nothing to measure yet. */
  metrics(): MetricsSource | null;
  readiness(): readonly Check[];
}

/** Certificate and key in PEM; null for plain text. */
export type HttpTls = { readonly cert: string; readonly key: string } | null;

const IDLE_SECONDS = 30;
const MAX_BODY_BYTES = 1_024;
const PATHS = "/metrics, /healthz, /readyz and /version";

/** A port that is open until it is stopped. */
export class HttpPort {
  private readonly server: Bun.Server<undefined>;

  /** Opens it. Throws an OperationalError when that is not possible. */
  constructor(
    private readonly source: HttpPortSource,
    readonly host: string,
    port: number,
    tls: HttpTls = null,
  ) {
    try {
      this.server = Bun.serve({
        hostname: host,
        port,
        // Outside of development the default is to share the port with whoever has it already.
        development: false,
        reusePort: false,
        idleTimeout: IDLE_SECONDS,
        maxRequestBodySize: MAX_BODY_BYTES,
        ...(tls !== null && { tls }),
        fetch: (request) => this.answer(request),
        error: () => text("Internal error", 500),
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const address = formatHostPort(host, port);
      throw new OperationalError(
        `cannot serve HTTP on ${address}: ${reason}; choose another http.bind_port`,
        { cause: error },
      );
    }
  }

  /** Where it listens. */
  get port(): number {
    return this.server.port ?? 0;
  }

  /** Closes it, and what is open. */
  async stop(): Promise<void> {
    await this.server.stop(true);
  }

  private answer(request: Request): Response {
    const isHead = request.method === "HEAD";
    if (request.method !== "GET" && !isHead) {
      const refusal = text("Only GET and HEAD are served here", 405);
      refusal.headers.set("allow", "GET, HEAD");
      return refusal;
    }
    if (this.isMisnamed(request)) return text("This port is not called that", 403);
    const response = this.respond(request);
    response.headers.set("x-content-type-options", "nosniff");
    response.headers.set("cache-control", "no-store");
    return isHead ? new Response(null, response) : response;
  }

  /**
   * Whether a port for this machine alone is called by the name of another: so it is by a web page
   * whose name was made to lead here, which would read what it is told.
   */
  private isMisnamed(request: Request): boolean {
    const { hostname } = new URL(request.url);
    const name = hostname.replace(/^\[(.*)\]$/, "$1");
    return isLoopbackHost(this.host) && isIP(name) === 0 && !isLoopbackHost(name);
  }

  private respond(request: Request): Response {
    const { source } = this;
    switch (new URL(request.url).pathname) {
      case "/metrics":
        return this.metrics(request);
      case "/healthz":
        return text("ok", 200);
      case "/readyz": {
        const checks = source.readiness();
        const isReady = checks.every(({ ok }) => ok);
        return Response.json({ ready: isReady, checks }, { status: isReady ? 200 : 503 });
      }
      case "/version":
        return Response.json({ version: source.version, node_id: source.nodeId });
      default:
        return text(`There is nothing here but ${PATHS}`, 404);
    }
  }

  private metrics(request: Request): Response {
    const metrics = this.source.metrics();
    if (metrics === null) return text("The data is not back from disk yet; see /readyz", 503);
    const accepted = request.headers.get("accept") ?? "";
    const isOpen = accepted.includes("application/openmetrics-text");
    const format: MetricsFormat = isOpen ? "openmetrics" : "prometheus";
    return new Response(metricsText(metrics, format), {
      headers: { "content-type": CONTENT_TYPES[format] },
    });
  }
}

function text(body: string, status: number): Response {
  return new Response(`${body}\n`, { status });
}
