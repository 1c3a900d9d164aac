/** What an afternoon on machines of their own takes: packages, a Debian, Prometheus. */
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { buildDeb } from "../../packaging/deb.ts";
import { sourceDateEpoch } from "../../packaging/project.ts";
import { compile, targets } from "../../packaging/targets.ts";
import { OLDEST } from "../../src/core/data/capabilities.ts";
import { binaryAs } from "../support/binary.ts";
import { findPrometheus } from "./prometheus.ts";
import { must, run } from "./run-command.ts";

/** The version before, played by a binary of the same sources, and this one; as .deb files. */
export interface Packages {
  readonly older: string;
  readonly newer: string;
}

/** Builds what is not given, into `directory`. */
export async function makePackages(given: Partial<Packages>, directory: string): Promise<Packages> {
  const newer = given.newer ?? (await buildNewer(directory));
  return { newer, older: given.older ?? (await makeOlder(newer, directory)) };
}

async function buildNewer(directory: string): Promise<string> {
  const machine = process.arch === "arm64" ? "linux-arm64" : "linux-x64";
  const target = targets.find(({ name }) => name === machine)!;
  const executable = await compile(target, directory);
  const options = { target, executable, epoch: await sourceDateEpoch(), revision: 1 };
  return join(directory, await buildDeb(options, directory));
}

/** The same package with another executable and a lower version. */
async function makeOlder(newer: string, directory: string): Promise<string> {
  const [unpacked, deb] = [join(directory, "unpacked"), join(directory, "older.deb")];
  await must("dpkg-deb", "-R", newer, unpacked);
  copyFileSync(await binaryAs(OLDEST, directory), join(unpacked, "usr/bin/merklekv"));
  const control = join(unpacked, "DEBIAN/control");
  const text = readFileSync(control, "utf8");
  writeFileSync(control, text.replace(/^(Version: .*-).*$/m, "$10"));
  await must("dpkg-deb", "--root-owner-group", "-Znone", "-b", unpacked, deb);
  rmSync(unpacked, { recursive: true });
  return deb;
}

/** A Debian with systemd in that directory: what is there, or a new one. */
export async function makeRoot(directory: string): Promise<void> {
  if (existsSync(join(directory, "lib/systemd/systemd"))) return;
  const include = "--include=systemd,systemd-sysv,adduser";
  const options = ["--quiet", "--variant=minbase", include, "bookworm", `${directory}.new`];
  await must("mmdebstrap", ...options);
  await rename(`${directory}.new`, directory);
}

/** Prometheus' executable: what is installed, or out of Debian's package; null without either. */
export async function getPrometheus(directory: string): Promise<string | null> {
  const installed = findPrometheus();
  if (installed !== null) return installed;
  const corner = join(directory, "prometheus");
  await mkdir(corner);
  const script = 'cd "$1" && apt-get download -q prometheus && dpkg -x prometheus_*.deb .';
  await run("sh", "-c", script, "sh", corner);
  const found = join(corner, "usr/bin/prometheus");
  return existsSync(found) ? found : null;
}
