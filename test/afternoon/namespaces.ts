/**
 * Where machines of their own live: namespaces for mounts, processes and network that end with this
 * process, however it ends. The system outside is not touched.
 */
import { must, run } from "./run-command.ts";

/** The first numbers of the addresses in there. */
export const NET = "10.77.0";
/** What machines are connected to. */
export const BRIDGE = "mkvbridge";

const NEEDED = ["unshare", "nsenter", "ip", "mount", "mosquitto", "dpkg-deb", "mmdebstrap", "cc"];
const SEARCH_PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;

/** Why there can be none here; empty when there can. */
export async function whyNoMachines(hasRoot: boolean): Promise<string> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "it takes root, on Linux";
  const needed = NEEDED.filter((name) => !(hasRoot && name === "mmdebstrap"));
  const missing = needed.filter((name) => Bun.which(name, { PATH: SEARCH_PATH }) === null);
  if (missing.length > 0) return `${missing.join(", ")}: not installed`;
  const { code, output } = await run("unshare", ...NAMESPACES, "true");
  return code === 0 ? "" : output.trim();
}

const NAMESPACES = [
  ...["--mount", "--net", "--pid", "--mount-proc", "--uts", "--ipc"],
  ...["--fork", "--kill-child=KILL"],
];

/** Runs this program again, inside; its exit code. It ends when this process does. */
export async function runInside(work: string, args: readonly string[]): Promise<number> {
  const program = [process.execPath, process.argv[1], ...args];
  // When this process is gone its standard input ends, and so does what is inside.
  const child = Bun.spawn(["unshare", ...NAMESPACES, ...program], {
    stdio: ["pipe", "inherit", "inherit"],
    // What is left there is gone with the namespaces.
    env: { ...process.env, TMPDIR: work },
  });
  return child.exited;
}

/** Inside: a file system in memory at `work`, and a network of its own. */
export async function furnish(work: string): Promise<void> {
  process.stdin.on("end", () => process.exit(1)).resume();
  const commands = [
    ["mount", "-t", "tmpfs", "tmpfs", work],
    ["ip", "link", "set", "lo", "up"],
    ["ip", "link", "add", BRIDGE, "type", "bridge"],
    ...[1, 2].map((last) => ["ip", "addr", "add", `${NET}.${last}/24`, "dev", BRIDGE]),
    ["ip", "link", "set", BRIDGE, "up"],
  ];
  for (const command of commands) await must(...command);
}
