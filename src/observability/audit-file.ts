/**
 * The audit file: who did, or tried, what only few may do. One JSON object a line, appended:
 *
 *   { "time", "event", "user", "address", "certificate"?, "command", "key"?, "detail"? }
 *
 * A key that is not UTF-8 comes in base64, as "key_base64"; of a long one the beginning is told,
 * and "key_bytes" is its length. There are no values in it and no passwords: nobody hands any over.
 *
 * Writing never holds anything up. What a slow disk does not take is dropped and counted, and a
 * line says how many are missing. Anybody who can connect can fail to log in, or be denied
 * something, as often as he likes; so of those that are alike a few are written in a period, and
 * at its end one line, { "time", "event", "repeats", "last" }, for the rest. What administrators do
 * is written each time.
 */
import { hostOf } from "../access/host.ts";
import type { Change, Commit } from "../config/live-config.ts";
import type { Config } from "../config/schema.ts";
import { printable } from "../core/data/name.ts";
import { counter, type Fact } from "../fact.ts";
import { OperationalError } from "../operational-error.ts";
import type { Audit, AuditEvent } from "../ports.ts";
import { LineWriter } from "./line-writer.ts";
import type { LogClocks } from "./log.ts";
import { RepeatSuppressor } from "./repeat-suppressor.ts";

const MIB = 1_048_576;
/** Of a key and of any text, more than this is not written, in bytes or characters. */
const LIMIT_LENGTH = 1_024;

/** See the file header. */
export class AuditFile implements Audit {
  /** For INFO. */
  static readonly facts: readonly Fact<AuditFile>[] = [
    counter("audit_events", "events", "What was to be told in the audit file.", (it) => it.events),
    counter(
      "audit_repeats",
      "events",
      "Those of them that were counted in a line with others like them.",
      (it) => it.repeats,
    ),
    counter(
      "audit_dropped_lines",
      "lines",
      "Lines that the audit file's disk did not take, so that they are lost.",
      (it) => it.writer.lostLines,
    ),
  ];

  private events = 0;
  private repeats = 0;
  private readonly suppressor: RepeatSuppressor;
  private readonly writer: LineWriter;

  /**
   * Opens the file; its limits in `config` may change meanwhile. Throws an OperationalError of one
   * line when it cannot be opened.
   */
  constructor(
    config: Config["audit"],
    private readonly clocks: LogClocks,
  ) {
    this.suppressor = new RepeatSuppressor(clocks.timing);
    const limits = {
      get maxBytes() {
        return config.max_file_mb * MIB;
      },
      get keep() {
        return config.keep_files;
      },
    };
    const lostLine = (lines: number): string => this.line({ event: "lost", lines });
    const { file } = config;
    const { timing } = clocks;
    this.writer = withAuditFile(file, () => new LineWriter(file, lostLine, timing, limits));
  }

  /** Another file, from the moment on when the settings are others. */
  prepare({ next, changed }: Change): Commit | void {
    if (!changed.has("audit.file")) return;
    const { file } = next.audit;
    const opened = withAuditFile(file, () => this.writer.openNext(file));
    return { apply: opened.use, abandon: opened.close };
  }

  record(event: AuditEvent): void {
    this.events++;
    if (event.event === "administration" || event.event === "acl") return this.write(event);
    const { user, address, command } = event;
    const report = (repeats: number, _seconds: number, last: object): void => {
      this.repeats += repeats;
      this.writer.push(this.line({ event: event.event, repeats, last }));
    };
    const facts = { user: cut(user), address, command: cut(command) };
    // To each his own measure, or a stranger's many would hide what others try meanwhile. The name
    // of a failed login is the stranger's to choose.
    const who = event.event === "denied" ? user : "";
    const source = `${event.event} ${hostOf(address)} ${who}`;
    if (this.suppressor.admit(source, facts, report)) this.write(event);
  }

  /** Opens the file anew after it was moved away. Throws the system error when it cannot be. */
  reopen(): void {
    this.writer.reopen();
  }

  /** Writes what is still waiting, for 2 seconds at most, and closes the file. */
  async close(): Promise<void> {
    this.suppressor.flush();
    await this.writer.close();
  }

  private write(event: AuditEvent): void {
    const { user, address, certificate, command, key, detail } = event;
    this.writer.push(
      this.line({
        event: event.event,
        user: cut(user),
        address,
        ...(certificate !== null && { certificate: cut(certificate) }),
        command: cut(command),
        ...(key !== null && describeKey(key)),
        ...(detail !== undefined && { detail: cut(detail) }),
      }),
    );
  }

  private line(facts: object): string {
    const time = new Date(this.clocks.wallMs()).toISOString();
    return `${printable(JSON.stringify({ time, ...facts }), Infinity)}\n`;
  }
}

function withAuditFile<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const reason = printable((error as Error).message);
    throw new OperationalError(
      `audit.file: cannot open ${printable(file)} for appending: ${reason}`,
    );
  }
}

function describeKey(key: Uint8Array): object {
  const shown = key.subarray(0, LIMIT_LENGTH);
  const length = key.length > LIMIT_LENGTH ? { key_bytes: key.length } : {};
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    // With `stream` a character that was cut in two at the end is no error, and is left out.
    const text = decoder.decode(shown, { stream: key.length > LIMIT_LENGTH });
    return { key: text, ...length };
  } catch {
    return { key_base64: Buffer.from(shown).toString("base64"), ...length };
  }
}

function cut(text: string): string {
  return text.length > LIMIT_LENGTH ? `${text.slice(0, LIMIT_LENGTH)}…` : text;
}
