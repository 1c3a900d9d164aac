/**
 * What happened in a simulation, kept so that a failing seed can explain itself: each line knows
 * which keys it is about, so that the whole history of one key can be told, from its first write
 * to the end, without what happened to all the others.
 */

/** A line about every key: a crash, a step of a clock, a line that was cut. */
const EVERY_KEY = null;
/** What is said more often than this is told as often from its beginning, once at its end, and counted. */
const MOST_REPEATS = 3;

interface Happening {
  readonly atMs: number;
  readonly text: string;
  /** Which keys it is about. */
  readonly keys: readonly string[] | typeof EVERY_KEY;
}

/** The lines of one simulation. Lines are made only when they are kept. */
export class History {
  private readonly happenings: Happening[] = [];

  constructor(
    /** Whether anything is kept at all. */
    readonly isKept: boolean,
    private readonly nowMs: () => number,
    private readonly names: readonly string[],
  ) {}

  /** Something happened to a node, to the lines or to the broker: it matters to every key. */
  note(line: () => string): void {
    if (this.isKept) this.add(line(), EVERY_KEY);
  }

  /** Something happened to a key. */
  noteKey(key: string, line: () => string): void {
    if (this.isKept) this.add(line(), [key]);
  }

  /**
   * Bytes were lost, or sent by a node. They are about the keys whose names are in them: now and
   * then a name is in there by accident.
   */
  noteBytes(bytes: Uint8Array, line: (keys: string) => string): void {
    if (!this.isKept) return;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const keys = this.names.filter((name) => text.includes(name));
    if (keys.length > 0) this.add(line(keys.join(" ")), keys);
  }

  /** Something happened that matters to no key. */
  noteAside(line: () => string): void {
    if (this.isKept) this.add(line(), []);
  }

  /** All of it. */
  all(): string[] {
    return told(this.happenings);
  }

  /** What happened to a key: its writes and merges, and the troubles of those who had it. */
  of(key: string): string[] {
    return told(this.happenings.filter(({ keys }) => keys === EVERY_KEY || keys.includes(key)));
  }

  private add(text: string, keys: Happening["keys"]): void {
    this.happenings.push({ atMs: this.nowMs(), text, keys });
  }
}

/** As lines, what repeats itself in short: sessions go on and on while all is quiet. */
function told(happenings: readonly Happening[]): string[] {
  const totals = new Map<string, number>();
  for (const { text } of happenings) totals.set(text, (totals.get(text) ?? 0) + 1);
  const counts = new Map<string, number>();
  const lines: string[] = [];
  for (const { atMs, text } of happenings) {
    const count = (counts.get(text) ?? 0) + 1;
    counts.set(text, count);
    const isLast = count === totals.get(text);
    if (count > MOST_REPEATS && !isLast) continue;
    const often = count > MOST_REPEATS + 1 ? ` (${count} times in all)` : "";
    lines.push(`${(atMs / 1_000).toFixed(3)} ${text}${often}`);
  }
  return lines;
}
