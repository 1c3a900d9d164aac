/** The afternoon itself: from the package to an upgrade, with everything broken in between. */
import { chownSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { eventually } from "../support/eventually.ts";
import { order, untilReady, untilWell, type Afternoon, type Certificate } from "./afternoon.ts";
import { breakAndMend } from "./break-and-mend.ts";
import type { Fault } from "./fault.ts";
import { Writer } from "./load.ts";
import * as place from "./machine.ts";
import { edit, type Machine } from "./machine.ts";
import { metricsOf, tell, untilEqual, type Logins } from "./sight.ts";
import type { Tally } from "./tally.ts";

/** What the first machine makes for all. */
export interface Secrets {
  readonly cluster: string;
  readonly users: string;
  readonly admin: string;
}

/** Of a log, shown where something went wrong. */
const LAST_LINES = 12;
const PASSWORD = /shown only now:\s+(\S+)/;

/** Puts the version before on every machine, and says what runs there. */
export async function installAll(machines: readonly Machine[], tally: Tally): Promise<void> {
  for (const machine of machines) {
    await tally.look(`${machine.name}: the package is installed, and a node runs`, async () => {
      await machine.install("older");
      const { code, output } = await machine.merklekv("cli", "-p", `${machine.port}`, "PING");
      if (code !== 0) throw new Error(output);
      return output.trim();
    });
  }
}

/** `merklekv init` on the first machine. */
export async function makeSecrets(machine: Machine, broker: string): Promise<Secrets> {
  const made = machine.path("/var/lib/merklekv/first");
  const { output } = await machine.merklekv("init", "/var/lib/merklekv/first", "--broker", broker);
  const admin = PASSWORD.exec(output)?.[1];
  if (admin === undefined) throw new Error(output);
  const read = (name: string): string => readFileSync(`${made}/${name}`, "utf8");
  return { cluster: read("cluster.key"), users: read("users.acl"), admin };
}

/** What somebody does on each machine who follows docs/installing.md and docs/monitoring.md. */
export async function join(
  machine: Machine,
  secrets: Secrets,
  broker: string,
  certificate: Certificate,
): Promise<void> {
  put(machine, place.SECRET, secrets.cluster);
  put(machine, place.USERS, secrets.users);
  put(machine, place.CERTIFICATE, certificate.cert);
  put(machine, place.CERTIFICATE_KEY, certificate.key);
  put(machine, place.AUTHORITY, certificate.authority);
  put(machine, "/root/admin.password", `${secrets.admin}\n`, "root");
  edit(machine, {
    "network.bind_address": "0.0.0.0",
    "network.tls_port": 0,
    "mqtt.enabled": true,
    "mqtt.broker_address": broker,
    "cluster.secret_file": place.SECRET,
    "auth.acl_file": place.USERS,
    "http.bind_port": 9464,
    "http.bind_address": "0.0.0.0",
    "tls.cert_file": place.CERTIFICATE,
    "tls.key_file": place.CERTIFICATE_KEY,
    "tls.ca_file": place.AUTHORITY,
    "audit.file": place.AUDIT,
    "logging.format": "json",
    // So that an afternoon is long enough.
    "anti_entropy.interval_seconds": 1,
    "network.idle_timeout": 0,
  });
  await machine.service("restart");
}

/** A file for its owner alone: that of the directory, or root. */
function put(machine: Machine, inside: string, text: string, owner?: "root"): void {
  const path = machine.path(inside);
  writeFileSync(path, text, { mode: 0o600 });
  if (owner === "root") return;
  const { uid, gid } = statSync(machine.path("/etc/merklekv"));
  chownSync(path, uid, gid);
}

/** A user who may see how it is and nothing else, on each node. */
export async function addWatcher(machine: Machine, logins: Logins): Promise<void> {
  const user = `ACL SETUSER watch on >${logins.watch} +info +members`;
  const replies = await tell(machine, logins, [user, "ACL SAVE"]);
  if (replies.some((reply) => reply !== "OK")) throw new Error(replies.join(", "));
}

/**
 * See the file header; from the moment on when the three nodes are a cluster. `upgrades`: whether
 * there is another version to upgrade to.
 */
export async function spend(
  it: Afternoon,
  faults: readonly Fault[],
  upgrades = true,
): Promise<void> {
  const { machines, tally, logins } = it;
  const [one] = machines;
  await tally.look("merklekv status: all is well", async () => {
    await untilWell(it);
    await order(it, one, "SET city Oslo");
    return `root ${(await untilEqual(machines, logins)).slice(0, 8)} on all three`;
  });
  for (const fault of faults) {
    tally.section(fault.title);
    await breakAndMend(it, fault);
  }
  tally.section("afterwards");
  await tally.look("a setting that is changed in the file is in effect after a reload", () =>
    reloadSetting(it, one),
  );
  if (!upgrades) return;
  await tally.look("each node is upgraded under load, and nothing is lost", () => upgrade(it));
}

async function reloadSetting(it: Afternoon, machine: Machine): Promise<string> {
  edit(machine, { "slowlog.max_len": 77 });
  await machine.service("reload");
  return eventually("the slow log has another length", async () => {
    const [reply] = await tell(machine, it.logins, ["CONFIG GET slowlog.max_len"]);
    return reply === "slowlog.max_len:77" ? reply : undefined;
  });
}

async function upgrade(it: Afternoon): Promise<string> {
  const { machines, logins } = it;
  const writers = machines.map((machine) => new Writer(machine, logins));
  const enough = (): boolean => writers.every(({ acknowledged }) => acknowledged.length > 200);
  await eventually("there is load", enough);
  const before = await startsOf(machines, logins);
  for (const machine of machines) {
    await machine.install("newer");
    await untilReady(it).catch(async (error: Error) => {
      const lines = (await machine.log()).trimEnd().split("\n").slice(-LAST_LINES);
      throw new Error(`${error.message}\n${machine.name} said last:\n${lines.join("\n")}`);
    });
  }
  const after = await startsOf(machines, logins);
  if (machines.some((_, i) => !(after[i] > before[i]))) throw new Error("one was not restarted");
  await Promise.all(writers.map((writer) => writer.stop()));
  const root = await untilEqual(machines, logins);
  for (const machine of machines) {
    for (const writer of writers) {
      const missing = await writer.missingAt(machine);
      if (missing.length > 0) throw new Error(`${machine.name} lacks ${missing.slice(0, 5)}…`);
    }
  }
  const written = writers.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);
  return `${written} acknowledged writes are on all three, root ${root.slice(0, 8)}`;
}

/** When each node started, in seconds of this machine's clock. */
async function startsOf(machines: readonly Machine[], logins: Logins): Promise<number[]> {
  return Promise.all(
    machines.map(async (machine) => {
      const samples = await metricsOf(machine, logins);
      const uptime = samples.find(({ name }) => name === "merklekv_uptime_seconds")!;
      return Date.now() / 1_000 - uptime.value;
    }),
  );
}
