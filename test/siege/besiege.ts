/**
 * Plays one attack against the built binary: sets the scene, has a polite client beside it, and looks
 * afterwards for what was lost, on the node, on the node after a restart, and on its peer.
 */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { merklekvBinary } from "../support/binary.ts";
import { eventually, within } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { Mosquitto } from "../support/mosquitto.ts";
import type { Attack, Stage } from "./attack.ts";
import { NodeOnDisk, type Sections } from "./node-on-disk.ts";
import type { PoliteReport } from "./polite-client.ts";

/** What came of an attack. */
export interface Verdict {
  readonly attack: Attack;
  /** What the polite client saw. */
  readonly polite: PoliteReport;
  /** Resident memory at the most, beyond what it was before and what the attack says is data. */
  readonly peakBytes: number;
  /** What of it was still there at the end. */
  readonly leftBytes: number;
  /** Acknowledged writes that are not there any more, wherever that was seen. */
  readonly lost: number;
  /** Everything else that was not as it should be. */
  readonly faults: readonly string[];
}

/**
 * Attackers, peers and brokers are on other machines and take no processor from a node. Here all
 * share a few, so the node under attack and its polite client come before everybody else: in a
 * session of their own, which Linux schedules as one, and of a higher priority where it is allowed.
 */
const FIRST: readonly string[] =
  Bun.which("setsid") === null
    ? []
    : [
        "setsid",
        "sh",
        "-c",
        `{ renice -n -10 $$; echo -10 > /proc/$$/autogroup; } >/dev/null 2>&1; exec "$0" "$@"`,
      ];
const ATTACK_DEADLINE_MS = 180_000;
/** The same of a part of one. */
const PART_DEADLINE_MS = 90_000;
/** More lines than this in the log are a flood, whatever they say. */
const MOST_LOG_LINES = 1_000;

/** Plays it. `scale` is 1 for the whole of it. */
export async function besiege(attack: Attack, scale: number): Promise<Verdict> {
  const faults: string[] = [];
  await using scene = new AsyncDisposableStack();
  const stage = await setStage(attack, scale, faults, scene);
  const { node } = stage;
  node.forgetPeak();
  const before = node.memoryBytes();
  const polite = await startPolite(node, scene);
  const deadlineMs = scale < 1 ? PART_DEADLINE_MS : ATTACK_DEADLINE_MS;
  await within(deadlineMs, attack.run(stage), `the attack took over ${deadlineMs / 1_000} s`).catch(
    (error) => faults.push(String(error)),
  );
  const report = await polite.finish();
  if (report.failure !== null) faults.push(`the polite client was failed: ${report.failure}`);
  if (report.wrongReads > 0) faults.push(`${report.wrongReads} reads did not show the last write`);
  if (!(await node.isRunning())) {
    faults.push(`the node ended: ${node.output().slice(-400)}`);
    return { attack, polite: report, peakBytes: 0, leftBytes: 0, lost: 0, faults };
  }
  const peakBytes = Math.max(0, node.memoryBytes("peak") - before - stage.dataBytes);
  const leftBytes = Math.max(0, node.memoryBytes() - before - stage.dataBytes);
  stage.leave();
  const { acknowledged } = report;
  let lost = await countLost(node.port, acknowledged);
  const code = await node.stop();
  if (code !== 0) faults.push(`a stop ended with ${code}`);
  await node.resume();
  lost = Math.max(lost, await countLost(node.port, acknowledged));
  if (attack.scene === "cluster") {
    lost = Math.max(lost, await countMissing(stage.peer, acknowledged));
  }
  faults.push(...falseLines(attack, node.output()));
  return { attack, polite: report, peakBytes, leftBytes, lost, faults };
}

interface OpenStage extends Stage {
  /** Ends the attacker's connections. */
  leave(): void;
}

