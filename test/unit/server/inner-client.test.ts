/** Requests from within: when they are answered, and what watchers are told. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ClientGone, LostWrite, type InnerClient, type KeyChange } from "../../../src/ports.ts";
import { InnerClients } from "../../../src/server/inner-client.ts";
import {
  MOST_GATHERED_BYTES,
  MOST_GATHERED_KEYS,
  MOST_WATCHERS,
} from "../../../src/server/key-watch.ts";
import { nextTurn } from "../../../src/timing.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer, type ServerOptions } from "../../support/in-process.ts";
import { ManualDurability } from "../../support/manual-durability.ts";

interface Opened {
  readonly server: InProcessServer;
  readonly clients: InnerClients;
  readonly client: InnerClient;
}

function open(options: ServerOptions = {}): Opened {
  const server = new InProcessServer(options);
  const { context, journalGate } = server.shared;
  const clients = new InnerClients({ ...context }, journalGate);
  const { users } = context.services;
  const client = clients.open(users.arrive("127.0.0.1:1", null), {
    address: "127.0.0.1:1",
    certificateName: null,
  });
  return { server, clients, client };
}

/** Of a promise that may be settled: how. */
async function stateOf(promise: Promise<unknown>): Promise<string> {
  const state = promise.then(
    () => "done",
    (error: unknown) => (error instanceof LostWrite ? "lost" : "failed"),
  );
  await nextTurn(eventLoop);
  return Promise.race([state, Promise.resolve("waits")]);
}

test("a write is answered when it is safe, and a read of what is not, too", async () => {
  const durability = new ManualDurability();
  const { server, client } = open({ services: { durability } });
  server.store.observers.push({
    changed: () => void durability.position++,
    removed() {},
    flushed() {},
  });
  const write = client.inTurn((turn) => turn.run(["SET", "k", "v"]));
  const read = client.ask(["GET", "k"]);
  expect([await stateOf(write), await stateOf(read)]).toEqual(["waits", "waits"]);
  durability.reach(1);
  expect([await stateOf(write), await stateOf(read)]).toEqual(["done", "done"]);
});

test("when the disk fails nobody says that a write is done", async () => {
  const durability = new ManualDurability();
  const { server, clients, client } = open({ services: { durability } });
  server.store.observers.push({
    changed: () => void durability.position++,
    removed() {},
    flushed() {},
  });
  const write = client.inTurn((turn) => turn.run(["SET", "k", "v"]));
  durability.failure = { kind: "write", message: "the disk fails" };
  clients.onFailure();
  expect(await stateOf(write)).toBe("lost");
  // Reading goes on.
  expect(await client.ask(["GET", "k"])).toEqual(new Uint8Array([0x76]));
  expect(await client.ask(["SET", "k", "w"])).toMatchObject({ code: "READONLY" });
});

test("commands that take their time answer whole, and none may be used within a turn", async () => {
  const { server, client } = open();
  const keys = Array.from({ length: 50_000 }, (_, i) => `key:${String(i).padStart(6, "0")}`);
  for (const key of keys) await client.inTurn((turn) => turn.run(["SET", key, ""]));
  const found = (await client.ask(["SCAN", "ORDERED", "key:"])) as Uint8Array[];
  expect(found.map((each) => Buffer.from(each).toString())).toEqual(keys);
  server.shared.runQueue.add(() => {});
  const scan = client.inTurn((turn) => turn.run(["SCAN", "ORDERED"]));
  expect(await stateOf(scan)).toBe("failed");
});

test("a client that goes is given no part of a reply", async () => {
  const { client } = open();
  const keys = Array.from({ length: 100_000 }, (_, i) => `key:${i}`);
  const reply = client.ask(["MGET", ...keys]);
  client.end();
  await expect(reply).rejects.toBeInstanceOf(ClientGone);
});

test("long replies are not all made in one turn of the event loop", async () => {
  const { client } = open();
  await client.inTurn((turn) => turn.run(["SET", "k", "v"]));
  let answered = 0;
  const all = Array.from({ length: 50 }, () =>
    client.askForBytes(["SCAN", "ORDERED"]).then(() => answered++),
  );
  let most = 0;
  for (let before = 0; answered < 50; before = answered) {
    await nextTurn(eventLoop);
    most = Math.max(most, answered - before);
  }
  await Promise.all(all);
  expect(most).toBeLessThan(10);
});

test("who watches ends up with what is there, whatever happens", async () => {
  const operation = fc.tuple(
    fc.constantFrom("SET", "DEL", "INCR", "FLUSHDB", "look"),
    fc.constantFrom("a1", "a2", "a3", "b1"),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async (operations) => {
      const { server, client } = open();
      const seen = new Map<string, string>();
      let lost = 0;
      const stop = client.watch({
        prefix: Buffer.from("a"),
        onChanges(changes: readonly KeyChange[]) {
          for (const { key, facts } of changes) {
            const text = Buffer.from(key).toString();
            if (facts === null) seen.delete(text);
            else seen.set(text, facts.version);
          }
        },
        onLost() {
          lost++;
          seen.clear();
        },
        onEnd() {},
      })!;
      for (const [name, key] of operations) {
        if (name === "look") await eventually("a look", () => true);
        else
          await client.ask(
            name === "SET" ? [name, key, "1"] : name === "FLUSHDB" ? [name] : [name, key],
          );
      }
      const there = async (): Promise<Map<string, string>> => {
        const facts = await client.inTurn((turn) =>
          ["a1", "a2", "a3"].map((key) => [key, turn.entry(Buffer.from(key))?.version] as const),
        );
        return new Map(facts.filter((each): each is [string, string] => each[1] !== undefined));
      };
      const now = await there();
      // After a flush the watcher would look at the keys again.
      await eventually("it has been told", () => {
        if (lost > 0) for (const [key, version] of now) seen.set(key, version);
        return Bun.deepEquals(seen, now);
      });
      stop();
      expect(server.store.observers).toEqual([]);
    }),
    { numRuns: 15 },
  );
});

