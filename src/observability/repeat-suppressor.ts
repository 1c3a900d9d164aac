/**
 * Keeps what repeats out of the log, so that no stranger and no failing disk can fill it: of each
 * message the first lines of a period are written, and what was left out is counted and told at
 * its end.
 *
 * Lines of one message are alike when their facts are, numbers and ports aside: "cannot reach
 * 10.0.0.1:4711" a hundred times is one fact, and the same of another host is another. So a few of
 * each kind are written, and no more than a screenful of all kinds together.
 */
import type { Cancel, Timing } from "../timing.ts";

/** How long a period is. */
const PERIOD_MS = 10_000;
/** How many lines of a period are written that are alike, and how many of one message. */
const LINES_ALIKE = 5;
const LINES_OF_A_MESSAGE = 50;
/**
 * Messages come from the program, so there are not many; should there be, the oldest is forgotten.
 */
const MAX_MESSAGES = 1_000;
/** As much of a value tells it from others. */
const TELLING_LENGTH = 200;

/** As in `log.ts`, which builds on this file. */
type Fields = Record<string, unknown>;

/** Writes a line that says how many were left out, with the facts of the last one. */
export type ReportRepeats = (leftOut: number, periodSeconds: number, last: Fields) => void;

/** One message in one period. */
class Repetition {
  lines = 0;
  leftOut = 0;
  last: Fields = {};
  readonly alike = new Map<string, number>();
  cancel: Cancel = () => {};

  constructor(
    readonly beganMs: number,
    readonly report: ReportRepeats,
  ) {}

  /** Whether a line with these facts is to be written; counts it either way. */
  admits(fields: Fields): boolean {
    if (this.lines >= LINES_OF_A_MESSAGE) return false;
    const kind = kindOf(fields);
    const count = this.alike.get(kind) ?? 0;
    if (count >= LINES_ALIKE) return false;
    this.alike.set(kind, count + 1);
    this.lines++;
    return true;
  }
}

/** What was written of each message of late. */
export class RepeatSuppressor {
  private readonly messages = new Map<string, Repetition>();

  constructor(private readonly timing: Timing) {}

  /**
   * Whether a line is to be written. `source` is the same for all lines of one level, component
   * and message. `report` is kept for the end of the period.
   */
  admit(source: string, fields: Fields, report: ReportRepeats): boolean {
    const nowMs = this.timing.nowMs();
    let current = this.messages.get(source);
    if (current === undefined || nowMs - current.beganMs >= PERIOD_MS) {
      if (current !== undefined) this.end(source, current);
      current = new Repetition(nowMs, report);
      this.messages.set(source, current);
      this.forgetOldest();
    }
    if (current.admits(fields)) return true;
    current.last = fields;
    if (current.leftOut++ === 0) {
      const { beganMs } = current;
      const ending = current;
      const end = (): void => this.end(source, ending);
      current.cancel = this.timing.after(beganMs + PERIOD_MS - nowMs, end);
    }
    return false;
  }

  /** Ends all periods, and tells what was left out. */
  flush(): void {
    for (const [source, current] of this.messages) this.end(source, current);
  }

  private end(source: string, ended: Repetition): void {
    ended.cancel();
    if (this.messages.get(source) === ended) this.messages.delete(source);
    if (ended.leftOut > 0) ended.report(ended.leftOut, PERIOD_MS / 1000, ended.last);
  }

  private forgetOldest(): void {
    if (this.messages.size <= MAX_MESSAGES) return;
    const [oldest] = this.messages;
    if (oldest !== undefined) this.end(...oldest);
  }
}

/** What tells facts apart. */
function kindOf(fields: Fields): string {
  let kind = "";
  for (const name in fields) kind += `${name}\0${telling(fields[name])}\0`;
  return kind;
}

function telling(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint" || value instanceof Date) return "#";
  const text = value instanceof Error ? value.message : typeof value === "string" ? value : "";
  // A port tells nothing, and a stranger has a new one each time; nor does any count.
  return text.slice(0, TELLING_LENGTH).replace(/\d{4,}|(?<=[:\s])\d+/g, "#");
}
