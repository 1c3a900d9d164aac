/**
 * The HTTP port. For whoever watches a node: `/metrics` for Prometheus, `/healthz` and `/readyz`
 * for whatever starts and stops nodes, `/version`. For programs: the API below `/v1/`. It serves
 * from before the data is back from disk, so that a long recovery looks like one and not like a
 * dead node.
 */
import { isIP } from "node:net";
import { formatHostPort, isLoopbackHost } from "../config/address.ts";
import { OperationalError } from "../operational-error.ts";
import { TLS_TERMS } from "../security/tls-material.ts";
import type { Timing } from "../timing.ts";
import { ClientGone } from "../ports.ts";
import { AnswerTurns } from "./answer-turns.ts";
import type { Caller, HttpRequest } from "./http-connection.ts";
import { HttpListener, type HttpListenerTls } from "./http-listener.ts";
import { BodyProblem } from "./request-body.ts";
import { consoleFile } from "./console.ts";
import { CONTENT_TYPES, MetricsText, type MetricsFormat, type MetricsSource } from "./metrics.ts";
import { Places, type Place } from "./places.ts";

/** Something that a node must be to serve well. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Why, or how it stands. */
  readonly reason: string;
  /** How far it is, of what takes long. */
  readonly progress?: Readonly<Record<string, number>>;
}

/** What a port tells of. */
export interface HttpPortSource {
  readonly version: string;
  readonly nodeId: string;
  /** Null while there is nothing to measure yet. Of a node it is always the same one. */
  metrics(): MetricsSource | null;
  readiness(): readonly Check[];
  /** What time it is, in Unix ms; null while this node knows that its clock is wrong. */
  wallMs(): number | null;
  /**
   * Whether that client may read what is said of the node. `credentials` are those of HTTP's Basic
   * scheme, if there are any.
   */
  mayRead(caller: Caller, credentials: Credentials | null): Promise<boolean>;
  /** Whether this port may be called that by whoever reads what is said of the node. */
  admitsName(name: string): boolean;
  /**
   * Answers a request below `/v1/`; null when that is not served. The place that it took is left
   * when the answer is there, unless somebody waits for the client to read it.
   */
  readonly api: ((request: ApiRequest) => Promise<Response>) | null;
  /** Longest body of a request, in bytes. */
  readonly maxBodyBytes: number;
  /** Logs an error that should never have happened. */
  reportBug(error: unknown): void;
}

/** A request below `/v1/`. */
export interface ApiRequest {
  readonly request: HttpRequest;
  readonly caller: Caller;
  readonly credentials: Credentials | null;
  /** Takes the place that is needed to read the body and to answer; null when there is none. */
  readonly enter: () => Place | null;
  /** Those of all requests of the port. */
  readonly turns: AnswerTurns;
}

/** A name and its password. */
export interface Credentials {
  readonly name: string;
  readonly password: Uint8Array;
}

/** What TLS is spoken with; null for plain text. */
export type HttpTls = {
  /** Certificate, key and authorities in PEM, as they are now. */
  pem(): { readonly cert?: string; readonly key?: string; readonly ca?: string };
  /** Whether clients are asked for a certificate, and whether they need one. */
  readonly clientCertificates: () => "none" | "request" | "require";
} | null;

const PATHS = "/metrics, /healthz, /readyz, /version and /v1/";
const API = "/v1/";
/** Requests to the API that may be answered at a time, and what they may hold together. */
const MOST_AT_ONCE = 64;
const LEAST_BUDGET_BYTES = 32 * 1024 * 1024;
/** Of requests that wait for others of their connection. */
const MOST_AHEAD_BYTES = 16 * 1024 * 1024;

/** A port that is open until it is stopped. */
export class HttpPort {
  readonly listener: HttpListener;
  private readonly places: Places;
  private readonly turns: AnswerTurns;
  /** Of the source that was told of last. */
  private readonly texts: Partial<Record<MetricsFormat, MetricsText>> = {};

