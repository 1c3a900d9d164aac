/**
 * What the service manager is told that started this process: systemd, or another that speaks
 * sd_notify(3). It learns when the node is ready, how it is, and that its event loop still turns.
 */
import { fstatSync } from "node:fs";
import type { Check } from "../http/http-port.ts";
import type { Logger } from "../observability/log.ts";
import { OperationalError } from "../operational-error.ts";
import { every, type Cancel, type Timing } from "../timing.ts";
import type { NotifySocket } from "./notify-socket.ts";

const STDERR = 2;
/** Looked at the node so often, unless the watchdog wants to hear more often. */
const PERIOD_MS = 1_000;
/** The watchdog is told so many times in the time after which it bites. */
const SIGNS_A_WATCHDOG = 3;
/** A start takes as long as it takes: what it may need from now on, said again each period. */
const START_EXTENSION_US = 30_000_000;

const STARTING: readonly Check[] = [
  { name: "recovered", ok: false, reason: "the data is being read from disk" },
];

/** Whether standard error of a process in that environment leads to systemd's journal. */
export function isJournalRead(environment: Readonly<Record<string, string | undefined>>): boolean {
  const { JOURNAL_STREAM: journal } = environment;
  if (!journal) return false;
  const { dev, ino } = fstatSync(STDERR);
  return journal === `${dev}:${ino}`;
}

/** Tells a service manager of a node, or nobody when there is none. */
export class ServiceManager {
  private checks: () => readonly Check[] = () => STARTING;
  private serving = "";
  private status = "";
  private isReady = false;
  private isStopping = false;
  private readonly cancel: Cancel;

  /** `socket` is null where nobody wants to know; `watchdogMs` where nothing bites. */
  constructor(
    private readonly socket: NotifySocket | null,
    private readonly watchdogMs: number | null,
    timing: Timing,
    private readonly logger: Logger,
  ) {
    const periodMs = Math.min(PERIOD_MS, (watchdogMs ?? Infinity) / SIGNS_A_WATCHDOG);
    this.cancel = socket === null ? () => {} : every(timing, periodMs, () => this.look());
    this.look();
  }

  /** The node is up: `checks` says what it takes to be ready, and `serving` what it does then. */
  watch(checks: () => readonly Check[], serving: string): void {
    this.checks = checks;
    this.serving = serving;
    this.look();
  }

  /** Its configuration is being read again; to be followed by `reloaded`. */
  reloading(): void {
    if (!this.isReady || this.socket === null) return;
    // The moment lets the manager tell this reload from an older one.
    this.tell(["RELOADING=1", `MONOTONIC_USEC=${this.socket.monotonicUs()}`]);
  }

  /** The end of what `reloading` has begun, whether it has changed anything or not. */
  reloaded(): void {
    if (this.isReady) this.tell(["READY=1"]);
  }

  /** The node stops. */
  stopping(): void {
    this.isStopping = true;
    this.tell(["STOPPING=1", "STATUS=stopping"]);
  }

  /** Tells no more. */
  close(): void {
    this.cancel();
  }

  /** Tells that the event loop turns, and what has changed. */
  private look(): void {
    const lines = this.watchdogMs === null ? [] : ["WATCHDOG=1"];
    if (!this.isStopping) lines.push(...this.news());
    if (lines.length > 0) this.tell(lines);
  }

  private news(): string[] {
    const lines: string[] = [];
    const missing = this.checks().filter(({ ok }) => !ok);
    if (!this.isReady && missing.length === 0) {
      this.isReady = true;
      lines.push("READY=1");
    }
    if (!this.isReady) lines.push(`EXTEND_TIMEOUT_USEC=${START_EXTENSION_US}`);
    const reasons = missing.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
    const status = reasons === "" ? this.serving : `not ready: ${reasons}`;
    if (status !== this.status) lines.push(`STATUS=${status.replace(/\s+/g, " ")}`);
    this.status = status;
    return lines;
  }

  private tell(lines: readonly string[]): void {
    if (this.socket === null || this.socket.send(lines.join("\n"))) return;
    this.logger.warn("The service manager that NOTIFY_SOCKET names cannot be told how the node is");
  }
}

/** By what the environment says. Throws an Error of one line when that cannot be followed. */
export async function openServiceManager(
  env: Readonly<Record<string, string | undefined>>,
  timing: Timing,
  logger: Logger,
): Promise<ServiceManager> {
  const path = env.NOTIFY_SOCKET ?? "";
  if (path === "") return new ServiceManager(null, null, timing, logger);
  try {
    // Only here, because it costs memory that most nodes need not spend.
    const { openNotifySocket } = await import("./notify-socket.ts");
    return new ServiceManager(openNotifySocket(path), watchdogMsOf(env), timing, logger);
  } catch (error) {
    throw new OperationalError(`NOTIFY_SOCKET=${path}: ${(error as Error).message}`);
  }
}

/** Null when no watchdog watches this process. */
function watchdogMsOf(env: Readonly<Record<string, string | undefined>>): number | null {
  const { WATCHDOG_USEC: us = "", WATCHDOG_PID: pid = "" } = env;
  if (!/^[1-9]\d{0,15}$/.test(us) || (pid !== "" && Number(pid) !== process.pid)) return null;
  return Number(us) / 1_000;
}