async function setStage(
  attack: Attack,
  scale: number,
  faults: string[],
  scene: AsyncDisposableStack,
): Promise<OpenStage> {
  const kind = attack.scene ?? "alone";
  const broker = kind === "alone" ? null : await Mosquitto.start();
  if (broker !== null) scene.defer(() => broker.stop());
  const binary = attack.command ?? [await merklekvBinary()];
  const start = async (id: string, command: readonly string[]): Promise<NodeOnDisk> => {
    const node = await NodeOnDisk.start(id, sectionsOf(attack, broker), command);
    scene.defer(() => node.remove());
    return node;
  };
  const node = await start("victim", [...FIRST, ...binary]);
  const peer = kind === "cluster" ? await start("honest", binary) : null;
  const sockets: Socket[] = [];
  const leave = () => sockets.forEach((socket) => socket.destroy());
  scene.defer(leave);
  return {
    node,
    scale,
    dataBytes: 0,
    leave,
    get peer() {
      return peer ?? missing("peer", kind);
    },
    get broker() {
      return broker ?? missing("broker", kind);
    },
    times: (count) => Math.max(1, Math.round(count * scale)),
    async connect(port = node.port) {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      sockets.push(socket);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      socket.once("connect", resolve).on("error", reject);
      await promise;
      return socket;
    },
    demand(condition, otherwise) {
      if (!condition) faults.push(otherwise);
    },
  };
}

function missing(what: string, scene: string): never {
  throw new Error(`there is no ${what} in the scene "${scene}"`);
}

function sectionsOf(attack: Attack, broker: Mosquitto | null): Sections {
  const mqtt = broker === null ? { enabled: false } : { broker_address: broker.address };
  const { network, mqtt: more, ...others } = attack.settings ?? {};
  return { network: { bind_port: 0, ...network }, mqtt: { ...mqtt, ...more }, ...others };
}

/** Starts the polite client; resolves once it is answered. */
async function startPolite(
  { port, pid }: NodeOnDisk,
  scene: AsyncDisposableStack,
): Promise<{ finish(): Promise<PoliteReport> }> {
  const program = join(import.meta.dir, "polite-client.ts");
  const child = Bun.spawn([...FIRST, process.execPath, program, String(port), String(pid)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  scene.defer(() => child.kill("SIGKILL"));
  const begun = Promise.withResolvers<void>();
  const gathered = (async () => {
    let output = "";
    for await (const chunk of child.stdout) {
      output += Buffer.from(chunk).toString();
      if (output.includes("begun\n")) begun.resolve();
    }
    begun.resolve();
    return output;
  })();
  await begun.promise;
  return {
    async finish() {
      await child.stdin.end();
      const line = (await gathered).trim().split("\n").at(-1) ?? "";
      return JSON.parse(line) as PoliteReport;
    },
  };
}

async function countLost(port: number, expected: PoliteReport["acknowledged"]): Promise<number> {
  const client = await LineClient.connect(port);
  let lost = 0;
  for (const [key, value] of Object.entries(expected)) {
    if ((await client.send(`GET ${key}`)) !== value) lost++;
  }
  await client.close();
  return lost;
}

/** Like `countLost`, at a peer that may take a while to hear of everything. */
async function countMissing(
  peer: NodeOnDisk,
  expected: PoliteReport["acknowledged"],
): Promise<number> {
  let missed = 0;
  const isThere = async () => (missed = await countLost(peer.port, expected)) === 0;
  await eventually("the peer has it all", isThere).catch(() => {});
  return missed;
}

function falseLines({ mayLog }: Attack, output: string): string[] {
  const lines = output.split("\n");
  const isFalse = (line: string): boolean =>
    line.includes("A bug in MerkleKV") || (/\bERROR\b/.test(line) && mayLog?.test(line) !== true);
  const found = lines.filter(isFalse).map((line) => `it logged: ${line.slice(0, 300)}`);
  if (lines.length > MOST_LOG_LINES) found.push(`it logged ${lines.length} lines`);
  return found.slice(0, 5);
}
