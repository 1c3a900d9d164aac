/**
 * Removes what an afternoon leaves behind, however its process ends, be it by SIGKILL: a shell in a
 * session of its own that waits until nobody can write to it any more.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What still runs is killed first; it may take a moment to be gone. */
const SCRIPT = `
trap '' HUP INT TERM
cat >/dev/null
if [ -n "$2" ]; then
  for try in $(seq 300); do
    echo 1 >"$2/cgroup.kill"
    find "$2" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$2" ] || break
    sleep 0.1
  done
fi
rm -rf --one-file-system "$1"
`;

/** See the file header. */
export class Janitor {
  private readonly shell: Bun.Subprocess<"pipe", "ignore", "inherit">;
  /** The control group of this process before. */
  private readonly former: string | null = null;
  private cleared: Promise<void> | null = null;

  /** `group`: from now on this process and its children are in a control group below that one. */
  constructor(directory: string, group: string | null) {
    const args = ["sh", directory, group ?? ""];
    this.shell = Bun.spawn(["setsid", "sh", "-c", SCRIPT, ...args], {
      stdio: ["pipe", "ignore", "inherit"],
    });
    if (group === null) return;
    this.former = join(group, "..");
    const own = join(group, "own");
    mkdirSync(own);
    enter(own);
  }

  /** All but this process is over: kills what still runs, and removes it all. */
  clear(): Promise<void> {
    return (this.cleared ??= this.clearOnce());
  }

  private async clearOnce(): Promise<void> {
    if (this.former !== null) enter(this.former);
    await this.shell.stdin.end();
    await this.shell.exited;
  }
}

function enter(group: string): void {
  writeFileSync(join(group, "cgroup.procs"), `${process.pid}`);
}

/** A new control group below this process's own. Throws where there can be none. */
export function makeGroup(): string {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  const mount = mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2");
  if (mount === undefined) throw new Error("there are no control groups of version 2");
  const own = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))![1];
  const group = join(mount[1], own, `merklekv-afternoon-${process.pid}`);
  mkdirSync(group);
  return group;
}
