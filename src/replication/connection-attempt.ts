/**
 * One attempt to connect to the broker, and the connection that came of it: how it went, and by
 * whose hand it ended.
 */
import type { Cancel } from "../timing.ts";

/** Errors of the system that mean that the other side ended the connection. */
const HANG_UP_ERRORS = ["ECONNRESET", "EPIPE"];

/** What is known of one attempt to connect, and of the connection that came of it. */
export class ConnectionAttempt {
  /** There is somebody at the broker's address. */
  isReached = false;
  /** The broker took the connection. */
  isAccepted = false;
  /** The reason code it gave when it refused or ended it. */
  code: number | null = null;
  /** What went wrong, in words; empty when the connection just ended. */
  problem = "";
  /** Topics whose subscription it has not answered. */
  unanswered: ReadonlySet<string> & { delete(topic: string): boolean } = new Set<string>();
  /** Calls off the end of waiting for the broker to take the connection. */
  cancelTimeout: Cancel = () => {};
  /** It ended by the broker's hand, or by its silence. */
  isHungUp = true;

  noteError(error: Error): void {
    const { code } = error as { code?: unknown };
    // What the system calls a hang-up depends on who was saying something just then.
    if (!HANG_UP_ERRORS.includes(code as string)) this.problem ||= error.message || String(code);
    // Later errors with a code are the package's own.
    if (typeof code === "number" && !this.isAccepted) this.code = code;
    else this.isHungUp &&= this.isByBroker(error.message, code);
  }

  private isByBroker(message: string, code: unknown): boolean {
    if (message === "Keepalive timeout") return false;
    // The parser's errors have no code.
    if (code === undefined) return this.isReached || this.isAccepted;
    return HANG_UP_ERRORS.includes(code as string);
  }
}

/** The reason code in a PUBACK; null when the error is no answer of the broker's. */
export function codeOf(error: Error): number | null {
  const { code } = error as { code?: unknown };
  return typeof code === "number" ? code : null;
}

/** The code in a SUBACK; null as above. */
export function grantOf(error: Error): number | null {
  const { packet } = error as { packet?: { granted?: readonly number[] } };
  return packet?.granted?.[0] ?? null;
}
