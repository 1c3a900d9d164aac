/**
 * The answer to GET of a long value. It is sent in pieces from where the value lies, each when the
 * one before is on its way: so no copy of the value is made, however many clients ask for it and
 * do not read, and nobody else waits for one to be made. (To copy 8 MiB into memory that is new to
 * the process takes 10 to 25 ms, most of it in the kernel, which has to find and clear the pages.)
 */
import type { SharedValue } from "../core/store/entry-table.ts";
import type { Entry } from "../core/data/entry.ts";
import type { HeldValue } from "../ports.ts";
import type { Reply } from "../protocol/reply.ts";
import type { ClientSession } from "./client-session.ts";
import type { Context, ReplyContinuation } from "./command.ts";

/** What is sent at once. Shorter values are copied into the reply. */
export const PIECE_BYTES = 256 * 1024;
/** What may come before and after the value. */
const FRAME_BYTES = 32;

/** Whether a value is to be sent in pieces, and can be. */
export function isLong(
  { value, valueOffset, valueLength }: Entry,
  reply: Reply,
  { services }: Context,
): boolean {
  return (
    valueLength > PIECE_BYTES &&
    valueLength + FRAME_BYTES <= services.limits.maxReplyBytes &&
    reply.isVerbatim(value, valueOffset, valueLength)
  );
}

/** The value that a session holds for the answer to GET: it is the caller's to release. */
export function heldValue(session: ClientSession): HeldValue {
  const { bytes, offset, length, release } = session.held as SharedValue;
  session.held = null;
  session.hold(-length);
  return { bytes: bytes.subarray(offset, offset + length), release };
}

/**
 * Answers a value, which counts as held for the client until all of it is sent: if it is changed
 * meanwhile, the memory that it lies in is this client's alone.
 */
export function answerInPieces(
  value: SharedValue,
  session: ClientSession,
): Promise<ReplyContinuation> {
  const { bytes, offset, length } = value;
  session.held = value;
  session.hold(length);
  let sent = 0;
  return Promise.resolve((reply: Reply) => {
    if (sent === 0) reply.beginValue(length);
    const count = Math.min(PIECE_BYTES, length - sent);
    reply.copied(bytes, offset + sent, count);
    sent += count;
    if (sent < length) return true;
    reply.endOfLine();
    session.held = null;
    value.release();
    session.hold(-length);
    return false;
  });
}
