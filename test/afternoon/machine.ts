/** A machine with one node on it, which runs as a service: what the afternoon does to it. */
import { readFileSync, writeFileSync } from "node:fs";

/** What a program on a machine said. */
export interface Ended {
  readonly code: number;
  readonly output: string;
}

/** Two ways: a Debian of its own in which systemd runs, or a process of this system. */
export interface Machine {
  readonly name: string;
  /** Where its ports are reached. */
  readonly address: string;
  /** From where somebody may call who is nobody in this. */
  readonly strangersAddress: string;
  readonly port: number;
  readonly httpPort: number;
  /** Where the test finds a file of the machine. */
  path(inside: string): string;
  /** A text with paths of a machine, as it has to be on this one. */
  local(text: string): string;
  /** Installs the package of the version before, or of this one; it starts or restarts the node. */
  install(version: "older" | "newer"): Promise<void>;
  /** What `systemctl VERB merklekv` does. Rejects when it fails. */
  service(verb: "start" | "stop" | "restart" | "reload"): Promise<void>;
  /** Sends the node's process a signal. What ends it so is started again only by a service manager. */
  signal(name: "KILL" | "STOP" | "CONT"): Promise<void>;
  /** Runs merklekv there, as root. */
  merklekv(...args: string[]): Promise<Ended>;
  /** Everything that its node has logged. */
  log(): Promise<string>;
  /** Takes all room on its disk but for so many bytes, or gives it back. */
  fillDisk(leaveBytes: number): Promise<void>;
  freeDisk(): Promise<void>;
  /** Each sync of its disk takes longer than a second, or no longer does. */
  slowDisk(isSlow: boolean): void;
  /** From now on its wall clock is off by so much. */
  setClock(offMs: number): void;
  /** Ends all that runs there, and removes it. */
  close(): Promise<void>;
}

/** Where things are on a machine with the package. */
export const CONFIG = "/etc/merklekv/node.toml";
export const SECRET = "/etc/merklekv/cluster.key";
export const USERS = "/var/lib/merklekv/users.acl";
export const CERTIFICATE = "/etc/merklekv/tls.crt";
export const CERTIFICATE_KEY = "/etc/merklekv/tls.key";
export const AUTHORITY = "/etc/merklekv/ca.crt";
export const ENVIRONMENT = "/etc/default/merklekv";
export const AUDIT = "/var/lib/merklekv/node/audit.jsonl";

/**
 * Changes settings in the machine's configuration as a person does, who edits the lines that are
 * there, and takes away the mark of a comment. `null` makes a line a comment again.
 */
export function edit(machine: Machine, settings: Readonly<Record<string, unknown>>): void {
  const path = machine.path(CONFIG);
  let text = readFileSync(path, "utf8");
  for (const [key, value] of Object.entries(settings)) {
    const shown = value === null ? null : machine.local(JSON.stringify(value));
    text = withSetting(text, key, shown);
  }
  // In place: it keeps its owner and mode, and a node notices.
  writeFileSync(path, text);
}

/** The text with `section.key` set to a value in TOML, or to nothing. */
export function withSetting(text: string, name: string, value: string | null): string {
  const [section, key] = name.split(".") as [string, string];
  const lines = text.split("\n");
  const head = lines.findIndex((line) => line.replace(/^#\s*/, "") === `[${section}]`);
  if (head === -1) return value === null ? text : `${text}\n[${section}]\n${key} = ${value}\n`;
  const next = lines.findIndex((line, i) => i > head && /^#?\s*\[/.test(line));
  const end = next === -1 ? lines.length : next;
  const found = lines.findIndex(
    (line, i) => i > head && i < end && new RegExp(`^#?\\s*${key} = `).test(line),
  );
  if (value === null) {
    if (found !== -1) lines[found] = `#${lines[found].replace(/^#/, "")}`;
  } else {
    lines[head] = `[${section}]`;
    if (found === -1) lines.splice(head + 1, 0, `${key} = ${value}`);
    else lines[found] = `${key} = ${value}`;
  }
  return lines.join("\n");
}