test("a watcher with too much to be told is told to look itself, and there is a bound of them", async () => {
  const { client } = open();
  const told: string[] = [];
  const watcher = {
    prefix: new Uint8Array(0),
    onChanges: (changes: readonly KeyChange[]) => void told.push(`${changes.length} changes`),
    onLost: () => void told.push("lost"),
    onEnd() {},
  };
  client.watch(watcher);
  await client.inTurn((turn) => {
    for (let i = 0; i <= MOST_GATHERED_KEYS; i++) turn.run(["SET", `k${i}`, ""]);
  });
  await eventually("it was told", () => told.length > 0);
  expect(told).toEqual(["lost"]);
  for (let i = 1; i < MOST_WATCHERS; i++) expect(client.watch(watcher)).not.toBeNull();
  expect(client.watch(watcher)).toBeNull();
});

test("many long keys are told in small pieces, and as lost when they are too long together", async () => {
  const { client } = open();
  const told: (readonly KeyChange[] | "lost")[] = [];
  client.watch({
    prefix: new Uint8Array(0),
    onChanges: (changes) => void told.push(changes),
    onLost: () => void told.push("lost"),
    onEnd() {},
  });
  const write = (count: number): Promise<void> =>
    client.inTurn((turn) => {
      for (let i = 0; i < count; i++) turn.run(["SET", `${i}:${"k".repeat(50_000)}`, ""]);
    });
  await write(10);
  await eventually("all are told", () => told.flat().length === 10);
  expect(told.length).toBe(5);
  told.length = 0;
  await write(MOST_GATHERED_BYTES / 50_000 + 1);
  await eventually("it was told", () => told.length > 0);
  expect(told).toEqual(["lost"]);
});

test("what is told of a key is safe, and nothing that was written since", async () => {
  const durability = new ManualDurability();
  const whenSafe = durability.whenSafe.bind(durability);
  let waiting = 0;
  durability.whenSafe = (waiter) => {
    waiting++;
    whenSafe(waiter);
  };
  const { server, client } = open({ services: { durability } });
  const observer = { changed: () => void durability.position++, removed() {}, flushed() {} };
  server.store.observers.push(observer);
  const told: KeyChange[] = [];
  client.watch({
    prefix: new Uint8Array(0),
    onChanges: (changes) => void told.push(...changes),
    onLost() {},
    onEnd() {},
  });
  const versions: (string | undefined)[] = [];
  const write = (): void =>
    void client.inTurn((turn) => {
      turn.run(["SET", "k", `${versions.length}`]);
      versions.push(turn.entry(new Uint8Array([0x6b]))?.version);
    });
  write();
  await eventually("the watcher waits, too", () => waiting === 2);
  write();
  durability.reach(1);
  await eventually("it is told", () => told.length === 1);
  expect(told[0].facts?.version).toBe(versions[0]);
});

test("who makes much to write waits with others who do, and takes no turn of who makes little", async () => {
  const durability = new ManualDurability();
  const { server, client } = open({ services: { durability } });
  const written: string[] = [];
  const entry = new Entry();
  server.store.observers.push({
    changed(id) {
      server.store.read(id, entry);
      written.push(Buffer.from(entry.keyBytes()).toString());
      durability.position += 2 * 1024 * 1024;
    },
    removed() {},
    flushed() {},
  });
  const other = server.connect().send("GET a\n");
  const put = (key: string): Promise<unknown> =>
    client.inTurn((turn) => turn.run(["SET", key, "v"]));
  const puts = [put("1"), put("2"), put("3")];
  other.send("SET little v\n");
  while (written.length < 4) {
    durability.reach(durability.position);
    await nextTurn(eventLoop);
  }
  expect(written).toEqual(["1", "little", "2", "3"]);
  durability.reach(durability.position);
  await Promise.all(puts);
});

test.each([
  ["its client goes", ({ client }: Opened) => client.end()],
  ["the node stops", ({ clients }: Opened) => clients.stop()],
])("what waits when %s is not run any more", async (_when, end) => {
  const durability = new ManualDurability();
  const opened = open({ services: { durability } });
  durability.position = 2 * 1024 * 1024;
  const put = opened.client.inTurn((turn) => turn.run(["SET", "late", "v"]));
  end(opened);
  durability.reach(durability.position);
  await expect(put).rejects.toBeInstanceOf(ClientGone);
  expect(opened.server.store.find(Buffer.from("late"), 0, 4)).toBe(-1);
});