  /** Opens it. Throws an OperationalError when that is not possible. */
  constructor(
    private readonly source: HttpPortSource,
    timing: Timing,
    readonly host: string,
    port: number,
    mostConnections: number,
    private readonly tls: HttpTls = null,
  ) {
    const budgetBytes = Math.max(2 * source.maxBodyBytes, LEAST_BUDGET_BYTES);
    this.places = new Places(MOST_AT_ONCE, budgetBytes);
    this.turns = new AnswerTurns(timing);
    const options = {
      host,
      timing,
      mostConnections,
      mostAheadBytes: MOST_AHEAD_BYTES,
      wallMs: () => source.wallMs(),
      tls: () => tls && tlsOptions(tls),
      answer: (request: HttpRequest, caller: Caller) => this.answerSafely(request, caller),
      onBug: (error: unknown) => source.reportBug(error),
    };
    this.listener = this.explained(port, () => new HttpListener(options, port));
  }

  private explained<T>(port: number, open: () => T): T {
    try {
      return open();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const address = formatHostPort(this.host, port);
      throw new OperationalError(
        `cannot serve HTTP on ${address}: ${reason}; choose another http.bind_port`,
        { cause: error },
      );
    }
  }

  /** Where it listens. */
  get port(): number {
    return this.listener.port;
  }

  /**
   * Other certificates are in use: from now on they are shown. The port closes and opens for it, in
   * one turn of the event loop; who is connected stays. Throws an OperationalError when that is not
   * possible.
   */
  noteCertificates(): void {
    if (this.tls !== null) this.explained(this.port, () => this.listener.reopen());
  }

  /** Closes it, and what is open. */
  stop(): void {
    this.listener.stop();
  }

  private async answerSafely(request: HttpRequest, caller: Caller): Promise<Response> {
    try {
      return await this.answer(request, caller);
    } catch (error) {
      if (error instanceof BodyProblem) return text(error.message, error.status);
      if (error instanceof ClientGone) return text(error.message, 503);
      this.source.reportBug(error);
      return text("Internal error; see the node's log", 500);
    }
  }

  private async answer(request: HttpRequest, caller: Caller): Promise<Response> {
    await this.turns.enter(request.signal);
    const { url } = request;
    if (this.isMisnamed(url)) return text("This port is not called that", 403);
    if (isFromAnotherSite(request)) return text("A page of another site may not ask here", 403);
    const { api } = this.source;
    const { pathname } = url;
    const isApi = api !== null && pathname.startsWith(API);
    const page = api !== null && request.method === "GET" ? consoleFile(pathname) : null;
    if (page !== null) return withSafety(page);
    const response = isApi
      ? await this.callApi(api, request, caller)
      : await this.tell(request, caller);
    return withSafety(request.method === "HEAD" ? withoutBody(response) : response);
  }

  /** As many at a time as memory is meant for; a client that is told "later" tries again. */
  private async callApi(
    api: NonNullable<HttpPortSource["api"]>,
    request: HttpRequest,
    caller: Caller,
  ): Promise<Response> {
    const { maxBodyBytes } = this.source;
    const { bodyBytes } = request;
    let place = null as Place | null;
    const enter = (): Place | null => {
      // What is too long will be refused before it is taken.
      place = this.places.take(Math.min(bodyBytes ?? maxBodyBytes, maxBodyBytes));
      return place;
    };
    try {
      const credentials = credentialsOf(request);
      const response = await api({ request, caller, credentials, enter, turns: this.turns });
      // The console asks for name and password itself; a browser would, too.
      const mode = request.headers.get("sec-fetch-mode");
      if (mode !== null && mode !== "navigate") response.headers.delete("www-authenticate");
      return response;
    } finally {
      // If it waits, the answer is being read, and the place is left when that is over.
      if (place !== null && !place.isWaiting) place.leave();
    }
  }

  private async tell(request: HttpRequest, caller: Caller): Promise<Response> {
    if (request.method === "GET" || request.method === "HEAD") {
      return this.respond(request, caller);
    }
    const refusal = text("Only GET and HEAD are served here", 405);
    refusal.headers.set("allow", "GET, HEAD");
    return refusal;
  }

