/**
 * A machine of its own: a Debian in which systemd runs, in namespaces, and where the package is
 * installed. Takes root. What runs there ends with the process that started it, and all it writes
 * is in a file system in memory.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { projectRoot } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { FailingDisk } from "../support/failing-disk.ts";
import { WrongClock } from "../support/wrong-clock.ts";
import type { Ended, Machine } from "./machine.ts";
import { must, run } from "./run-command.ts";

const BOOT = join(projectRoot, "packaging/trial/boot");
/** Of the disk that can be filled: alerts tell of less than a gigabyte. */
const DISK_BYTES = 1_400_000_000;
const DATA = "/var/lib/merklekv/node";
const LIBRARIES = "/usr/local/lib/merklekv";
const PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/** What machines are made of. */
export interface Place {
  /** A Debian with systemd; it is only read. */
  readonly root: string;
  /** A file system in memory, for what machines write. */
  readonly work: string;
  /** A directory of control groups for this trial. */
  readonly groups: string;
  /** The bridge they are connected to, and its address without the last number. */
  readonly bridge: string;
  readonly net: string;
  readonly packages: { readonly older: string; readonly newer: string };
}

/** See the file header. */
export class ServiceMachine implements Machine {
  readonly port = 7379;
  readonly httpPort = 9464;
  readonly address: string;
  readonly strangersAddress: string;
  private init = 0;
  private disk: FailingDisk | null = null;
  private clock: WrongClock | null = null;

  private constructor(
    readonly name: string,
    number: number,
    private readonly place: Place,
    private readonly fault: "disk" | "clock" | "none",
  ) {
    this.address = `${place.net}.${10 + number}`;
    this.strangersAddress = `${place.net}.2`;
  }

  /** Boots one. Rejects with what systemd said when it does not come up. */
  static async boot(
    name: string,
    number: number,
    place: Place,
    fault: "disk" | "clock" | "none",
  ): Promise<ServiceMachine> {
    const machine = new ServiceMachine(name, number, place, fault);
    await machine.boot(number);
    return machine;
  }

  private async boot(number: number): Promise<void> {
    const { root, work, groups, bridge, packages } = this.place;
    const own = join(work, this.name);
    const [upper, scratch, merged] = ["upper", "scratch", "root"].map((it) => join(own, it));
    for (const path of [upper, scratch, merged]) mkdirSync(path, { recursive: true });
    const layers = `lowerdir=${root},upperdir=${upper},workdir=${scratch}`;
    await must("mount", "-t", "overlay", "overlay", "-o", layers, merged);
    writeFileSync(join(merged, "etc/hostname"), `${this.name}\n`);
    for (const path of Object.values(packages)) {
      copyFileSync(path, join(merged, "root", basename(path)));
    }
    this.prepareFault(merged);
    const group = join(groups, this.name);
    mkdirSync(group);
    const namespaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net"];
    const start = `echo 0 >"$1/cgroup.procs"; shift; exec unshare "$@"`;
    const log = Bun.file(join(own, "boot.log"));
    const outside = Bun.spawn(
      [
        ...["sh", "-c", start, "sh", group, ...namespaces],
        ...["--fork", "--kill-child=KILL", BOOT, merged],
      ],
      { stdin: "ignore", stdout: log, stderr: log },
    );
    const children = `/proc/${outside.pid}/task/${outside.pid}/children`;
    this.init = await eventually(`${this.name}: systemd begins`, async () => {
      if (outside.exitCode !== null) throw new Error(await log.text());
      const child = Number(readFileSync(children, "utf8").trim().split(" ")[0]);
      const isThere = child > 0 && readFileSync(`/proc/${child}/comm`, "utf8") === "systemd\n";
      return isThere ? child : undefined;
    });
    const [near, far] = [`mkv${number}`, "eth0"];
    const init = `${this.init}`;
    await must("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", init);
    await must("ip", "link", "set", near, "master", bridge, "up");
    const inside = (...args: string[]): Promise<string> =>
      must("nsenter", "-t", init, "-n", "ip", ...args);
    await inside("addr", "add", `${this.address}/24`, "dev", far);
    await inside("link", "set", far, "up");
    await eventually(`${this.name}: systemd is up`, async () => {
      const { output } = await this.inside("systemctl", "is-system-running");
      return /running|degraded/.test(output);
    });
  }

