/** What breaks between the nodes: at the broker, or because they do not fit together. */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { eventually } from "../support/eventually.ts";
import { order, type Afternoon } from "./afternoon.ts";
import { flood, untilMetric, type Fault } from "./fault.ts";
import { edit, ENVIRONMENT, SECRET, type Machine } from "./machine.ts";
import { metricsOf, tell, untilEqual } from "./sight.ts";

/** Above what the alert takes for deep. */
const MANY_WRITES = 10_500;
const ALL = "topic readwrite #";
const DATA = "/var/lib/merklekv/node";

const nothing = (): Promise<void> => Promise.resolve();

/** Gives the broker other rules, for which it starts again. */
async function setRules({ brokerRules, broker }: Afternoon, rules: string): Promise<void> {
  writeFileSync(brokerRules, `${rules}\n`);
  await broker.pause();
  await broker.resume();
}

/** Batches that have arrived from others. */
const ARRIVED = "merklekv_replication_delay_seconds_count";

async function arrivedAt({ logins }: Afternoon, machine: Machine): Promise<number> {
  const samples = await metricsOf(machine, logins);
  return samples.find(({ name }) => name === ARRIVED)!.value;
}

/** What the package has called the node on a machine. */
function nameOf(machine: Machine): string {
  const text = readFileSync(machine.path(ENVIRONMENT), "utf8");
  return /^MERKLE_KV_NODE_ID=(.*)$/m.exec(text)![1];
}

async function restartAs(machine: Machine, name: string): Promise<void> {
  const path = machine.path(ENVIRONMENT);
  const text = readFileSync(path, "utf8");
  writeFileSync(path, text.replace(/^(MERKLE_KV_NODE_ID=).*$/m, `$1${name}`));
  await machine.service("start");
}

export const brokerStops: Fault = {
  title: "the broker stops",
  at: 0,
  alerts: ["MerkleKVBrokerAway"],
  metric: "merklekv_replication_connected 0",
  event: "broker_away",
  status: /does not reach the broker/,
  cause: ({ broker }) => broker.pause(),
  cure: ({ broker }) => broker.resume(),
};

export const outboxFull: Fault = {
  title: "more is written than may wait for the broker",
  at: 0,
  alerts: ["MerkleKVOutboxDeep", "MerkleKVOutboxDropping"],
  mayAlert: ["MerkleKVBrokerAway"],
  metric: "merklekv_replication_outbox_dropped_events_total > 0",
  event: "broker_away",
  status: /does not reach the broker/,
  async cause(it, machine) {
    await it.broker.pause();
    await flood(it, machine, 0, MANY_WRITES);
    await order(it, machine, "CONFIG SET mqtt.max_outbox_events 10100");
    await flood(it, machine, MANY_WRITES, 100);
  },
  async cure(it, machine) {
    await order(it, machine, "CONFIG UNSET mqtt.max_outbox_events");
    await it.broker.resume();
    // Else the next who stops the broker finds most of it waiting again.
    await untilMetric(it, machine, "merklekv_replication_waiting", (value) => value === 0);
  },
};

export const writesLate: Fault = {
  title: "writes reach the others late",
  at: 1,
  alerts: ["MerkleKVReplicationSlow"],
  metric: "merklekv_replication_delay_seconds_sum > 5",
  async cause(it, machine) {
    // Again and again: once is soon forgotten.
    for (let round = 0; round < 5; round++) {
      const before = await arrivedAt(it, machine);
      it.broker.freeze();
      await flood(it, it.machines[0], 0, 100);
      await Bun.sleep(2_800);
      it.broker.thaw();
      await untilMetric(it, machine, ARRIVED, (value) => value > before);
    }
  },
  cure: nothing,
};

export const brokerDeaf: Fault = {
  title: "the broker's rules let nobody publish",
  at: 0,
  alerts: ["MerkleKVNotHeard"],
  mayAlert: ["MerkleKVBrokerAway"],
  metric: "merklekv_replication_heard 0",
  event: "broker_deaf",
  status: /does not come back from the broker/,
  cause: (it) => setRules(it, "topic read #"),
  cure: (it) => setRules(it, ALL),
};

