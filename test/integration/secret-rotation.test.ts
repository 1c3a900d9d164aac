/** The cluster secret changes while three nodes run and are written to, as the documentation says. */
import { afterEach, describe, expect, test } from "bun:test";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { OPEN_PEERS } from "../../src/anti-entropy/peer-security.ts";
import { PeerSeal } from "../../src/anti-entropy/peer-seal.ts";
import { askCluster } from "../../src/cli/cluster-view.ts";
import { Inspection } from "../../src/cli/inspection.ts";
import { loadClusterSecrets } from "../../src/security/cluster-secrets.ts";
import { realWorld } from "../../src/world.ts";
import { eventually } from "../support/eventually.ts";
import { Started, type ReloadingNode, type Values } from "../support/reloading-node.ts";
import { secretFileNamed, secretText } from "../support/secret-files.ts";

const started = new Started();
afterEach(() => started.end());

const REFUSALS = ["no_secret", "unsealed", "other_secret", "forged", "damaged"];

/** Three nodes at one broker, that write to themselves from then on. */
class WrittenCluster {
  nodes: ReloadingNode[] = [];
  private readonly acknowledged = new Set<string>();
  private readonly writers: Promise<void>[] = [];
  private isOver = false;

  static async start(values: Values): Promise<WrittenCluster> {
    const it = new WrittenCluster();
    const broker_address = await started.broker();
    for (const node_id of ["a", "b", "c"]) {
      const mqtt = { "mqtt.enabled": true, "mqtt.broker_address": broker_address };
      it.nodes.push(await started.node({ ...mqtt, ...values, node_id }));
    }
    for (const [i, node] of it.nodes.entries()) it.writers.push(it.write(node, `n${i}`));
    started.also(() => it.stop());
    return it;
  }

  /** Resolves when each has acknowledged more writes, and each has those of the others. */
  async goesOn(): Promise<void> {
    const before = this.acknowledged.size;
    await eventually("writes go on", () => this.acknowledged.size > before + 9);
    for (const node of this.nodes) {
      await eventually("it is at the broker", async () => {
        return (await node.fact("replication_connected")) === "1";
      });
    }
  }

  /** All that was acknowledged is everywhere, and nobody has refused anything. */
  async ends(): Promise<void> {
    await this.stop();
    const roots = () => Promise.all(this.nodes.map((node) => node.ask("HASH")));
    await eventually("all are equal", async () => new Set(await roots()).size === 1);
    for (const node of this.nodes) {
      expect(await node.ask("DBSIZE")).toBe(`${this.acknowledged.size}`);
      for (const reason of REFUSALS) {
        expect([reason, await node.fact(`replication_refused_${reason}`)]).toEqual([reason, "0"]);
        expect([reason, await node.fact(`sync_refused_${reason}`)]).toEqual([reason, "0"]);
      }
    }
  }

  private async stop(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.writers);
  }

  private async write(node: ReloadingNode, name: string): Promise<void> {
    const client = await node.connect();
    for (let i = 0; !this.isOver; i++) {
      if ((await client.send(`SET ${name}:${i} v`)) !== "OK") throw new Error("not acknowledged");
      this.acknowledged.add(`${name}:${i}`);
      await Bun.sleep(5);
    }
  }
}

/** What a node's file says at each step. */
const STEPS = [
  { current: "rotated-1", previous: ["rotated-2"] },
  { current: "rotated-2", previous: ["rotated-1"] },
  { current: "rotated-2", previous: [] },
];

describe.each([
  ["over the network", {}],
  ["through the broker", { "network.advertise_address": "none" }],
])("the secret changes in three steps, %s", (_, reach) => {
  test("nothing is refused, and nothing is lost", async () => {
    const file = (name: string) => secretFileNamed(name);
    const first = { "cluster.secret_file": file("rotated-1"), ...reach };
    const cluster = await WrittenCluster.start(first);
    await cluster.goesOn();
    for (const { current, previous } of STEPS) {
      for (const node of cluster.nodes) {
        const outcome = await node.change({
          "cluster.secret_file": file(current),
          "cluster.previous_secret_files": previous.map(file),
        });
        expect(outcome).toMatchObject({ ok: true, needRestart: [] });
        await cluster.goesOn();
      }
    }
    await cluster.ends();
    expect(await cluster.nodes[0].fact("cluster_secret_changes")).toBe("3");
  });
});

