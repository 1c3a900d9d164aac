/**
 * The file of entries that were set aside: what this node alone held from before its peers
 * purged deletions, and what was dated too far in the future. One JSON object a line, appended:
 *
 *   { "at", "reason": "stale" | "future", "kind", "key", "value"?, "time", "origin", "expires"? }
 *
 * `at` is when it was written, `time` when the entry was, both in ISO 8601. Bytes that are not
 * UTF-8 come in base64, as "key_base64" and "value_base64"; a counter has its sum as "value"
 * and all its parts in "value_base64". Nothing here reads the file back: it is for people. A line
 * that a full disk or a crash cut short stays as it is, and the next one begins on its own.
 *
 * What is dated in the future is not lost when it is not written: the peer has it and offers it
 * again and again. So it is written once, and leaves room for what is nowhere else.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { unixMsOf } from "../core/clock.ts";
import { Int64, MAX_NUMBER_TEXT_BYTES, formatInt64, sumOf } from "../core/counter.ts";
import { KIND_COUNTER, KIND_TOMBSTONE, type Entry } from "../core/entry.ts";
import type { Logger } from "../observability/log.ts";
import { isoTimeOf } from "../timing.ts";

/** Why an entry is set aside. */
export type SetAsideReason = "stale" | "future";

const KINDS = ["string", "tombstone", "counter"] as const;
/** Most entries from the future written by one process, which remembers each of them. */
const MAX_FUTURE_ENTRIES = 65_536;
/** How much of the file they may fill. */
const FUTURE_SHARE = 0.5;
const LINE_END = 0x0a;
/** A longer name would not do as part of a file's. */
const MAX_NAME_BYTES = 200;

/** Appends to the file, which is made when there is something to write. */
export class SetAside {
  /** Entries in the file. */
  entries = 0;
  readonly path: string;
  private file: number | null = null;
  private bytes = 0;
  /** The file ends within a line. */
  private isCutShort = false;
  private hasWarned = false;
  private hasComplained = false;
  /** Entries from the future that are in the file. */
  private readonly known = new Set<string>();

  /** The file lies in `directory` and never grows above `maxBytes`. */
  constructor(
    directory: string,
    nodeId: string,
    private readonly maxBytes: number,
    private readonly logger: Logger,
  ) {
    const name = encodeURIComponent(nodeId);
    const short = name.length > MAX_NAME_BYTES ? Bun.SHA256.hash(nodeId, "hex") : name;
    this.path = join(directory, `set-aside-${short}.jsonl`);
  }

  /** Counts what earlier processes set aside, before anything else is. Never rejects. */
  async countEarlier(): Promise<void> {
    try {
      for await (const chunk of Bun.file(this.path).stream()) {
        for (const byte of chunk) if (byte === LINE_END) this.entries++;
      }
    } catch {
      // There is none, or none that can be read: whoever has something to write finds out.
    }
    if (this.entries === 0) return;
    const fields = { entries: this.entries, file: this.path };
    this.logger.warn(
      "Earlier runs set entries aside; look at them, then move the file away",
      fields,
    );
  }

  /** Writes an entry. False when that failed or there is no room: then the entry must be kept. */
  put(entry: Entry, reason: SetAsideReason): boolean {
    return reason === "future" ? this.putOnce(entry) : this.write(entry, reason, this.maxBytes);
  }

  private putOnce(entry: Entry): boolean {
    const identity = identityOf(entry);
    if (this.known.has(identity)) return true;
    if (this.known.size >= MAX_FUTURE_ENTRIES) return false;
    if (!this.write(entry, "future", this.maxBytes * FUTURE_SHARE)) return false;
    this.known.add(identity);
    return true;
  }

  private write(entry: Entry, reason: SetAsideReason, maxBytes: number): boolean {
    const text = `${JSON.stringify(describe(entry, reason))}\n`;
    try {
      const file = (this.file ??= this.open());
      const line = Buffer.from(this.isCutShort ? `\n${text}` : text);
      if (this.bytes + line.length > maxBytes) {
        if (reason === "future") return false;
        return this.complain("it is full; move it away and restart the node");
      }
      for (let at = 0; at < line.length;) {
        const written = writeSync(file, line, at);
        at += written;
        this.bytes += written;
        this.isCutShort = line[at - 1] !== LINE_END;
      }
    } catch (error) {
      return this.complain((error as Error).message);
    }
    this.entries++;
    if (!this.hasWarned) {
      this.logger.warn("Entries are being set aside in a file", { reason, file: this.path });
    }
    this.hasWarned = true;
    return true;
  }

  /** Closes the file. */
  close(): void {
    if (this.file !== null) closeSync(this.file);
    this.file = null;
  }

  private open(): number {
    mkdirSync(dirname(this.path), { recursive: true });
    const file = openSync(this.path, "a+", 0o600);
    this.bytes = fstatSync(file).size;
    const last = new Uint8Array(1);
    this.isCutShort =
      this.bytes > 0 && readSync(file, last, 0, 1, this.bytes - 1) === 1 && last[0] !== LINE_END;
    return file;
  }

  private complain(problem: string): false {
    if (!this.hasComplained) {
      this.hasComplained = true;
      this.logger.error("Entries cannot be set aside", { file: this.path, problem });
    }
    return false;
  }
}

function identityOf(entry: Entry): string {
  const { key, keyOffset, keyLength, timeHigh, timeLow, originHigh, originLow } = entry;
  const hash = Bun.hash(key.subarray(keyOffset, keyOffset + keyLength));
  return [hash, timeHigh, timeLow, originHigh, originLow].join();
}

function describe(entry: Entry, reason: SetAsideReason): Record<string, unknown> {
  const { kind, timeHigh, timeLow, originHigh, originLow, expiresAtMs } = entry;
  const facts: Record<string, unknown> = {
    at: new Date().toISOString(),
    reason,
    kind: KINDS[kind],
    ...asText("key", entry.keyBytes()),
  };
  if (kind === KIND_COUNTER) {
    facts["value"] = decimalOf(entry);
    facts["value_base64"] = Buffer.from(entry.valueBytes()).toString("base64");
  } else if (kind !== KIND_TOMBSTONE) Object.assign(facts, asText("value", entry.valueBytes()));
  facts["time"] = isoTimeOf(unixMsOf(timeHigh, timeLow));
  facts["origin"] = hex32(originHigh) + hex32(originLow);
  if (expiresAtMs !== 0) facts["expires"] = isoTimeOf(expiresAtMs);
  return facts;
}

function asText(name: string, bytes: Uint8Array): Record<string, string> {
  try {
    return { [name]: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { [`${name}_base64`]: Buffer.from(bytes).toString("base64") };
  }
}

function decimalOf({ value, valueOffset, valueLength }: Entry): string {
  const number = new Int64();
  sumOf(value, valueOffset, valueLength, number);
  const text = new Uint8Array(MAX_NUMBER_TEXT_BYTES);
  return Buffer.from(text.subarray(0, formatInt64(number, text, 0))).toString();
}

function hex32(word: number): string {
  return word.toString(16).padStart(8, "0");
}
