/**
 * The log: one line an event, for people (`text`) or machines (`json`), to standard
 * error or a file. Logging never throws and never waits for the disk. A level that is
 * off is an empty function. Whatever a message or field holds, it cannot break out of
 * its line or confuse a terminal: control and direction characters are escaped. From `info` on,
 * what repeats is left out and counted (`repeat-suppressor.ts`); who asks for `debug` gets
 * every line.
 */
import type { Config } from "../config/schema.ts";
import { printable } from "../core/data/name.ts";
import type { Timing } from "../timing.ts";
import { LineWriter } from "./line-writer.ts";
import { RepeatSuppressor, type ReportRepeats } from "./repeat-suppressor.ts";

/** Small facts beside a message. Undefined ones are left out. */
export type Fields = Record<string, unknown>;

/** Writes a plain sentence and the facts that go with it. */
export type Log = (message: string, fields?: Fields) => void;

/** What every part of the node logs through. */
export interface Logger {
  readonly trace: Log;
  readonly debug: Log;
  readonly info: Log;
  readonly warn: Log;
  readonly error: Log;
  /** The same log under another component's name; under a component, "outer.inner". */
  child(component: string): Logger;
}

/** The logger at the top, which owns the file. */
export interface RootLogger extends Logger {
  /**
   * Opens the file anew after it was rotated away. If that fails it logs so and keeps the old one.
   */
  reopen(): void;
  /** Writes what is still waiting, for 2 seconds at most, and closes the file. */
  close(): Promise<void>;
}

/** Levels from the chattiest to the gravest. */
const LEVELS = ["trace", "debug", "info", "warn", "error"] as const;
type Level = (typeof LEVELS)[number];

/** From this level on, what repeats is left out. */
const FIRST_THROTTLED = LEVELS.indexOf("info");
/** Longest text of a message or a field, in UTF-16 units; the rest is cut off. */
const LIMIT_LENGTH = 2_000;
const MIB = 1_048_576;

/** Logs nothing. */
export const silentLogger: Logger = {
  trace() {},
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
};

/** How the log tells time. */
export interface LogClocks {
  /** Unix milliseconds by the wall clock, for the lines. */
  wallMs(): number;
  /** How long ago the last line of its kind was. */
  readonly timing: Timing;
}

/**
 * Opens the log. Throws an Error with one clear line when `file_path` cannot be opened.
 * Tests give a `write`, which gets the lines instead.
 */
export function createLogger(
  config: Config["logging"],
  parts: LogClocks & { readonly write?: (line: string) => void },
): RootLogger {
  const { wallMs, write, timing } = parts;
  const repeats = new RepeatSuppressor(timing);
  const format = config.format === "json" ? jsonLine : textLine;
  const lineOf = (level: Level, component: string, message: string, fields: Fields): string => {
    const time = new Date(wallMs()).toISOString();
    try {
      return format(time, level, component, message, fields);
    } catch {
      return format(time, level, component, message, { fields: "cannot be shown" });
    }
  };
  const writer = write
    ? undefined
    : createWriter(config, timing, (count) =>
        lineOf("warn", "log", "Lines were lost because they could not be written", { count }),
      );
  const push = write ?? ((line: string) => writer!.push(line));

  const loggerFor = (component: string): Logger => {
    const logs = LEVELS.map((level, rank): Log => {
      if (rank < LEVELS.indexOf(config.level)) return silentLogger[level];
      const line: Log = (message, fields = {}) => push(lineOf(level, component, message, fields));
      if (rank < FIRST_THROTTLED) return line;
      return (message, fields = {}) => {
        const report: ReportRepeats = (leftOut, seconds, last) =>
          line(`… ${leftOut} more like this in the last ${seconds} s: ${message}`, last);
        const source = `${level} ${component} ${message}`;
        if (repeats.admit(source, fields, report)) line(message, fields);
      };
    });
    const [trace, debug, info, warn, error] = logs as [Log, Log, Log, Log, Log];
    const child = (name: string): Logger => loggerFor(component ? `${component}.${name}` : name);
    return { trace, debug, info, warn, error, child };
  };

  const root = loggerFor("");
  const reopen = (): void => {
    try {
      writer?.reopen();
    } catch (error) {
      root.error("The log file cannot be reopened; the old one stays in use", { error });
    }
  };
  const close = async (): Promise<void> => {
    repeats.flush();
    await writer?.close();
  };
  return { ...root, reopen, close };
}

function createWriter(
  { file_path, max_file_mb, keep_files }: Config["logging"],
  timing: Timing,
  lostLine: (count: number) => string,
): LineWriter {
  try {
    return new LineWriter(file_path, lostLine, timing, {
      maxBytes: max_file_mb * MIB,
      keep: keep_files,
    });
  } catch (error) {
    const reason = (error as Error).message;
    throw new Error(
      `logging.file_path: cannot open ${printable(file_path)} for appending: ${printable(reason)}`,
    );
  }
}

/** `2026-01-02T03:04:05.678Z WARN  mqtt Broker is away retry_ms=500 reason="not reachable"` */
function textLine(
  time: string,
  level: Level,
  component: string,
  message: string,
  fields: Fields,
): string {
  let line = `${time} ${level.toUpperCase().padEnd(5)} `;
  if (component !== "") line += `${bare(component)} `;
  line += printable(cut(message), Infinity);
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) line += ` ${bare(name)}=${bare(plain(value))}`;
  }
  return `${line}\n`;
}

/** One object a line: time, level, component, message, then the fields under their own names. */
function jsonLine(
  time: string,
  level: Level,
  component: string,
  message: string,
  fields: Fields,
): string {
  // Without a prototype, so that a field called "__proto__" is a field like any other.
  const record: Record<string, unknown> = Object.assign(Object.create(null), { time, level });
  if (component !== "") record["component"] = component;
  record["message"] = cut(message);
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const keepsType = typeof value === "boolean" || Number.isFinite(value) || value === null;
    record[name in record ? `${name}_` : name] = keepsType ? value : plain(value);
  }
  return `${printable(JSON.stringify(record), Infinity)}\n`;
}

/** A field's value as text. May throw for an object that resists. */
function plain(value: unknown): string {
  if (typeof value === "string") return cut(value);
  if (value instanceof Error) return cut(value.message);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array)
    return cut(new TextDecoder().decode(value.subarray(0, LIMIT_LENGTH)));
  if (typeof value === "object" && value !== null) return cut(JSON.stringify(value));
  return cut(String(value));
}

function cut(text: string): string {
  return text.length > LIMIT_LENGTH ? `${text.slice(0, LIMIT_LENGTH)}…` : text;
}

/** The text as it is when it is one plain word, in JSON quotes otherwise. */
function bare(text: string): string {
  return /^[\w.:/+@%,[\]-]+$/.test(text) ? text : printable(JSON.stringify(text), Infinity);
}