describe("three nodes that only compare", () => {
  const file = (name: string) => secretFileNamed(name);
  const start = (id: string) =>
    started.node({ node_id: id, "cluster.secret_file": file("compared-1") });
  const use = (current: string, previous: string[]) => ({
    "cluster.secret_file": file(current),
    "cluster.previous_secret_files": previous.map(file),
  });
  let drifts = 0;

  /** Each has something that the others lack; one session of the first with each heals that. */
  async function drift(nodes: readonly ReloadingNode[]): Promise<void> {
    const lines = Array.from({ length: 20 }, (_, i) => `SET drift:${drifts}:${i} ${i}`);
    for (const [i, node] of nodes.entries()) {
      await node.askAll(lines.map((line) => line.replace("drift", `drift${i}`)));
    }
    drifts++;
  }

  async function expectHealed(nodes: readonly ReloadingNode[]): Promise<void> {
    const [first, second, third] = nodes as [ReloadingNode, ReloadingNode, ReloadingNode];
    const sync = async (from: ReloadingNode, to: ReloadingNode) => {
      expect(await from.ask(`SYNC 127.0.0.1 ${to.port} --verify`)).toBe("OK");
    };
    await sync(first, second);
    await sync(second, third);
    await sync(third, first);
    const hashes = await Promise.all(nodes.map((node) => node.ask("HASH")));
    expect(new Set(hashes).size).toBe(1);
  }

  test("are healed by one session each at every step of a change", async () => {
    const nodes = await Promise.all(["a", "b", "c"].map(start));
    for (const { current, previous } of STEPS) {
      const named = (name: string) => name.replace("rotated", "compared");
      for (const node of nodes) {
        await drift(nodes);
        await node.change(use(named(current), previous.map(named)));
        await expectHealed(nodes);
        expect(await node.fact("merkle_key")).toBe(await node.fact("cluster_secret_id"));
      }
    }
    for (const node of nodes) expect(await node.fact("sync_failed")).toBe("0");
    const roots = async () => Promise.all(nodes.map((node) => node.fact("merkle_root")));
    await eventually("all show one root", async () => new Set(await roots()).size === 1);
  });

  test("are healed as soon as they have a secret that was replaced at once", async () => {
    const nodes = await Promise.all(["a", "b", "c"].map(start));
    await drift(nodes);
    await nodes[0].change(use("compared-3", []));
    expect(await nodes[0].ask(`SYNC 127.0.0.1 ${nodes[1].port}`)).toMatch(/another cluster sec/);
    for (const node of nodes.slice(1)) await node.change(use("compared-3", []));
    await expectHealed(nodes);
  });

  test("are compared rightly by status and diff, whatever each seals with", async () => {
    const nodes = await Promise.all(["a", "b", "c"].map(start));
    for (const node of nodes) await node.change(use("compared-1", ["compared-2"]));
    await nodes[2].change(use("compared-2", ["compared-1"]));
    const peers = nodes.slice(1).map(({ address }) => address);
    await nodes[0].change({ "anti_entropy.peer_list": peers });
    await drift(nodes);
    await expectHealed(nodes);
    const secrets = loadClusterSecrets({
      ...{ name: "", secret: "", previous_secret_files: [] },
      secret_file: file("compared-1"),
    });
    const [first, , third] = nodes as [ReloadingNode, ReloadingNode, ReloadingNode];
    const place = { host: "127.0.0.1", port: first.port, security: null };
    const equal = async (): Promise<unknown> => {
      const status = await askCluster(place, secrets);
      return status.nodes.map(({ isEqual, differingKeys }) => [isEqual, differingKeys]);
    };
    await eventually("all roots are known", async () => {
      const roots = await Promise.all(nodes.map((node) => node.fact("merkle_root")));
      return roots.every((root) => !/^0+$/.test(root!)) && roots[0] === roots[1];
    });
    expect(await first.fact("merkle_root")).not.toBe((await third.fact("merkle_root"))!);
    const whole = [true, null];
    await eventually("all are shown", async () =>
      Bun.deepEquals(await equal(), [whole, whole, whole]),
    );
    for (const node of nodes) {
      const outcome = await node.change({ "anti_entropy.enabled": false });
      expect(outcome).toMatchObject({ ok: true, needRestart: [] });
    }
    await third.ask("SET one more");
    expect(await equal()).toEqual([whole, whole, [false, 1]]);
    const seal = new PeerSeal(secrets, realWorld.randomWords);
    const at = ({ port }: ReloadingNode) => ({
      ...{ nodeId: "", security: OPEN_PEERS, login: null },
      hostPort: { host: "127.0.0.1", port, isSecure: false },
    });
    const open = await Inspection.openBoth([at(first), at(third)], seal);
    const [one, other] = open.map(({ digests }) => digests);
    for (const inspection of open) inspection.close();
    expect(one.filter((digest, i) => digest !== other[i])).toHaveLength(1);
  });

  test("and one without a secret shows what its name makes of the data", async () => {
    const node = await started.node({ node_id: "a" });
    expect(await node.fact("merkle_key")).toBe("name");
  });
});

