/** The machines that packages are built for, and the runtime that the executable carries for each. */
import { $ } from "bun";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { lockedPackage } from "./lockfile.ts";
import { projectRoot } from "./project.ts";

/** One kind of machine. */
export interface Target {
  /** In the names of archives: `linux-x64`. */
  readonly name: string;
  /** The npm package that holds the runtime. bun.lock says which version, and its checksum. */
  readonly runtime: string;
  /** What Debian calls the machine; null where it has no such packages. */
  readonly debian: "amd64" | "arm64" | null;
}

/** All of them. */
export const targets: readonly Target[] = [
  { name: "linux-x64", runtime: "@oven/bun-linux-x64", debian: "amd64" },
  { name: "linux-arm64", runtime: "@oven/bun-linux-aarch64", debian: "arm64" },
  { name: "linux-x64-musl", runtime: "@oven/bun-linux-x64-musl", debian: null },
];

/**
 * Compiles the executable for a machine into `directory`, beside maps of its sources, which are in
 * it as well; its path. It comes out the same to the
 * byte wherever the project lies. Throws an Error when it cannot be compiled.
 */
export async function compile(target: Target, directory: string): Promise<string> {
  const outfile = join(directory, `merklekv-${target.name}`);
  const runtime = await fetchRuntime(target);
  const { exitCode, stdout, stderr } =
    await $`${process.execPath} run compile --compile-executable-path ${runtime} --outfile ${outfile}`
      .cwd(projectRoot)
      .quiet()
      .nothrow();
  if (exitCode !== 0) throw new Error(`${target.name}: ${stdout.toString()}${stderr.toString()}`);
  return outfile;
}

/** The runtime for a machine, kept below node_modules once it was fetched and verified. */
async function fetchRuntime({ runtime }: Target): Promise<string> {
  const { version, integrity } = lockedPackage(runtime);
  const directory = join(projectRoot, "node_modules/.runtimes", `${runtime}@${version}`);
  const path = join(directory, "package/bin/bun");
  if (existsSync(path)) return path;
  const fresh = `${directory}.${process.pid}`;
  await mkdir(fresh, { recursive: true });
  try {
    await $`npm pack --silent --pack-destination ${fresh} ${runtime}@${version}`.quiet();
    const [archive] = new Bun.Glob("*.tgz").scanSync({ cwd: fresh, absolute: true });
    const bytes = await Bun.file(archive).bytes();
    const found = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
    if (found !== integrity) throw new Error(`${runtime}@${version} is not what bun.lock says`);
    await $`tar -xzf ${archive} -C ${fresh} package/bin/bun`.quiet();
    await rm(archive);
    await rename(fresh, directory);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return path;
}
