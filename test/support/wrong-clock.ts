/**
 * Makes the wall clock wrong for a process of the real binary: a small C library that is loaded into
 * it (`wrong-clock.c`). Takes Linux and a C compiler.
 */
import { mkdtempSync, openSync, rmSync, writeFileSync, writeSync, closeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SOURCE = join(import.meta.dir, "wrong-clock.c");

/** The wall clock of the processes that run in `env`. */
export class WrongClock {
  /** What a process needs in its environment. */
  readonly env: Record<string, string>;
  private readonly file: string;

  /**
   * Off by `offMs` at first. Keeps what it takes in that directory. Throws with the compiler's
   * output when it cannot be made.
   */
  constructor(
    offMs: number,
    private readonly directory = mkdtempSync(join(tmpdir(), "merklekv-clock-")),
  ) {
    this.file = join(directory, "offset");
    const library = join(this.directory, "wrong-clock.so");
    const command = ["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"];
    const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
    if (exitCode !== 0) throw new Error(`cannot compile ${SOURCE}:\n${stderr.toString()}`);
    writeFileSync(this.file, bytesOf(offMs));
    this.env = { LD_PRELOAD: library, WRONG_CLOCK: this.file };
  }

  /** From now on it is off by so much. */
  set(offMs: number): void {
    // The same file: it is mapped into the process.
    const file = openSync(this.file, "r+");
    writeSync(file, bytesOf(offMs), 0, 8, 0);
    closeSync(file);
  }

  /** Removes what was made for it. */
  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** Why there can be no wrong clock here; empty when there can. */
export const noWrongClock: string = whyNot();

function whyNot(): string {
  if (process.platform !== "linux") return "a clock is made wrong with LD_PRELOAD, on Linux";
  if (Bun.which("cc") !== null) return "";
  return "a wrong clock takes a C compiler (apt-get install gcc libc6-dev)";
}

function bytesOf(offMs: number): Uint8Array {
  return new Uint8Array(new BigInt64Array([BigInt(Math.round(offMs))]).buffer);
}
