/**
 * A machine that is a directory: the node is a process of this system, started as the unit says
 * (`configs/systemd/merklekv.service`), with its environment. Takes no root.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary, projectRoot } from "../support/binary.ts";
import { FailingDisk } from "../support/failing-disk.ts";
import { freePort } from "../support/mosquitto.ts";
import { runBinary, runToEnd, type BinaryProcess } from "../support/process.ts";
import { WrongClock } from "../support/wrong-clock.ts";
import { CONFIG, type Ended, type Machine } from "./machine.ts";

const UNIT = join(projectRoot, "configs/systemd/merklekv.service");
const READY = /^MerkleKV \S+ ready: /m;

/** The lines of a unit file by name; a name that comes twice has both values. */
export function readUnit(path: string): Map<string, string[]> {
  const lines = readFileSync(path, "utf8").split("\n");
  const settings = lines.map((line) => /^(\w+)=(.*)$/.exec(line)).filter((it) => it !== null);
  const grouped = Map.groupBy(settings, ([, name]) => name);
  return new Map([...grouped].map(([name, them]) => [name, them.map(([, , value]) => value)]));
}

/** See the file header. */
export class ProcessMachine implements Machine {
  readonly address = "127.0.0.1";
  readonly strangersAddress = "127.0.0.2";
  private readonly root: string;
  private readonly unit = readUnit(UNIT);
  private readonly fault: { readonly disk?: FailingDisk; readonly clock?: WrongClock };
  private node: BinaryProcess | null = null;
  private earlierLog = "";

  private constructor(
    readonly name: string,
    readonly port: number,
    readonly httpPort: number,
    fault: "disk" | "clock" | "none",
  ) {
    this.root = mkdtempSync(join(tmpdir(), `merklekv-${name}-`));
    if (fault === "disk") this.fault = { disk: new FailingDisk() };
    else if (fault === "clock") this.fault = { clock: new WrongClock(0) };
    else this.fault = {};
  }

  /** Makes one, on which nothing is installed. `fault` is what can be made to fail there. */
  static async create(name: string, fault: "disk" | "clock" | "none"): Promise<ProcessMachine> {
    return new ProcessMachine(name, await freePort(), await freePort(), fault);
  }

  path(inside: string): string {
    return join(this.root, inside);
  }

  local(text: string): string {
    return text
      .replace('"0.0.0.0"', '"127.0.0.1"')
      .replaceAll(/"\/(etc|var)\//g, `"${this.root}/$1/`)
      .replace(/\b7379\b/, `${this.port}`)
      .replace(/\b9464\b/, `${this.httpPort}`);
  }

  /** The executable goes where the package puts it; both versions are this one. */
  async install(): Promise<void> {
    const isFirst = this.node === null;
    for (const path of [
      "root",
      "usr/bin",
      "etc/merklekv",
      "etc/default",
      "var/lib/merklekv/node",
    ]) {
      mkdirSync(join(this.root, path), { recursive: true, mode: 0o700 });
    }
    if (!isFirst) await this.service("stop");
    const executable = join(this.root, "usr/bin/merklekv");
    rmSync(executable, { force: true });
    symlinkSync(await merklekvBinary(), executable);
    if (isFirst) {
      const installed = readFileSync(join(projectRoot, "packaging/node.toml"), "utf8");
      writeFileSync(this.path(CONFIG), this.local(installed));
      writeFileSync(this.path("/etc/default/merklekv"), `MERKLE_KV_NODE_ID=${this.name}\n`);
    }
    await this.service("start");
  }

  async service(verb: "start" | "stop" | "restart" | "reload"): Promise<void> {
    if (verb === "reload") return this.node?.signal("SIGHUP");
    if (verb !== "start" && this.node !== null) {
      await this.node.stop();
      this.forget();
    }
    if (verb === "stop") return;
    const [start] = this.unit.get("ExecStart")!;
    const [executable, ...args] = start
      .split(" ")
      .map((word) => (word.startsWith("/") ? this.path(word) : word));
    this.node = await runBinary([...args, "--exit-with-stdin"], {
      command: [executable],
      cwd: this.root,
      env: this.environment(),
    });
    await this.node.waitFor(READY);
  }

  private environment(): Record<string, string> {
    const [file] = this.unit.get("EnvironmentFile")!;
    const lines = readFileSync(this.path(file.replace(/^-/, "")), "utf8").split("\n");
    const pairs = lines
      .filter((line) => /^\w+=/.test(line))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]);
    const { disk, clock } = this.fault;
    return { ...Object.fromEntries(pairs), ...disk?.env, ...clock?.env };
  }

  async signal(name: "KILL" | "STOP" | "CONT"): Promise<void> {
    this.node?.signal(`SIG${name}`);
    if (name !== "KILL") return;
    await this.node?.exited;
    this.forget();
  }

  private forget(): void {
    this.earlierLog += this.node?.output() ?? "";
    this.node = null;
  }

  merklekv(...args: string[]): Promise<Ended> {
    const local = args.map((it) => (/^\/(etc|var|root)\//.test(it) ? this.path(it) : it));
    return runToEnd(local, { command: [this.path("/usr/bin/merklekv")], cwd: this.root });
  }

  log(): Promise<string> {
    return Promise.resolve(this.earlierLog + (this.node?.output() ?? ""));
  }

  fillDisk(): Promise<void> {
    return Promise.resolve(this.fault.disk!.fail("write"));
  }

  freeDisk(): Promise<void> {
    return Promise.resolve(this.fault.disk!.mend("write"));
  }

  slowDisk(isSlow: boolean): void {
    const { disk } = this.fault;
    if (isSlow) disk!.fail("slow");
    else disk!.mend("slow");
  }

  setClock(offMs: number): void {
    this.fault.clock!.set(offMs);
  }

  async close(): Promise<void> {
    await this.node?.kill();
    this.fault.disk?.remove();
    this.fault.clock?.remove();
    rmSync(this.root, { recursive: true, force: true });
  }
}
