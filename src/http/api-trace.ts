/**
 * Requests of HTTP that come with a trace, as W3C Trace Context has it: a span for the request, to
 * which its commands belong. Of others, commands may be traced by themselves.
 */
import { parseTraceparent, type TraceContext } from "../trace-context.ts";
import type { HttpRequest } from "./http-connection.ts";
import type { Tracer } from "../tracer.ts";

type Traceable = Pick<HttpRequest, "method" | "url" | "headers">;

/** What is behind this in a path is a key, which is not told. */
const KEYS = "/v1/keys/";

/** Answers a request; `answer` is given what its commands belong to. */
export async function tracedRequest(
  request: Traceable,
  tracer: Tracer,
  answer: (trace: TraceContext | null) => Promise<Response>,
): Promise<Response> {
  const parent = tracer.isOn ? traceOf(request) : null;
  if (parent === null) return answer(null);
  const { method } = request;
  const route = routeOf(request.url.pathname);
  const span = tracer.begin(`${method} ${route}`, "server", parent, {
    "http.request.method": method,
    "http.route": route,
  });
  try {
    const response = await answer(span.context);
    const { status } = response;
    const facts = { "http.response.status_code": status };
    span.end(facts, status >= 500 ? "the answer is an error" : undefined);
    return response;
  } catch (error) {
    span.end({}, "there is no answer");
    throw error;
  }
}

/** Null where none came, or none that is to be recorded; one that is malformed is passed over. */
function traceOf({ headers }: Traceable): TraceContext | null {
  const text = headers.get("traceparent");
  if (text === null) return null;
  const context = parseTraceparent(text.trim(), headers.get("tracestate") ?? "");
  return context?.isSampled === true ? context : null;
}

function routeOf(pathname: string): string {
  if (!pathname.startsWith(KEYS)) return KNOWN.has(pathname) ? pathname : "/v1/{other}";
  return pathname.endsWith(":increment") ? `${KEYS}{key}:increment` : `${KEYS}{key}`;
}

const KNOWN = new Set([
  ...["/v1/keys", "/v1/keys:batch", "/v1/watch", "/v1/command"],
  ...["/v1/facts", "/v1/cluster", "/v1/tree", "/v1/openapi.json"],
]);