export const otherSecret: Fault = {
  title: "a node has another cluster secret",
  at: 2,
  alerts: ["MerkleKVSyncRefused", "MerkleKVSyncFailing"],
  mayAlert: ["MerkleKVNotHeard", "MerkleKVNotEqual", "MerkleKVRestarting"],
  metric: "merklekv_replication_refused_messages_total > 0",
  event: "message_other_secret",
  async cause(it, machine) {
    await machine.service("stop");
    writeFileSync(machine.path(SECRET), `${"other".repeat(9)}\n`);
    const [one, two] = it.machines;
    edit(machine, {
      "anti_entropy.peer_list": [one, two].map(({ address, port }) => `${address}:${port}`),
    });
    await machine.service("start");
    await order(it, machine, "SET lonely 1");
    await order(it, one, "SET together 1");
  },
  async cure(it, machine) {
    await machine.service("stop");
    writeFileSync(machine.path(SECRET), readFileSync(it.machines[0].path(SECRET)));
    edit(machine, { "anti_entropy.peer_list": null });
    await machine.service("start");
  },
};

export const twin: Fault = {
  title: "a new node has the name of another",
  at: 2,
  alerts: ["MerkleKVTwin"],
  mayAlert: [
    ...["MerkleKVSyncRefused", "MerkleKVNotEqual", "MerkleKVSyncFailing"],
    // They end each other's connections to the broker.
    ...["MerkleKVRestarting", "MerkleKVBrokerAway"],
  ],
  metric: "merklekv_replication_duplicate_node_id 1",
  event: "duplicate_node_id",
  // They end each other's connections, and the later one hears the earlier after some of those.
  toldWithinMs: 90_000,
  // For three minutes after the twin was heard of last.
  toldForMs: 240_000,
  async cause(it, machine) {
    it.names.set(machine, nameOf(machine));
    await machine.service("stop");
    // Data belongs to the node that wrote it; another's name does not start on it.
    renameSync(machine.path(DATA), machine.path(`${DATA}-aside`));
    await restartAs(machine, nameOf(it.machines[1]));
  },
  async cure(it, machine) {
    await machine.service("stop");
    rmSync(machine.path(DATA), { recursive: true });
    renameSync(machine.path(`${DATA}-aside`), machine.path(DATA));
    await restartAs(machine, it.names.get(machine)!);
  },
};

export const notCompared: Fault = {
  title: "nodes differ, and nobody compares them",
  at: 1,
  alerts: ["MerkleKVNotEqual"],
  mayAlert: ["MerkleKVNotHeard", "MerkleKVBrokerAway"],
  metric: "merklekv_peer_roots_equal 0",
  async cause(it) {
    for (const each of it.machines) await order(it, each, "CONFIG SET anti_entropy.enabled false");
    await setRules(it, "topic read #\ntopic readwrite merkle-kv/nodes/#");
    await order(it, it.machines[0], "SET alone 1");
  },
  async cure(it) {
    await setRules(it, ALL);
    for (const each of it.machines) await order(it, each, "CONFIG UNSET anti_entropy.enabled");
  },
};

export const awayTooLong: Fault = {
  title: "a node was away for longer than deletions are remembered",
  at: 2,
  alerts: ["MerkleKVSetAsideGrowing"],
  mayAlert: ["MerkleKVSyncFailing", "MerkleKVNotEqual", "MerkleKVRestarting"],
  metric: "merklekv_set_aside_entries > 0",
  event: "set_aside",
  status: /entries were set aside/,
  async cause(it, machine) {
    const [one, two] = it.machines;
    await order(it, one, "SET doomed 1");
    await untilEqual(it.machines, it.logins);
    await machine.service("stop");
    for (const each of it.machines) edit(each, { "storage.tombstone_grace_seconds": 3 });
    for (const each of [one, two]) await each.service("restart");
    await tell(one, it.logins, ["DEL doomed"]);
    await eventually("the deletion is forgotten", async () => {
      const samples = await Promise.all([one, two].map((each) => metricsOf(each, it.logins)));
      const left = samples.map((all) => all.find(({ name }) => name === "merklekv_tombstones"));
      return left.every((sample) => sample!.value === 0);
    });
    await machine.service("start");
  },
  async cure(it, machine) {
    for (const name of readdirSync(machine.path(DATA))) {
      if (!name.startsWith("set-aside-")) continue;
      renameSync(machine.path(`${DATA}/${name}`), machine.path(`/root/${name}`));
    }
    for (const each of it.machines) {
      edit(each, { "storage.tombstone_grace_seconds": 86_400 });
      await each.service("restart");
    }
  },
};