  /**
   * Whether a port for this machine alone is called by the name of another: so it is by a web page
   * whose name was made to lead here, which would read what it is told.
   */
  private isMisnamed(url: URL): boolean {
    return isLoopbackHost(this.host) && nameOf(url) !== null;
  }

  private async respond(request: HttpRequest, caller: Caller): Promise<Response> {
    const { source } = this;
    const { url } = request;
    const { pathname } = url;
    // Whatever starts and stops nodes has no password, and learns no more than that.
    if (pathname === "/healthz") return text("ok", 200);
    const isFree = pathname === "/readyz";
    const name = nameOf(url);
    if (!isFree && name !== null && !source.admitsName(name)) {
      return text(`There are no users, and ${name} is not among http.host_names`, 403);
    }
    if (!isFree && !(await source.mayRead(caller, credentialsOf(request)))) return refused();
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

  private async metrics(request: HttpRequest): Promise<Response> {
    const source = this.source.metrics();
    if (source === null) return text("The data is not back from disk yet; see /readyz", 503);
    const accepted = request.headers.get("accept") ?? "";
    const isOpen = accepted.includes("application/openmetrics-text");
    const format: MetricsFormat = isOpen ? "openmetrics" : "prometheus";
    let metrics = this.texts[format];
    if (metrics?.source !== source) metrics = new MetricsText(source, format);
    this.texts[format] = metrics;
    const pause = (): Promise<void> | null => (this.turns.isOver ? this.turns.enter(null) : null);
    const body = await metrics.text(pause);
    return new Response(body, { headers: { "content-type": CONTENT_TYPES[format] } });
  }
}

/** As on the client port: who shows a certificate that is not good is refused by the listener. */
function tlsOptions({ pem, clientCertificates }: NonNullable<HttpTls>): HttpListenerTls {
  const { ciphers } = TLS_TERMS;
  const asked = clientCertificates();
  const requestCert = asked !== "none";
  const needsCertificate = asked === "require";
  const more = { ciphers, minVersion: TLS_1_2, requestCert, rejectUnauthorized: needsCertificate };
  return { options: { ...pem(), ...more }, requestCert, needsCertificate };
}

/** As it stands in a handshake, which is how this runtime has it. */
const TLS_1_2 = 0x0303;

/** The name a request calls this port by; null for an address, or a name of this machine alone. */
export function nameOf({ hostname }: URL): string | null {
  const name = hostname.replace(/^\[(.*)\]$/, "$1");
  return isIP(name) !== 0 || isLoopbackHost(name) ? null : name;
}

/**
 * Whether a browser says that a page from elsewhere asks. It sends along what the person at it has
 * logged in with, so whoever made that page must not be answered.
 */
function isFromAnotherSite({ headers }: HttpRequest): boolean {
  const site = headers.get("sec-fetch-site");
  if (site !== null && site !== "same-origin" && site !== "none") return true;
  const origin = headers.get("origin");
  if (origin === null) return false;
  return !URL.canParse(origin) || new URL(origin).host !== headers.get("host");
}

/** The credentials in a request, by RFC 7617; null for none. */
function credentialsOf(request: HttpRequest): Credentials | null {
  const [scheme, encoded = ""] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme.toLowerCase() !== "basic") return null;
  const pair = Buffer.from(encoded, "base64");
  const colon = pair.indexOf(":");
  if (colon < 0) return null;
  return { name: pair.toString("utf8", 0, colon), password: pair.subarray(colon + 1) };
}

/** As HEAD is answered. */
function withoutBody(response: Response): Response {
  void response.body?.cancel();
  return new Response(null, response);
}

/** Nothing here is to be guessed at or kept by a browser. */
function withSafety(response: Response): Response {
  response.headers.set("x-content-type-options", "nosniff");
  response.headers.set("referrer-policy", "no-referrer");
  response.headers.set("cache-control", "no-store");
  return response;
}

function refused(): Response {
  const response = text("A user who may say INFO is needed, with its password", 401);
  response.headers.set("www-authenticate", 'Basic realm="MerkleKV", charset="UTF-8"');
  return response;
}

function text(body: string, status: number): Response {
  return new Response(`${body}\n`, { status });
}
