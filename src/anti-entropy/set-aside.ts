/**
 * The file of entries that were set aside: what this node alone held from before its peers
 * purged deletions, and what was dated too far in the future. One JSON object a line, appended:
 *
 *   { "at", "reason": "stale" | "future", "kind", "key", "value"?, "time", "origin", "expires"? }
 *
 * `at` is when it was written, `time` when the entry was, both in ISO 8601. Bytes that are not
 * UTF-8 come in base64, as "key_base64" and "value_base64"; a counter has its sum as "value"
 * and all its parts in "value_base64". Nothing here reads the file back: it is for people.
 */
import { closeSync, fstatSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { unixMsOf } from "../core/clock.ts";
import { Int64, MAX_NUMBER_TEXT_BYTES, formatInt64, sumOf } from "../core/counter.ts";
import { KIND_COUNTER, KIND_TOMBSTONE, type Entry } from "../core/entry.ts";
import type { Logger } from "../observability/log.ts";
import { isoTimeOf } from "../timing.ts";

/** Why an entry is set aside. */
export type SetAsideReason = "stale" | "future";

const KINDS = ["string", "tombstone", "counter"] as const;
/** Entries remembered so as not to be written again whenever a peer offers them. */
const MAX_KNOWN = 65_536;
/** A longer name would not do as part of a file's. */
const MAX_NAME_BYTES = 200;

/** Appends to the file, which is made when there is something to write. */
export class SetAside {
  /** Entries written since the start. */
  entries = 0;
  readonly path: string;
  private file: number | null = null;
  private bytes = 0;
  private hasComplained = false;
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

  /** Writes an entry. False when that failed or the file is full: then the entry must be kept. */
  put(entry: Entry, reason: SetAsideReason): boolean {
    const identity = identityOf(entry);
    if (this.known.has(identity)) return true;
    const line = Buffer.from(`${JSON.stringify(describe(entry, reason))}\n`);
    try {
      const file = (this.file ??= this.open());
      if (this.bytes + line.length > this.maxBytes) {
        return this.complain("it is full; move it away and restart the node");
      }
      for (let at = 0; at < line.length;) at += writeSync(file, line, at);
      this.bytes += line.length;
    } catch (error) {
      return this.complain((error as Error).message);
    }
    if (this.known.size >= MAX_KNOWN) this.known.clear();
    this.known.add(identity);
    if (this.entries++ === 0) {
      this.logger.warn("Entries are being set aside in a file", { reason, file: this.path });
    }
    return true;
  }

  /** Closes the file. */
  close(): void {
    if (this.file !== null) closeSync(this.file);
    this.file = null;
  }

  private open(): number {
    mkdirSync(dirname(this.path), { recursive: true });
    const file = openSync(this.path, "a", 0o600);
    this.bytes = fstatSync(file).size;
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