describe("one node's secret", () => {
  const start = async (more: Values = {}) =>
    started.node({ "cluster.secret_file": secretFileNamed("own"), ...more });

  test("that is bad changes nothing, and is named", async () => {
    const node = await start();
    const id = await node.fact("cluster_secret_id");
    const short = secretFileNamed("short");
    writeFileSync(short, "hunter2");
    for (const values of [
      { "cluster.secret_file": short },
      { "cluster.previous_secret_files": [secretFileNamed("good"), short] },
      { "cluster.secret_file": `${short}-is-not-there` },
    ]) {
      const outcome = await node.change({
        "cluster.secret_file": secretFileNamed("own"),
        "cluster.previous_secret_files": [],
        description: "new",
        ...values,
      });
      expect(outcome.ok || outcome.problems.join()).toMatch(/cluster secret in ".*short/);
      expect(await node.fact("cluster_secret_id")).toBe(id);
      expect(await node.setting("description")).toBe("");
      expect(await node.fact("config_problem")).toMatch(/cluster secret/);
    }
  });

  test("is another when its file holds another, good ones only", async () => {
    const node = await start();
    const path = secretFileNamed("own");
    const id = await node.fact("cluster_secret_id");
    const replace = (text: string) => {
      writeFileSync(`${path}.new`, text, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    };
    replace("hunter2");
    await eventually("it is said", async () =>
      /has 7 bytes/.test((await node.fact("cluster_secret_problem")) ?? ""),
    );
    expect(await node.fact("cluster_secret_id")).toBe(id);
    replace(secretText("another"));
    await eventually("it is in use", async () => (await node.fact("cluster_secret_id")) !== id);
    expect(await node.fact("cluster_secret_problem")).toBeUndefined();
    rmSync(path);
    await eventually("it is said", async () =>
      /no such file/.test((await node.fact("cluster_secret_problem")) ?? ""),
    );
  });

  test("comes by CONFIG SET, from who may name places, and goes again", async () => {
    const node = await start({ "auth.password": "secret" });
    await node.ask("AUTH secret");
    const id = await node.fact("cluster_secret_id");
    const other = secretFileNamed("other");
    expect(await node.ask(`CONFIG SET cluster.secret_file ${other}`)).toBe("OK");
    expect(await node.fact("cluster_secret_id")).not.toBe(id);
    expect(await node.ask(`CONFIG SET cluster.previous_secret_files ${other}x`)).toMatch(
      /cannot read a previous cluster secret/,
    );
    expect(await node.ask("CONFIG UNSET cluster.secret_file")).toBe("OK");
    expect(await node.fact("cluster_secret_id")).toBe(id);
    const open = await started.node();
    expect(await open.ask(`CONFIG SET cluster.previous_secret_files ${other}`)).toMatch(
      /only who has logged in there/,
    );
  });
});

test("a cluster gets a secret, and loses it, one node after the other", async () => {
  const cluster = await WrittenCluster.start({});
  const [a, b, c] = cluster.nodes as [ReloadingNode, ReloadingNode, ReloadingNode];
  const has = async (node: ReloadingNode, key: string) => (await node.ask(`EXISTS ${key}`)) === "1";
  for (const [step, secret_file] of [secretFileNamed("given"), ""].entries()) {
    for (const node of [a, b, c]) {
      expect(await node.change({ "cluster.secret_file": secret_file })).toMatchObject({
        ok: true,
        needRestart: [],
      });
    }
    const sealed = secret_file === "" ? "0" : "1";
    await eventually("all seal alike", async () => {
      const facts = [a, b, c].map((node) => node.fact("replication_sealed"));
      return (await Promise.all(facts)).every((it) => it === sealed);
    });
    for (const node of [a, b]) {
      await eventually("it has come", async () => {
        await c.ask(`SET step${step} v`);
        return has(node, `step${step}`);
      });
    }
  }
});
