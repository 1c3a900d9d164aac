/** A real browser for tests, without a window. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endProcess } from "./end-process.ts";

/** Where Chromium is installed; null when it is not. */
export const chromium: string | null = Bun.which("chromium") ?? Bun.which("google-chrome");
if (chromium === null) {
  console.warn("skipped: chromium is not installed (Debian: apt-get install chromium)");
}

/** Opens a page, with these names of hosts leading to 127.0.0.1, until `done` settles. */
export async function browse(
  url: string,
  hosts: readonly string[],
  done: Promise<unknown>,
): Promise<void> {
  const profile = mkdtempSync(join(tmpdir(), "merklekv-browser-"));
  const rules = hosts.map((host) => `MAP ${host} 127.0.0.1`).join(",");
  const flags = [
    ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    ...["--no-first-run", "--disable-extensions", "--disable-background-networking"],
    ...[`--user-data-dir=${profile}`, `--host-resolver-rules=${rules}`],
    // Stays until it is ended.
    "--remote-debugging-port=0",
  ];
  const child = Bun.spawn([chromium!, ...flags, url], { stdout: "ignore", stderr: "ignore" });
  try {
    const ended = child.exited.then((code) => Promise.reject(new Error(`chromium: ${code}`)));
    await Promise.race([done, ended]);
  } finally {
    await endProcess(child);
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
