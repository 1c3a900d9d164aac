/**
 * The keys of what a node tells those who look after it: `slowlog.*`, `tracing.*`, `logging.*` and
 * `audit.*`.
 */
import { isWebAddress } from "../address.ts";
import { choice, fraction, integer, list, text, type Field } from "../field.ts";
import { FILE, SWITCH } from "./values.ts";

/** Name of a key → what it is, in the order of the documentation. */
export const observationKeys = {
  "slowlog.log_slower_than": integer({
    fallback: 10_000,
    from: -1,
    to: 3_600_000_000,
    reloads: "at once",
    doc: "Microseconds a command may take before `SLOWLOG` keeps it; 0 keeps all, -1 none. Below 1000 every command is timed.",
  }),
  "slowlog.max_len": integer({
    fallback: 128,
    from: 0,
    to: 10_000,
    reloads: "at once",
    doc: "Commands that `SLOWLOG` keeps.",
  }),

  "tracing.endpoint": text({
    fallback: "",
    fallbackText: "(none)",
    allowed: "an http:// or https:// URL without a user, or empty",
    accepts: (url) => url === "" || isWebAddress(url),
    reloads: "at once",
    doc: "Where traces are sent, by OTLP over HTTP: a collector, such as `http://127.0.0.1:4318`; without a path `/v1/traces` is meant.",
  }),
  "tracing.sample_ratio": fraction({
    fallback: 0.01,
    reloads: "at once",
    doc: "The part of the commands and syncs that is traced where no client asks for it; of commands never more than 1,000 times this in a second.",
  }),
  "tracing.headers": list({
    fallback: [],
    allowed: 'a list of headers, each as "name: value"',
    accepts: (header) => /^[\w!#$%&'*+.^`|~-]+:[\t\x20-\x7e]*$/.test(header),
    secret: true,
    reloads: "at once",
    doc: "Headers to send with traces, such as a key that the collector asks for.",
  }),

  "logging.level": choice(["trace", "debug", "info", "warn", "error"], {
    fallback: "info",
    reloads: "at once",
    doc: "The least important messages to write.",
  }),
  "logging.format": choice(["text", "json"], {
    fallback: "text",
    reloads: "at once",
    doc: "A line for people, or a JSON object a line.",
  }),
  "logging.file_path": text({
    fallback: "",
    fallbackText: "(standard error)",
    ...FILE,
    reloads: "at once",
    doc: "File to append to; reopened on SIGHUP.",
  }),
  "logging.max_file_mb": integer({
    fallback: 64,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB at which the file is renamed to `.1` and another begun; 0 sets no limit.",
  }),
  "logging.keep_files": integer({
    fallback: 3,
    from: 0,
    to: 1000,
    reloads: "at once",
    doc: "How many of the renamed files are kept, `.1` being the newest.",
  }),

  "audit.file": text({
    fallback: "",
    fallbackText: "(none)",
    ...FILE,
    reloads: SWITCH,
    doc: "File to append to who administered the node, changed users, failed to log in or was denied something; reopened on SIGHUP.",
  }),
  "audit.max_file_mb": integer({
    fallback: 64,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB at which the file is renamed to `.1` and another begun; 0 sets no limit.",
  }),
  "audit.keep_files": integer({
    fallback: 10,
    from: 0,
    to: 1000,
    reloads: "at once",
    doc: "How many of the renamed files are kept, `.1` being the newest.",
  }),
} satisfies Record<string, Field<unknown>>;
