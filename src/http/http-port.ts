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
  /**
   * Whether who comes from that address, `host:port`, may read what is said of the node.
   * `credentials` are those of HTTP's Basic scheme, if there are any.
   */
  mayRead(address: string, credentials: Credentials | null): Promise<boolean>;
}

/** A name and its password. */
export interface Credentials {
  readonly name: string;
  readonly password: Uint8Array;
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
        fetch: (request, server) => {
          const from = server.requestIP(request);
          return this.answer(request, from === null ? "" : formatHostPort(from.address, from.port));
        },
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

  private async answer(request: Request, address: string): Promise<Response> {
    const isHead = request.method === "HEAD";
    if (request.method !== "GET" && !isHead) {
      const refusal = text("Only GET and HEAD are served here", 405);
      refusal.headers.set("allow", "GET, HEAD");
      return refusal;
    }
    if (this.isMisnamed(request)) return text("This port is not called that", 403);
    const response = await this.respond(request, address);
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

  private async respond(request: Request, address: string): Promise<Response> {
    const { source } = this;
    const { pathname } = new URL(request.url);
    // Whatever starts and stops nodes has no password, and learns no more than that.
    if (pathname === "/healthz") return text("ok", 200);
    const isFree = pathname === "/readyz";
    if (!isFree && !(await source.mayRead(address, credentialsOf(request)))) return refused();
    switch (pathname) {
      case "/metrics":
        return this.metrics(request);
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

/** The credentials in a request, by RFC 7617; null for none. */
function credentialsOf(request: Request): Credentials | null {
  const [scheme, encoded = ""] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme!.toLowerCase() !== "basic") return null;
  const pair = Buffer.from(encoded, "base64");
  const colon = pair.indexOf(":");
  if (colon < 0) return null;
  return { name: pair.toString("utf8", 0, colon), password: pair.subarray(colon + 1) };
}

function refused(): Response {
  const response = text("A user who may say INFO is needed, with its password", 401);
  response.headers.set("www-authenticate", 'Basic realm="MerkleKV", charset="UTF-8"');
  return response;
}

function text(body: string, status: number): Response {
  return new Response(`${body}\n`, { status });
}
