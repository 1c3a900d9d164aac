/**
 * What the HTTP port of a node tells: the facts as metrics, what it takes to be ready, and, by the
 * API, its keys.
 */
import type { RecoveryProgress } from "./durability/recovery.ts";
import type { UserDirectory } from "./access/directory.ts";
import { isLocal } from "./access/host.ts";
import type { User } from "./access/user.ts";
import { formatHostPort } from "./config/address.ts";
import type { Config } from "./config/schema.ts";
import { seriesWithin, type Series } from "./fact.ts";
import { ApiError, busy, LOGIN } from "./http/api-answers.ts";
import { answerApi, maxBodyBytes } from "./http/api.ts";
import type { NodeView } from "./http/api-node.ts";
import { tracedRequest } from "./http/api-trace.ts";
import {
  HttpPort,
  nameOf,
  type ApiRequest,
  type Check,
  type Credentials,
  type HttpPortSource,
  type HttpTls,
} from "./http/http-port.ts";
import type { Caller, HttpRequest } from "./http/http-connection.ts";
import { HttpListener } from "./http/http-listener.ts";
import { LoopDelay } from "./http/loop-delay.ts";
import type { MetricsSource } from "./http/metrics.ts";
import type { Audit, InnerClient } from "./ports.ts";
import type { Replica } from "./replica.ts";
import type { Timing } from "./timing.ts";
import type { TraceContext } from "./trace-context.ts";
import type { Tracer } from "./tracer.ts";
import { version } from "./version.ts";

const LOOPBACK = "127.0.0.1";

/** As many as may be open, and the share that they have of the files that may be. */
const MAX_CONNECTIONS = 128;
const FILES_SHARE = 1 / 16;
const MIN_CONNECTIONS = 8;

/** How many connections there may be where so many files may be open. */
export function httpConnections(fileLimit: number): number {
  const share = Math.floor(fileLimit * FILES_SHARE);
  return Math.max(MIN_CONNECTIONS, Math.min(MAX_CONNECTIONS, share));
}

/** A node whose data is back from disk. */
export interface ServingNode {
  readonly replica: Replica;
  /** Whether the first sync with the peers is done, or was given up. */
  readonly hasSynced: boolean;
  /** What the API tells of it. */
  readonly view: NodeView;
  /** What only metrics show. */
  series(): readonly Series<void>[];
  /**
   * A client of that user who comes so, and whose commands belong to that trace.
   */
  openClient(user: User, caller: Caller, trace: TraceContext | null): InnerClient;
  readonly tracer: Tracer;
  /** Logs an error that should never have happened. */
  reportBug(error: unknown): void;
}

/** An open port. */
export interface NodeHttp {
  /** Where it listens, `host:port`. */
  readonly address: string;
  /** Other certificates are in use. */
  noteCertificates(): void;
  stop(): void;
}

/** What it is made with. */
export interface NodeHttpOptions {
  readonly config: Config;
  readonly timing: Timing;
  /** Unix time in ms. */
  readonly wallMs: () => number;
  readonly users: UserDirectory;
  readonly audit: Audit;
  /** Null until the data is back from disk. */
  readonly serving: () => ServingNode | null;
  /** How far the data is back from disk; null until that is known, and unless given. */
  readonly recovery?: () => RecoveryProgress | null;
  /** For where `http.tls` asks for it. */
  readonly tls: HttpTls;
  /** Most connections at a time; 128 unless given. */
  readonly maxConnections?: number;
}

/**
 * Opens the port; null when the configuration has none. Throws an OperationalError when the port
 * cannot be opened.
 */
