/** A run of tests that says nothing any more is told of with what is alive in it. */
import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { descendantsOf, tellOfSilence } from "../suite/silence.ts";
import { eventually } from "../support/eventually.ts";

test.skipIf(process.platform !== "linux")("who is alive is told each time", async () => {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-silence-"));
  const path = join(directory, "output");
  const file = openSync(path, "a");
  const child = Bun.spawn(["sh", "-c", "sleep 417 & wait"], { stdin: "ignore" });
  const endTelling = tellOfSilence(file, child.pid, { quietMs: 30, lookMs: 5 });
  const times = () => readFileSync(path, "utf8").split(/Alive:\n  \d+ \w sleep 417\n/).length;
  try {
    for (const said of ["one", "another"]) {
      const before = times();
      writeSync(file, `(pass) ${said}\n`);
      await eventually("it is told", () => times() > before);
    }
    expect(descendantsOf(process.pid).join("\n")).toContain("sh -c sleep 417 & wait");
  } finally {
    endTelling();
    for (const line of descendantsOf(child.pid)) process.kill(parseInt(line), "SIGKILL");
    child.kill("SIGKILL");
    await child.exited;
    closeSync(file);
    rmSync(directory, { recursive: true });
  }
});
