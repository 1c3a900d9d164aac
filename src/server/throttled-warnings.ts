/** Log lines about what clients do, which a client could make as many of as it likes. */
import type { Fields, Logger } from "../observability/log.ts";

/** Each message is written once in so long at most. */
const REPEAT_MS = 10_000;

/** Writes each message now and then only, and tells how many times it was left out. */
export class ThrottledWarnings {
  private readonly said = new Map<string, { atMs: number; omitted: number }>();

  constructor(
    private readonly logger: Logger,
    private readonly nowMs: () => number,
  ) {}

  /**
   * Says it, unless it was said a short while ago. Messages are few: what varies goes into fields.
   */
  warn(message: string, fields: Fields): void {
    const now = this.nowMs();
    const last = this.said.get(message);
    if (last !== undefined && now - last.atMs < REPEAT_MS) return void last.omitted++;
    const omitted = last?.omitted || undefined;
    this.said.set(message, { atMs: now, omitted: 0 });
    this.logger.warn(message, { ...fields, omitted });
  }
}