export function openNodeHttp(options: NodeHttpOptions): NodeHttp | null {
  const { config, timing, tls, maxConnections = MAX_CONNECTIONS } = options;
  const { http } = config;
  if (http.bind_address === "" && http.bind_port === 0) return null;
  const loopDelay = new LoopDelay(timing);
  let opened: HttpPort | null = null;
  const series = (): readonly Series<void>[] => [
    ...seriesWithin(() => loopDelay, LoopDelay.series),
    ...seriesWithin(() => opened?.listener ?? null, HttpListener.series),
  ];
  const source = sourceOf(options, series);
  try {
    const host = http.bind_address === "" ? LOOPBACK : http.bind_address;
    const port = new HttpPort(
      source,
      timing,
      host,
      http.bind_port,
      maxConnections,
      http.tls ? tls : null,
    );
    opened = port;
    const stop = (): void => {
      loopDelay.stop();
      port.stop();
    };
    const address = formatHostPort(host, port.port);
    return { address, noteCertificates: () => port.noteCertificates(), stop };
  } catch (error) {
    loopDelay.stop();
    throw error;
  }
}

/** Tells the audit of somebody who was refused. */
type NoteDenied = (event: "denied" | "login_failed", user: string, from: Caller) => void;

/** How requests of the API are answered: whoever asks is logged in first. */
function apiOf(
  options: NodeHttpOptions,
  noteDenied: NoteDenied,
): (request: ApiRequest) => Promise<Response> {
  const { users, serving } = options;
  const { http, network } = options.config;
  return async (asked) => {
    const { request, caller, credentials, enter, turns } = asked;
    const node = serving();
    if (node === null) return notYet().toResponse();
    const user = await userOf(users, caller, credentials);
    if (user === "wrong") noteDenied("login_failed", credentials!.name, caller);
    if (typeof user === "string") return loginRefusal(user).toResponse();
    const refusal = refusalOf(users, user, request, caller.address, http.host_names);
    if (refusal !== null) return refusal.toResponse();
    // Not before: whoever guesses at passwords waits long, and would keep users out meanwhile.
    const place = enter();
    if (place === null) return busy().toResponse();
    return tracedRequest(request, node.tracer, (trace) => {
      const client = node.openClient(user, caller, trace);
      request.signal.addEventListener("abort", () => client.end());
      return answerApi(request, client, {
        place,
        maxValueBytes: network.max_value_bytes,
        bodyTimeoutMs: network.connection_timeout * 1_000,
        version,
        turns,
        node: node.view,
      });
    });
  };
}

/** What the port asks of the node. */
function sourceOf(options: NodeHttpOptions, series: () => readonly Series<void>[]): HttpPortSource {
  const { wallMs, users, audit, serving, recovery = () => null } = options;
  const { http, network, node_id } = options.config;
  const noteDenied: NoteDenied = (event, user, from) => {
    const { address, certificateName: certificate } = from;
    audit.record({ event, user, address, certificate, command: "HTTP", key: null });
  };
  const api = apiOf(options, noteDenied);
  let told: MetricsSource | null = null;
  return {
    get api() {
      return http.api ? api : null;
    },
    maxBodyBytes: maxBodyBytes(network.max_value_bytes),
    reportBug: (error: unknown) => serving()?.reportBug(error),
    version,
    nodeId: node_id,
    metrics() {
      const node = serving();
      if (node === null) return null;
      const sections = node.view.facts();
      if (told?.sections !== sections) told = { sections, series: [...node.series(), ...series()] };
      return told;
    },
    readiness: () => checksOf(serving(), recovery()),
    wallMs: () => (serving()?.replica.clockWatch.writeRefusal == null ? wallMs() : null),
    // A web page whose name was made to lead here calls it by that; such names have a dot.
    admitsName: (name: string) =>
      !users.isOpen || !name.includes(".") || http.host_names.includes(name),
    async mayRead(caller: Caller, credentials: Credentials | null) {
      const found = await userOf(users, caller, credentials);
      const isUser = typeof found === "object";
      if (isUser && maySayInfo(users, found)) return true;
      if (isUser) noteDenied("denied", found.name, caller);
      else if (found === "wrong") noteDenied("login_failed", credentials!.name, caller);
      return false;
    },
  };
}

