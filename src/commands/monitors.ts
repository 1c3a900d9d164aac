/**
 * Clients that have said `MONITOR`: they get a line for each request that is run, as Redis writes
 * it. Administration is not shown, and passwords are not either.
 *
 * What a turn of the event loop brings is sent together at its end. It counts as what the client
 * does not read, so one that is too slow is cut as any other.
 */
import type { Request } from "../protocol/request.ts";
import type { Timing } from "../timing.ts";
import type { ClientSession } from "./client-session.ts";
import { permissionOf, type AskedRow } from "./asked-row.ts";
import { quotedPart, shownParts } from "./shown-request.ts";

const LIMITS = { parts: 128, bytes: 4_096 } as const;
/** What is gathered for those that cannot be told just now has this length at most. */
const MOST_WAITING = 1_048_576;

/** See the file header. */
export class Monitors {
  /** Who listens, and what each has yet to be told. */
  private readonly sessions = new Map<ClientSession, string>();
  private isFlushDue = false;

  /** `onChange` is told when the first one comes, and when the last one has gone. */
  constructor(private readonly onChange: () => void) {}

  /** How many there are. */
  get count(): number {
    return this.sessions.size;
  }

  /** That client is told from now on. */
  add(session: ClientSession): void {
    this.sessions.set(session, this.sessions.get(session) ?? "");
    this.onChange();
  }

  /** A request of `by` is about to be run, at `nowMs` Unix time. */
  feed(row: AskedRow, request: Request, by: ClientSession, nowMs: number, timing: Timing): void {
    if (permissionOf(row, request).categories.has("admin")) return;
    const parts = shownParts(row, request, LIMITS).map(quotedPart);
    const time = `${Math.floor(nowMs / 1000)}.${pad(Math.floor((nowMs % 1000) * 1000))}`;
    const line = `${time} [0 ${by.address}] ${parts.join(" ")}`;
    for (const [session, waiting] of this.sessions) {
      if (session.isOver) this.remove(session);
      else if (waiting.length > MOST_WAITING) this.cut(session);
      else this.sessions.set(session, `${waiting}${session.monitorLine(line)}`);
    }
    if (this.isFlushDue) return;
    this.isFlushDue = true;
    timing.soon(() => this.flush(timing));
  }

  private flush(timing: Timing): void {
    this.isFlushDue = false;
    for (const [session, waiting] of this.sessions) {
      if (session.isOver) this.remove(session);
      else if (waiting !== "" && session.push(Buffer.from(waiting))) this.sessions.set(session, "");
    }
    const isWaiting = this.sessions.values().some((waiting) => waiting !== "");
    if (!isWaiting || this.isFlushDue) return;
    this.isFlushDue = true;
    timing.after(RETRY_MS, () => this.flush(timing));
  }

  private cut(session: ClientSession): void {
    this.remove(session);
    session.isClosing = true;
    session.cut();
  }

  private remove(session: ClientSession): void {
    this.sessions.delete(session);
    this.onChange();
  }
}

/** Who has a reply under way is told again after this time. */
const RETRY_MS = 10;

function pad(microseconds: number): string {
  return String(microseconds).padStart(6, "0");
}
