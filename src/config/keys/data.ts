/** The keys of the data: how it is healed and kept, `anti_entropy.*` and `storage.*`. */
import { parseNodeAddress } from "../address.ts";
import { boolean, choice, integer, list, text, type Field } from "../field.ts";
import { DAY_SECONDS } from "./values.ts";

/** Name of a key → what it is, in the order of the documentation. */
export const dataKeys = {
  "anti_entropy.enabled": boolean({
    fallback: true,
    reloads: "at once",
    doc: "Whether this node compares itself with its peers and heals differences.",
  }),
  "anti_entropy.interval_seconds": integer({
    fallback: 300,
    from: 1,
    to: 30 * DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds between comparisons.",
  }),
  "anti_entropy.peer_discovery_interval": integer({
    fallback: 600,
    from: 1,
    to: 30 * DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds between looks for new peers.",
  }),
  "anti_entropy.max_concurrent_syncs": integer({
    fallback: 3,
    from: 1,
    to: 1000,
    reloads: "at once",
    doc: "Comparisons running at once: so many begun here, and so many begun by peers.",
  }),
  "anti_entropy.broker_bytes_per_second": integer({
    fallback: 262_144,
    from: 0,
    to: 1_073_741_824,
    reloads: { notFromOrTo: [0] },
    doc: "Bytes a second that comparisons may send through the broker, with peers that cannot be reached otherwise; at least 4,096, and 0 is for none.",
  }),
  "anti_entropy.peer_list": list({
    fallback: [],
    allowed: "a list of `host:port` or `[ipv6]:port`, after `tls://` where TLS is spoken",
    accepts: (peer) => parseNodeAddress(peer) !== undefined,
    reloads: "at once",
    doc: "Client addresses of peers, besides those found over MQTT. `tls://host:port` is one at which TLS is spoken.",
  }),
  "anti_entropy.forget_after_days": integer({
    fallback: 30,
    from: 1,
    to: 36_500,
    reloads: "at once",
    doc: "Days without contact after which a member is forgotten; at least eight times the grace.",
  }),
  "anti_entropy.max_set_aside_mb": integer({
    fallback: 256,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of the file for entries that were refused rather than lost (`storage.path`).",
  }),

  "storage.engine": choice(["log", "memory"], {
    fallback: "log",
    doc: "`log` keeps the data in `storage.path`; `memory` starts empty and is filled by its peers.",
  }),
  "storage.persistence_enabled": boolean({
    fallback: true,
    doc: "`false` means the engine `memory`, whatever `storage.engine` says.",
  }),
  "storage.fsync": choice(["always", "everysec", "never"], {
    fallback: "everysec",
    doc: "When a write is safe from a power cut: before it is answered, within a second, or some time.",
  }),
  "storage.backup_interval_hours": integer({
    fallback: 0,
    from: 0,
    to: 8_760,
    reloads: "at once",
    doc: "Hours between backups that are made unasked; 0 makes none.",
  }),
  "storage.backup_path": text({
    fallback: "",
    isPath: true,
    allowed: "a path",
    accepts: (path) => !path.includes("\0"),
    reloads: "at once",
    doc: "Directory for backups; when empty, `backups` in `storage.path`.",
  }),
  "storage.backup_keep": integer({
    fallback: 7,
    from: 0,
    to: 100_000,
    reloads: "at once",
    doc: "How many of the unasked backups are kept; 0 keeps all.",
  }),
  "storage.max_backups": integer({
    fallback: 100,
    from: 1,
    to: 100_000,
    reloads: "at once",
    doc: "Backups that may be there when another is to be made on command.",
  }),
  "storage.min_free_mb": integer({
    fallback: 256,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of the disk that a backup leaves free; one that would take them is refused or given up.",
  }),
  "storage.path": text({
    fallback: "./data",
    allowed: "a path",
    accepts: (path) => path !== "" && !path.includes("\0"),
    doc: "Directory for data; `memory` writes only what was set aside there.",
  }),
  "storage.key_file": text({
    fallback: "",
    fallbackText: "(none)",
    allowed: "the path of a file, or empty",
    accepts: (path) => !path.includes("\0"),
    doc: "File with the key that log, snapshots, backups and what is set aside are sealed with; `merklekv keygen` makes one.",
  }),
  "storage.previous_key_files": list({
    fallback: [],
    allowed: "a list of paths",
    accepts: (path) => path !== "" && !path.includes("\0"),
    doc: "Files with former keys, to read what was sealed with them.",
  }),
  "storage.memory_limit_mb": integer({
    fallback: 0,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of data past which writes answer `Storage full`; 0 sets no limit.",
  }),
  "storage.max_clock_skew_ms": integer({
    fallback: 60_000,
    from: 1,
    to: DAY_SECONDS * 1000,
    doc: "Milliseconds a peer's clock may be ahead before its writes are refused.",
  }),
  "storage.tombstone_grace_seconds": integer({
    fallback: DAY_SECONDS,
    from: 1,
    to: 3650 * DAY_SECONDS,
    doc: "Seconds a deletion is remembered for peers that are away; the same everywhere.",
  }),
} satisfies Record<string, Field<unknown>>;
