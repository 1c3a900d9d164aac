/**
 * The log: one line an event, for people (`text`) or machines (`json`), to standard
 * error or a file. Logging never throws and never waits for the disk. A level that is
 * off is an empty function. Whatever a message or field holds, it cannot break out of
 * its line or confuse a terminal: control and direction characters are escaped. From `info` on,
 * what repeats is left out and counted (`repeat-suppressor.ts`); who asks for `debug` gets
 * every line.
 */
import type { Change, Commit } from "../config/live-config.ts";
import type { Config } from "../config/schema.ts";
import { printable } from "../core/data/name.ts";
import { OperationalError } from "../operational-error.ts";
import type { Timing } from "../timing.ts";
import { activeTrace, inTrace } from "../tracer.ts";
import { eventOf } from "./events.ts";
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
  /** Another file, from the moment on when the settings are others. */
  prepare(change: Change): Commit | void;
}

/** Levels from the chattiest to the gravest. */
const LEVELS = ["trace", "debug", "info", "warn", "error"] as const;
type Level = (typeof LEVELS)[number];
/** What systemd's journal calls them, as syslog does. */
const PRIORITIES: Record<Level, number> = { trace: 7, debug: 7, info: 6, warn: 4, error: 3 };
const RANKS: Record<Level, number> = { trace: 0, debug: 1, info: 2, warn: 3, error: 4 };

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
 * Opens the log. The level, the form and the limits of `config` may change meanwhile. Throws an
 * OperationalError of one line when `file_path` cannot be opened.
 * Tests give a `write`, which gets the lines instead. `isJournal`: standard error is systemd's
 * journal, which takes the level from `<4>` before a line, and keeps the line without it.
 */
export function createLogger(
  config: Config["logging"],
  parts: LogClocks & { readonly write?: (line: string) => void; readonly isJournal?: boolean },
): RootLogger {
  const { wallMs, write, timing, isJournal = false } = parts;
  const repeats = new RepeatSuppressor(timing);
  const lineOf = (level: Level, component: string, message: string, given: Fields): string => {
    const time = new Date(wallMs()).toISOString();
    const format = config.format === "json" ? jsonLine : textLine;
    const fields = withTrace(given);
    const priority = isJournal && config.file_path === "" ? `<${PRIORITIES[level]}>` : "";
    try {
      return priority + format(time, level, component, message, fields);
    } catch {
      return priority + format(time, level, component, message, { fields: "cannot be shown" });
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
      const line: Log = (message, fields = {}) => push(lineOf(level, component, message, fields));
      if (rank < FIRST_THROTTLED) return line;
      return (message, fields = {}) => {
        // Told in the course of something else that is logged, of which it is no part.
        const report: ReportRepeats = (leftOut, seconds, last) =>
          inTrace(null, () =>
            line(`… ${leftOut} more like this in the last ${seconds} s: ${message}`, last),
          );
        const source = `${level} ${component} ${message}`;
        if (repeats.admit(source, fields, report)) line(message, fields);
      };
    });
    const child = (name: string): Logger => loggerFor(component ? `${component}.${name}` : name);
    return levelled(logs, () => RANKS[config.level], child);
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
  const prepare = ({ next, changed }: Change): Commit | void => {
    if (writer === undefined || !changed.has("logging.file_path")) return;
    const { file_path } = next.logging;
    const opened = withLogFile(file_path, () => writer.openNext(file_path));
    return { apply: opened.use, abandon: opened.close };
  };
  return Object.assign(root, { reopen, close, prepare });
}

/** What is traced just now can be found by the line, and the line by it. */
function withTrace(fields: Fields): Fields {
  const trace = activeTrace();
  return trace === null ? fields : { ...fields, trace_id: trace.traceId };
}

/** Each level as it is wanted whenever something is logged. */
function levelled(
  logs: readonly Log[],
  least: () => number,
  child: (component: string) => Logger,
): Logger {
  const at = (rank: number): Log => (rank < least() ? silentLogger[LEVELS[rank]] : logs[rank]);
  return {
    get trace() {
      return at(0);
    },
    get debug() {
      return at(1);
    },
    get info() {
      return at(2);
    },
    get warn() {
      return at(3);
    },
    get error() {
      return at(4);
    },
    child,
  };
}

function createWriter(
  config: Config["logging"],
  timing: Timing,
  lostLine: (count: number) => string,
): LineWriter {
  const limits = {
    get maxBytes() {
      return config.max_file_mb * MIB;
    },
    get keep() {
      return config.keep_files;
    },
  };
  const { file_path } = config;
  return withLogFile(file_path, () => new LineWriter(file_path, lostLine, timing, limits));
}

function withLogFile<T>(file_path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const reason = (error as Error).message;
    throw new OperationalError(
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

/** One object a line: time, level, component, event, message, then the fields by their names. */
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
  record["event"] = eventOf(message.replace(REPEATED, ""));
  record["message"] = cut(message);
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const keepsType = typeof value === "boolean" || Number.isFinite(value) || value === null;
    record[name in record ? `${name}_` : name] = keepsType ? value : plain(value);
  }
  return `${printable(JSON.stringify(record), Infinity)}\n`;
}

/** What stands before a message that was left out and counted. */
const REPEATED = /^… \d+ more like this in the last \d+ s: /;

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
