/**
 * `TRACE <traceparent> <command...>`: a command that belongs to a trace of the client's. It is no
 * command itself, but stands before one, whose rights, limits and reply are those of that one. So
 * it is looked for where no command has the name that was given, and costs no other a thing.
 */
import type { Request } from "../protocol/request.ts";
import { parseTraceparent, TRACEPARENT_FORM, type TraceContext } from "../trace-context.ts";
import type { ClientSession } from "./client-session.ts";

/** How it is used, for whoever got it wrong. */
export const TRACE_USE = `TRACE takes a traceparent, ${TRACEPARENT_FORM}, and a command`;

/** Longest text that is looked at as a traceparent; later versions may be longer than this one. */
const MOST_BYTES = 256;

/** Whether what was given in place of a command's name is the prefix. */
export function isTracePrefix(request: Request): boolean {
  return request.is(-1, "TRACE");
}

/** The context in argument `i`; null when it is none. */
export function contextIn(request: Request, i: number): TraceContext | null {
  return request.length(i) > MOST_BYTES ? null : parseTraceparent(request.text(i));
}

/**
 * What a client's commands are traced as, if that context came with them; null: like any other. A
 * client that has to log in first, or whose caller does not record, asks for nothing.
 */
export function wantedTrace(context: TraceContext, { user }: ClientSession): TraceContext | null {
  return context.isSampled && user.isSomebody ? context : null;
}
