/** What the HTTP API answers: entries in JSON, and why something could not be done. */
import type { EntryFacts } from "../ports.ts";
import { RespError, type RespReply } from "../protocol/resp-value.ts";

/** A request that is refused; thrown anywhere below `Api.answer`. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** A word for programs: `not_found`. */
    readonly code: string,
    /** A sentence for people. */
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }

  /** As it is sent. */
  toResponse(): Response {
    const { status, headers, code, message } = this;
    return Response.json({ error: { code, message } }, { status, headers });
  }
}

/** There is no such key. */
export function notFound(): ApiError {
  return new ApiError(404, "not_found", "There is no such key");
}

/** The request is not as it should be. */
export function invalid(message: string): ApiError {
  return new ApiError(400, "invalid", message);
}

/** The body is no JSON as it is to be. */
export function notJson(): ApiError {
  return invalid("The body is no JSON object, or one of very many parts");
}

/** What is told of an entry beside its value, as fields of a JSON object. */
export function factsField(facts: EntryFacts): Record<string, string | number | null> {
  return {
    kind: facts.kind,
    version: facts.version,
    origin: facts.origin,
    written_at_ms: facts.writtenAtMs,
    expires_at_ms: facts.expiresAtMs === 0 ? null : facts.expiresAtMs,
  };
}

/** A command's reply that is no error; throws an ApiError for one that is. */
export function valueOf(reply: RespReply): RespReply {
  if (reply instanceof RespError) throw commandError(reply);
  return reply;
}

/** There is no room for it now. */
export function busy(): ApiError {
  const message = "Too many requests are being answered; try again";
  return new ApiError(503, "busy", message, { "retry-after": "1" });
}

/** What a command answered, as whoever asked by HTTP is told. */
export function commandError({ code, message }: RespError): ApiError {
  const [status, name] = STATUSES[code] ?? [400, "invalid"];
  if (/^value is not an integer|overflow/.test(message)) {
    return new ApiError(409, "not_a_number", message);
  }
  if (/^Value too large/.test(message)) return new ApiError(413, "too_large", message);
  if (/no peer takes that before|try again in a few seconds|clock/.test(message)) {
    return new ApiError(503, "clock", message, { "retry-after": "5" });
  }
  if (/^Internal error/.test(message)) return new ApiError(500, "internal", message);
  return new ApiError(status, name, message, status === 401 ? LOGIN : {});
}

/** Asks a browser, or a person, for a name and a password. */
export const LOGIN = { "www-authenticate": 'Basic realm="MerkleKV", charset="UTF-8"' } as const;

const STATUSES: Readonly<Record<string, readonly [status: number, name: string]>> = {
  NOAUTH: [401, "login_needed"],
  NOPERM: [403, "not_permitted"],
  OOM: [507, "full"],
  MISCONF: [507, "full"],
  READONLY: [503, "read_only"],
  WRONGTYPE: [409, "wrong_type"],
};