/** Who asks; or why that one is not logged in. */
async function userOf(
  users: UserDirectory,
  { address, certificateName }: Caller,
  credentials: Credentials | null,
): Promise<User | "wrong" | "busy"> {
  if (credentials === null) return users.arrive(address, certificateName);
  return users.logIn(credentials.name, credentials.password, address, () => false);
}

function notYet(): ApiError {
  const message = "The data is not back from disk yet; see /readyz";
  return new ApiError(503, "recovering", message, { "retry-after": "1" });
}

function loginRefusal(result: "wrong" | "busy"): ApiError {
  if (result === "wrong")
    return new ApiError(401, "login_failed", "Name or password is wrong", LOGIN);
  return new ApiError(503, "busy", "Too many logins at a time; try again", { "retry-after": "1" });
}

/** Why somebody is refused before the body of the request is read; null for no such reason. */
function refusalOf(
  users: UserDirectory,
  user: User,
  { method, url }: HttpRequest,
  address: string,
  hostNames: readonly string[],
): ApiError | null {
  if (!user.isSomebody) return new ApiError(401, "login_needed", "A login is needed", LOGIN);
  if (!users.isOpen) return null;
  // A web page whose name was made to lead here calls this port by that name.
  const name = nameOf(url);
  if (name !== null && !hostNames.includes(name)) {
    const message = `There are no users, and ${name} is not among http.host_names`;
    return new ApiError(403, "not_permitted", message);
  }
  if (method === "GET" || method === "HEAD" || isLocal(address)) return null;
  const message = "There are no users, so only whoever is on this machine may write here";
  return new ApiError(403, "not_permitted", message);
}

/** Metrics are the facts of INFO: who may not say that may not read them either. */
function maySayInfo(users: UserDirectory, { definition }: User): boolean {
  const info = users.permissions.find("info")!;
  return definition.selectors.some((selector) => selector.permits(info));
}

function recoveryOf(recovery: RecoveryProgress | null): Check {
  const reason = "the data is being read from disk";
  const check = { name: "recovered", ok: false };
  if (recovery === null) return { ...check, reason };
  const { bytesRead, bytesTotal, entries } = recovery;
  const percent = Math.floor((100 * bytesRead) / Math.max(1, bytesTotal));
  const progress = { bytes_read: bytesRead, bytes_total: bytesTotal, entries };
  return { ...check, reason: `${reason}: ${percent} % so far`, progress };
}

/** What is refused for lack of memory; null when nothing is. */
function fullnessOf({ isFull, isFullForClients }: Replica["store"]): string | null {
  if (!isFull && !isFullForClients) return null;
  const refused = isFullForClients ? "clients' writes" : "what other nodes write";
  return `storage.memory_limit_mb is reached: ${refused} cannot be taken; raise it, or delete`;
}

/** What it takes to be ready: whoever sends clients here looks at it. */
export function checksOf(
  node: ServingNode | null,
  recovery: RecoveryProgress | null = null,
): Check[] {
  if (node === null) return [recoveryOf(recovery)];
  const { replica, hasSynced } = node;
  const { failure } = replica.journal;
  const fullness = fullnessOf(replica.store);
  const { writeRefusal } = replica.clockWatch;
  return [
    { name: "recovered", ok: true, reason: "the data is here" },
    {
      name: "first_sync",
      ok: hasSynced,
      reason: hasSynced
        ? "done, or nobody was there"
        : `the first sync with the peers goes on; ${replica.store.size} keys are here`,
    },
    { name: "journal", ok: failure === null, reason: failure?.message ?? "it takes writes" },
    {
      name: "memory",
      ok: fullness === null,
      reason: fullness ?? "below storage.memory_limit_mb",
    },
    { name: "clock", ok: writeRefusal === null, reason: writeRefusal ?? "the time is known" },
  ];
}
