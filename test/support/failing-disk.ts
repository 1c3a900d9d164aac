/**
 * Makes the disk fail for a process of the real binary, on real files: a small C library that is
 * loaded into it (`failing-disk.c`). Takes Linux on x86-64 or arm64 and a C compiler, nothing else: no
 * root, no tracing, no special file system.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What can fail; see `failing-disk.c`. */
export type Failure = "sync" | "write" | "read" | "slow" | "stderr";

const SOURCE = join(import.meta.dir, "failing-disk.c");

/** A switch for the failures of the processes that run in `env`. */
export class FailingDisk {
  /** What a process needs in its environment. */
  readonly env: Record<string, string>;

  /** Keeps what it takes in that directory. Throws with the compiler's output when it cannot be made. */
  constructor(private readonly directory = mkdtempSync(join(tmpdir(), "merklekv-failing-"))) {
    const library = join(this.directory, "failing-disk.so");
    const command = ["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"];
    const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
    if (exitCode !== 0) throw new Error(`cannot compile ${SOURCE}:\n${stderr.toString()}`);
    this.env = { LD_PRELOAD: library, FAILING_DISK: this.directory };
  }

  /** Begins to fail. */
  fail(failure: Failure): void {
    writeFileSync(join(this.directory, failure), "");
  }

  /** Fails no longer. */
  mend(failure: Failure): void {
    rmSync(join(this.directory, failure), { force: true });
  }

  /** Removes what was made for it. */
  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** Why there can be no failing disk here; empty when there can. */
export const noFailingDisk: string = whyNot();

function whyNot(): string {
  if (process.platform !== "linux") return "a failing disk is made with LD_PRELOAD, on Linux";
  if (Bun.which("cc") === null) {
    return "a failing disk takes a C compiler (apt-get install gcc libc6-dev)";
  }
  const disk = new FailingDisk();
  try {
    const { exitCode } = Bun.spawnSync(["true"], { env: { ...process.env, ...disk.env } });
    return exitCode === 0 ? "" : "a failing disk takes a system that allows seccomp filters";
  } finally {
    disk.remove();
  }
}
