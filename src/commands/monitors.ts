/**
 * Clients that have said `MONITOR`: they get a line for each request that is run, as Redis writes
 * it. Administration is not shown, and passwords are not either.
 *
 * What a turn of the event loop brings is written once for all of them and sent together at its
 * end. One that does not read is told so after a while, and let go.
 */
import type { Request } from "../protocol/request.ts";
import type { Timing } from "../timing.ts";
import type { ClientSession } from "./client-session.ts";
import { permissionOf, type AskedRow } from "./asked-row.ts";
import { quotedPart, shownParts } from "./shown-request.ts";

const LIMITS = { parts: 128, bytes: 4_096, totalBytes: 16_384 } as const;
/** How many there may be: each takes a system call a turn. */
export const MOST_MONITORS = 64;
/** One that has so many bytes yet to read does not read. */
const MOST_UNREAD_BYTES = 1_048_576;

/** See the file header. */
export class Monitors {
  /** Who listens, and what each could not be told yet because a reply was under way. */
  private readonly sessions = new Map<ClientSession, Uint8Array[]>();
  /** What was run in this turn. */
  private lines: string[] = [];
  private isFlushDue = false;

  /** `onChange` is told when the first one comes, and when the last one has gone. */
  constructor(private readonly onChange: () => void) {}

  /** How many there are. */
  get count(): number {
    return this.sessions.size;
  }

  /** That client is told from now on. False when there are as many as may be. */
  add(session: ClientSession): boolean {
    if (this.sessions.has(session)) return true;
    for (const other of this.sessions.keys()) if (other.isOver) this.remove(other);
    if (this.count >= MOST_MONITORS) return false;
    this.sessions.set(session, []);
    this.onChange();
    return true;
  }

  /** A request of `by` is about to be run, at `nowMs` Unix time. */
  feed(row: AskedRow, request: Request, by: ClientSession, nowMs: number, timing: Timing): void {
    if (permissionOf(row, request).categories.has("admin")) return;
    const parts = shownParts(row, request, LIMITS).map(quotedPart);
    const time = `${Math.floor(nowMs / 1000)}.${pad(Math.floor((nowMs % 1000) * 1000))}`;
    this.lines.push(`${time} [0 ${by.address}] ${parts.join(" ")}`);
    if (this.isFlushDue) return;
    this.isFlushDue = true;
    timing.soon(() => this.flush(timing));
  }

  private flush(timing: Timing): void {
    this.isFlushDue = false;
    const lines = this.lines.splice(0);
    const written = new Map<string, Uint8Array>();
    let isWaiting = false;
    for (const [session, waiting] of this.sessions) {
      if (session.isOver) this.remove(session);
      else {
        if (lines.length > 0) waiting.push(writtenFor(session, lines, written));
        while (waiting.length > 0 && session.push(waiting[0], MOST_UNREAD_BYTES)) waiting.shift();
        isWaiting ||= waiting.length > 0;
      }
    }
    if (!isWaiting || this.isFlushDue) return;
    this.isFlushDue = true;
    timing.after(RETRY_MS, () => this.flush(timing));
  }

  private remove(session: ClientSession): void {
    this.sessions.delete(session);
    this.onChange();
  }
}

/** Who has a reply under way is told again after this time. */
const RETRY_MS = 10;

/** The lines in bytes as a client reads them, which are the same for all who read them alike. */
function writtenFor(
  session: ClientSession,
  lines: readonly string[],
  written: Map<string, Uint8Array>,
): Uint8Array {
  const [begin, end] = session.monitorLine;
  let bytes = written.get(begin + end);
  if (bytes === undefined) {
    bytes = Buffer.from(begin + lines.join(end + begin) + end, "latin1");
    written.set(begin + end, bytes);
  }
  return bytes;
}

function pad(microseconds: number): string {
  return String(microseconds).padStart(6, "0");
}
