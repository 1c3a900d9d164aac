/**
 * Every subcommand, once. Each is loaded on demand, which keeps the small ones quick to start.
 */
import type { Subcommand } from "./arguments.ts";

/** What the overview, the manual pages and the completions of shells know of a subcommand. */
export interface SubcommandRow {
  /** What it does, in a line. */
  readonly about: string;
  /** Its options and its work. */
  load(): Promise<Subcommand>;
}

/** Name → subcommand, in the order of the overview. */
export const subcommands: Record<string, SubcommandRow> = {
  serve: {
    about: "Run a node (the default)",
    load: async () => (await import("./serve.ts")).serve,
  },
  demo: {
    about: "Run a broker and three nodes, and show them replicate and heal",
    load: async () => (await import("./demo.ts")).demo,
  },
  broker: {
    about: "Run an MQTT broker alone",
    load: async () => (await import("./broker.ts")).broker,
  },
  cli: {
    about: "Talk to a node: a prompt, or one command",
    load: async () => (await import("./cli.ts")).cli,
  },
  config: {
    about: "Check a configuration, or show what is in effect",
    load: async () => (await import("./config.ts")).config,
  },
  status: {
    about: "Show the whole cluster from one node",
    load: async () => (await import("./status.ts")).status,
  },
  doctor: {
    about: "Look at what a node needs, and say what to do",
    load: async () => (await import("./doctor.ts")).doctor,
  },
  keygen: {
    about: "Make a secret for a cluster",
    load: async () => (await import("./keygen.ts")).keygen,
  },
  check: {
    about: "Verify a data directory, and repair it",
    load: async () => (await import("./check.ts")).check,
  },
  backup: {
    about: "Fetch a backup of a running node",
    load: async () => (await import("./backup.ts")).backup,
  },
  restore: {
    about: "Make a data directory of a backup",
    load: async () => (await import("./restore.ts")).restore,
  },
  init: {
    about: "Make a directory for a node: configuration, secret, first user",
    load: async () => (await import("./init.ts")).init,
  },
  unseal: {
    about: "Print entries that were set aside in a sealed file",
    load: async () => (await import("./unseal.ts")).unseal,
  },
  diff: {
    about: "List what differs between two nodes, and change nothing",
    load: async () => (await import("./diff.ts")).diff,
  },
};
