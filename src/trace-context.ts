/**
 * Where something stands in a trace, in the forms of W3C Trace Context
 * (https://www.w3.org/TR/trace-context/): as text in `traceparent`, and as bytes between nodes.
 */

/** See the file header. */
export interface TraceContext {
  /** 32 lower-case hexadecimal digits, not all 0. */
  readonly traceId: string;
  /** Of the span that what follows is a part of: 16 such digits, not all 0. */
  readonly spanId: string;
  /** Whether whoever began the trace wants it to be recorded. */
  readonly isSampled: boolean;
  /** What vendors add, as in `tracestate`; empty for nothing. */
  readonly state: string;
}

/** What a traceparent looks like, for people. */
export const TRACEPARENT_FORM = "00-<32 hexadecimal digits>-<16>-<2>";

/** Length of a context as bytes, without its state. */
const CONTEXT_BYTES = 25;
/** Longest state that is passed on; a longer one is left out, as the specification allows. */
const MAX_STATE_BYTES = 512;
const SAMPLED = 1;

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
/** What `tracestate` may hold. */
const STATE = /^[\x20-\x7e]*$/;
const NOUGHTS = /^0+$/;

/** Reads `traceparent`, and what came with it as `tracestate`. Null when it is none. */
export function parseTraceparent(text: string, state = ""): TraceContext | null {
  const [, version, traceId, spanId, flags, rest] = TRACEPARENT.exec(text) ?? [];
  if (version === undefined || version === "ff") return null;
  // A later version may add something at the end.
  if (version === "00" && rest !== undefined) return null;
  return contextOf(traceId, spanId, parseInt(flags, 16), state);
}

/** Writes `traceparent`. */
export function formatTraceparent({ traceId, spanId, isSampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${isSampled ? "01" : "00"}`;
}

/** A context as bytes: 16 of the trace, 8 of the span, 1 of flags, and the state as it is. */
export function encodeContext({ traceId, spanId, isSampled, state }: TraceContext): Uint8Array {
  const text = state.length > MAX_STATE_BYTES ? "" : state;
  const bytes = Buffer.alloc(CONTEXT_BYTES + text.length);
  bytes.write(traceId, 0, "hex");
  bytes.write(spanId, 16, "hex");
  bytes[24] = isSampled ? SAMPLED : 0;
  bytes.write(text, CONTEXT_BYTES, "latin1");
  return bytes;
}

/** Reads what `encodeContext` wrote; null when it is none. */
export function decodeContext(bytes: Uint8Array): TraceContext | null {
  if (bytes.length < CONTEXT_BYTES || bytes.length > CONTEXT_BYTES + MAX_STATE_BYTES) return null;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const state = buffer.toString("latin1", CONTEXT_BYTES);
  return contextOf(buffer.toString("hex", 0, 16), buffer.toString("hex", 16, 24), bytes[24], state);
}

function contextOf(
  traceId: string,
  spanId: string,
  flags: number,
  state: string,
): TraceContext | null {
  if (NOUGHTS.test(traceId) || NOUGHTS.test(spanId)) return null;
  const isPassedOn = state.length <= MAX_STATE_BYTES && STATE.test(state);
  const isSampled = (flags & SAMPLED) !== 0;
  return { traceId, spanId, isSampled, state: isPassedOn ? state : "" };
}
