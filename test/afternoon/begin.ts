/** Everything before the afternoon proper: machines, broker, packages, a cluster, and who watches it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { Authority } from "../support/certificates.ts";
import { freePort, Mosquitto } from "../support/mosquitto.ts";
import type { Afternoon, Certificate } from "./afternoon.ts";
import type { Machine } from "./machine.ts";
import { Prometheus } from "./prometheus.ts";
import { addWatcher, installAll, join, makeSecrets } from "./story.ts";
import type { Tally } from "./tally.ts";

/** What an afternoon is begun with. */
export interface Beginning {
  readonly tally: Tally;
  readonly machines: readonly [Machine, Machine, Machine];
  /** Where the broker is reached from the machines. */
  readonly host: string;
  /** Prometheus' executable; null to go without. */
  readonly prometheus: string | null;
  /** Times in the rules are divided by so much. */
  readonly haste: number;
}

/** Everything that is open, the last first: to be closed whatever happens. */
export type Closing = AsyncDisposableStack;

/** See the file header. What is opened is closed with `closing`. */
export async function begin(options: Beginning, closing: Closing): Promise<Afternoon> {
  const { tally, machines, host } = options;
  const directory = mkdtempSync(joinPath(tmpdir(), "merklekv-afternoon-"));
  closing.defer(() => rmSync(directory, { recursive: true, force: true }));
  const brokerRules = joinPath(directory, "rules");
  writeFileSync(brokerRules, "topic readwrite #\n");
  const rules = [`acl_file ${brokerRules}`, ...(process.getuid?.() === 0 ? ["user root"] : [])];
  // What is looked at from here it listens at as well.
  const broker = await Mosquitto.start(rules, host === "127.0.0.1" ? host : "0.0.0.0");
  closing.defer(() => broker.stop());
  const authority = new Authority();
  closing.defer(() => authority.remove());
  const addresses = new Set(["127.0.0.1", ...machines.map(({ address }) => address)]);
  const alternatives = [...addresses].map((address) => `IP:${address}`).join(",");
  const certificate = (days: number): Certificate => {
    const { cert, key } = authority.issue({ days, alternatives });
    const [one, two, three] = [cert, key, authority.caFile].map((it) => readFileSync(it, "utf8"));
    return { cert: one, key: two, authority: three };
  };
  await installAll(machines, tally);
  const address = `mqtt://${host}:${broker.port}`;
  const secrets = await makeSecrets(machines[0], address);
  for (const machine of machines) await join(machine, secrets, address, certificate(90));
  const logins = { admin: secrets.admin, watch: "watching" };
  for (const machine of machines) await addWatcher(machine, logins);
  const { haste } = options;
  const prometheus =
    options.prometheus === null
      ? null
      : Prometheus.start(options.prometheus, machines, logins, haste, await freePort());
  if (prometheus !== null) closing.defer(() => prometheus.close());
  await prometheus?.untilScraped(machines.length);
  const names = new Map<Machine, string>();
  const untilAlert = async (name: string, sinceMs?: number): Promise<string> =>
    prometheus?.untilFires(name, sinceMs) ?? "";
  const parts = { broker, brokerRules, prometheus, certificate, names, untilAlert };
  return { machines, logins, tally, ...parts };
}