  /** The libraries that make its disk or clock fail, for the service to load. */
  private prepareFault(root: string): void {
    if (this.fault === "none") return;
    const directory = join(root, LIBRARIES);
    mkdirSync(directory, { recursive: true });
    if (this.fault === "disk") this.disk = new FailingDisk(directory);
    else this.clock = new WrongClock(0, directory);
    const { env } = (this.disk ?? this.clock)!;
    const lines = Object.entries(env).map(
      ([name, value]) => `Environment=${name}=${value.replace(root, "")}\n`,
    );
    const dropIn = join(root, "etc/systemd/system/merklekv.service.d");
    mkdirSync(dropIn, { recursive: true });
    writeFileSync(join(dropIn, "fault.conf"), `[Service]\n${lines.join("")}`);
  }

  path(inside: string): string {
    return join(`/proc/${this.init}/root`, inside);
  }

  local(text: string): string {
    return text;
  }

  async install(version: "older" | "newer"): Promise<void> {
    const isFirst = !(await Bun.file(this.path("/usr/bin/merklekv")).exists());
    if (isFirst && this.fault === "disk") await this.mountDisk();
    const deb = `/root/${basename(this.place.packages[version])}`;
    const { code, output } = await this.inside("apt-get", "install", "-y", deb);
    if (code !== 0) throw new Error(output);
  }

  /** Before the package is there: as whoever gives data a disk of its own. */
  private async mountDisk(): Promise<void> {
    await this.inside("mkdir", "-p", DATA);
    const size = `size=${DISK_BYTES},mode=0700`;
    const { code, output } = await this.inside("mount", "-t", "tmpfs", "-o", size, "tmpfs", DATA);
    if (code !== 0) throw new Error(output);
  }

  async service(verb: "start" | "stop" | "restart" | "reload"): Promise<void> {
    // Being started often is what some of the afternoon is about.
    if (verb !== "stop") await this.inside("systemctl", "reset-failed", "merklekv");
    const { code, output } = await this.inside("systemctl", verb, "merklekv");
    if (code === 0) return;
    const journal = await this.inside("journalctl", "-u", "merklekv", "-n", "20", "--no-pager");
    throw new Error(`systemctl ${verb}: ${output}\n${journal.output}`);
  }

  async signal(name: "KILL" | "STOP" | "CONT"): Promise<void> {
    await this.inside("systemctl", "kill", "-s", name, "merklekv");
  }

  merklekv(...args: string[]): Promise<Ended> {
    return this.inside("merklekv", ...args);
  }

  async log(): Promise<string> {
    const { output } = await this.inside("journalctl", "-u", "merklekv", "-o", "cat", "--no-pager");
    return output;
  }

  async fillDisk(leaveBytes: number): Promise<void> {
    const { output } = await this.inside("df", "--output=avail", "-B1", DATA);
    const free = Number(output.trim().split("\n").at(-1));
    const ballast = join(DATA, "ballast");
    if (leaveBytes > 0) {
      await this.inside("fallocate", "-l", `${free - leaveBytes}`, ballast);
    } else {
      await this.inside("sh", "-c", `cat /dev/zero >>${ballast}`);
    }
  }

  async freeDisk(): Promise<void> {
    await this.inside("rm", "-f", join(DATA, "ballast"));
  }

  slowDisk(isSlow: boolean): void {
    if (isSlow) this.disk!.fail("slow");
    else this.disk!.mend("slow");
  }

  setClock(offMs: number): void {
    this.clock!.set(offMs);
  }

  private inside(...command: string[]): Promise<Ended> {
    const environment = ["env", "-i", PATH, "DEBIAN_FRONTEND=noninteractive"];
    return run("nsenter", "-t", `${this.init}`, "--all", ...environment, ...command);
  }

  /** What is there is gone with its namespaces. */
  close(): Promise<void> {
    try {
      process.kill(this.init, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
    return Promise.resolve();
  }
}
