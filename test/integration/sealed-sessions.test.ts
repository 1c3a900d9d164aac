/** Nodes of a cluster with a secret: all that the peer protocol does works with it, and nothing without. */
import { afterEach, describe, expect, test } from "bun:test";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { runToEnd } from "../support/process.ts";
import { secretFileNamed, secretText } from "../support/secret-files.ts";
import { usersFile } from "../support/users-node.ts";
import { SyncPeer } from "../support/sync-peer.ts";

let nodes: ClusterNode[] = [];
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.process.kill()));
  nodes = [];
});

async function start(id: string, secret: string | null, more: ClusterNodeOptions = {}) {
  const cluster = secret === null ? {} : { secret_file: secretFileNamed(secret) };
  const node = await ClusterNode.start(id, { ...more, cluster: { ...cluster, ...more.cluster } });
  nodes.push(node);
  return node;
}

const sync = (from: ClusterNode, to: ClusterNode, ...options: string[]): Promise<string> =>
  from.ask(["SYNC 127.0.0.1", to.process.port, ...options].join(" "));

async function expectEqual(a: ClusterNode, b: ClusterNode): Promise<void> {
  expect(await a.ask("HASH")).toBe(await b.ask("HASH"));
}

test("SYNC heals both, whoever asks, in every mode", async () => {
  const [one, two] = await Promise.all([start("n1", "one"), start("n2", "one")]);
  await one.askAll(Array.from({ length: 500 }, (_, i) => `SET mine:${i} ${"v".repeat(i)}`));
  await two.askAll(Array.from({ length: 500 }, (_, i) => `SET yours:${i} ${i}`));
  expect(await sync(one, two)).toBe("OK");
  await expectEqual(one, two);
  await two.ask("SET more 1");
  expect(await sync(one, two, "--verify")).toBe("OK");
  await two.ask(`SET large ${"x".repeat(900_000)}`);
  expect(await sync(two, one, "--full", "--verify")).toBe("OK");
  await expectEqual(one, two);
  expect(await one.fact("sync_failed")).toBe(0);
});

test("rounds heal by themselves, and who is forgotten is forgotten by all", async () => {
  const two = await start("n2", "one");
  const antiEntropy = { interval_seconds: 1, peer_list: [two.address] };
  const one = await start("n1", "one", { antiEntropy });
  const gone = await start("n3", "one");
  await Promise.all([sync(gone, one), sync(gone, two)]);
  await two.ask("SET city Hanoi");
  await eventually("it is there", async () => (await one.ask("GET city")) === "Hanoi");
  await gone.process.kill();
  expect(await one.ask("FORGET n3")).toBe("OK");
  await eventually("the other one hears of it", async () => {
    return (await two.fact("sync_members_gone")) === 1;
  });
});

describe("diff of nodes with users", () => {
  const users = usersFile([
    `user admin on >secret ~* +@all`,
    `user dash on >dash ~site:* +@read`,
    `user default off`,
  ]);
  const settings = { env: { MERKLE_KV_AUTH_ACL_FILE: users } };
  const diff = (words: string[], env: Record<string, string> = {}) =>
    runToEnd(["diff", ...words], { env });
  const as = (user: string, password: string) => ({
    MERKLE_KV_USER: user,
    MERKLE_KV_PASSWORD: password,
  });
  const pair = async () => {
    const [one, two] = await Promise.all([
      start("n1", null, settings),
      start("n2", null, settings),
    ]);
    for (const node of [one, two]) expect(await node.ask("AUTH admin secret")).toBe("OK");
    await one.ask("SET city Hanoi");
    return [one.address, two.address];
  };

  test("logs in, and lists what differs", async () => {
    const places = await pair();
    const found = await diff([...places, "--json"], as("admin", "secret"));
    expect([found.code, found.output]).toEqual([1, expect.stringContaining('"city"')]);
  });

  test("says why it cannot", async () => {
    const places = await pair();
    const [none, wrong, lacking] = [
      await diff(places),
      await diff(places, as("admin", "other")),
      await diff(places, as("dash", "dash")),
    ];
    expect([none.code, wrong.code, lacking.code]).toEqual([2, 2, 2]);
    expect(none.output).toMatch(/cannot look into .*Not authenticated - log in with AUTH/);
    expect(wrong.output).toMatch(/cannot log in at .*Not authenticated/);
    expect(lacking.output).toMatch(/no permissions to run the 'peer' command/);
    const file = await diff([...places, "--user", "admin", "--pass-file", "/nowhere"]);
    expect([file.code, file.output]).toEqual([2, expect.stringContaining("there is no such file")]);
  });

  test("where there is a secret, too, it takes both", async () => {
    const nodes = [await start("n1", "one", settings), await start("n2", "one", settings)];
    const places = nodes.map(({ address }) => address);
    const secret = ["--secret-file", secretFileNamed("one")];
    for (const env of [{}, as("admin", "secret"), as("dash", "dash")]) {
      const found = await diff([...places, ...secret], env);
      expect([found.code, found.output]).toEqual([0, expect.stringContaining("hold the same")]);
    }
  });
});

describe("diff", () => {
  async function pair() {
    const two = await start("n2", "one");
    const one = await start("n1", "one", { antiEntropy: { peer_list: [two.address] } });
    await one.ask("SET city Hanoi");
    await sync(one, two);
    return [one, two] as const;
  }
  const diff = (words: string[], env: Record<string, string> = {}) =>
    runToEnd(["diff", ...words], { env });

  test("needs the secret, from a file or the environment", async () => {
    const [one, two] = await pair();
    const places = [one.address, two.address];
    const secretFile = secretFileNamed("one");
    for (const found of [
      await diff([...places, "--secret-file", secretFile]),
      await diff([`--secret-file=${secretFile}`, ...places]),
      await diff(places, { MERKLE_KV_CLUSTER_SECRET: secretText("one") }),
    ]) {
      expect([found.code, found.output]).toEqual([0, expect.stringContaining("hold the same")]);
    }
    await two.ask("SET city Hue");
    const different = await diff(["--secret-file", secretFile, ...places, "--json"]);
    expect([different.code, different.output]).toEqual([1, expect.stringContaining('"city"')]);
  });

  test("is refused without it, and says what to do", async () => {
    const [one, two] = await pair();
    const places = [one.address, two.address];
    const none = await diff(places);
    expect(none.code).toBe(2);
    expect(none.output).toMatch(/cannot look into .*this cluster has a secret.*secret_file/);
    const other = await diff([...places, "--secret-file", secretFileNamed("two")]);
    expect(other.code).toBe(2);
    expect(other.output).toMatch(/cannot look into .*it has another cluster secret/);
    const missing = await diff([...places, "--secret-file", "/nowhere/secret"]);
    expect([missing.code, missing.output]).toEqual([
      2,
      'merklekv: cannot read the cluster secret in "/nowhere/secret": there is no such file\n',
    ]);
    const refused = /WARN .*A sync that a peer began failed.*has no cluster secret/;
    await eventually("it is logged", () => one.logged(refused) === 1);
  });

  test("with a secret at nodes without says so", async () => {
    const [one, two] = await Promise.all([start("n1", null), start("n2", null)]);
    const found = await diff([one.address, two.address, "--secret-file", secretFileNamed("one")]);
    expect([found.code, found.output]).toEqual([
      2,
      expect.stringContaining("it has no cluster secret, and this node has one"),
    ]);
  });

  test("of a node behind another one: PEER VIA is for who has the secret", async () => {
    const [one] = await pair();
    const places = [one.address, "n2"];
    const found = await diff([...places, "--secret-file", secretFileNamed("one")]);
    expect([found.code, found.output]).toEqual([0, expect.stringContaining("hold the same")]);
    const refused = /WARN .*A connection was not passed on to another node/;
    const thief = await LineClient.connect(one.process.port);
    thief.sendRaw(Buffer.concat([Buffer.from("PEER VIA n2\n"), helloWithoutSecret()]));
    await thief.closed;
    await eventually("it is logged", () => one.logged(refused) === 1);
  });
});

function helloWithoutSecret(): Buffer {
  const opening = new SyncPeer("thief").opening();
  return opening.subarray(opening.indexOf(10) + 1);
}

describe("nodes that do not have the same secret", () => {
  test.each([
    ["one has none", "one", null, /it has no cluster secret/, /it has a cluster secret/],
    ["the other has none", null, "one", /this cluster has a secret/, /it has no cluster secret/],
    ["both have others", "one", "two", /another cluster secret/, /another cluster secret/],
  ] as const)("%s: refuse each other, and both logs say why", async (_what, a, b, saysA, saysB) => {
    const [one, two] = await Promise.all([start("n1", a), start("n2", b)]);
    await one.ask("SET city Hanoi");
    await two.ask("SET river Mekong");
    const reply = await sync(one, two);
    expect(reply).toStartWith("ERROR: Connection failed - ");
    expect(reply).toMatch(saysA);
    expect(reply).toContain("cluster.secret_file");
    const ours = new RegExp(`WARN .*A sync failed.*${saysA.source}`);
    const theirs = new RegExp(`WARN .*A sync that a peer began failed.*${saysB.source}`);
    await eventually("one says so", () => one.logged(ours) === 1);
    await eventually("and the other, too", () => two.logged(theirs) === 1);
    expect([await one.ask("GET river"), await two.ask("GET city")]).toEqual(["(null)", "(null)"]);
  });

  test("heal as soon as they have, though the secret is being changed", async () => {
    const [oldFile, newFile] = [secretFileNamed("old"), secretFileNamed("new")];
    const one = await start("n1", "old", { cluster: { previous_secret_files: [newFile] } });
    const two = await start("n2", "new", { cluster: { previous_secret_files: [oldFile] } });
    await one.ask("SET city Hanoi");
    await two.ask("SET river Mekong");
    expect([await sync(one, two), await sync(two, one)]).toEqual(["OK", "OK"]);
    await expectEqual(one, two);
  });
});

test("without the secret nothing is answered, and what is refused is counted by its reason", async () => {
  const node = await start("n1", "one");
  await node.ask("SET city Hanoi");
  const say = async (bytes: Uint8Array): Promise<string> => {
    const client = await LineClient.connect(node.process.port);
    client.sendRaw(Buffer.concat([Buffer.from("PEER\n"), bytes]));
    await client.closed;
    return client.unread();
  };
  expect(await say(helloWithoutSecret())).toContain("this cluster has a secret");
  expect(await node.fact("sync_refused_unsealed")).toBe(1);
  expect(await say(Buffer.concat([Buffer.of(0xc1, 1, 2, 3, 4, 0, 48), Buffer.alloc(48)]))).toBe(
    "\xc4\x02",
  );
  expect(await node.fact("sync_refused_other_secret")).toBe(1);
  expect(await node.ask("GET city")).toBe("Hanoi");
});

test("where clients need a password, members need none beside the secret", async () => {
  const env = { MERKLE_KV_AUTH_PASSWORD: "correct-horse" };
  const two = await start("n2", "one", { env });
  const antiEntropy = { interval_seconds: 1, peer_list: [two.address] };
  const one = await start("n1", "one", { env, antiEntropy });
  expect(await one.ask("SET city Hanoi")).toStartWith("ERROR: Not authenticated");
  for (const node of [one, two]) expect(await node.ask("AUTH correct-horse")).toBe("OK");
  expect(await two.ask("SET city Hanoi")).toBe("OK");
  await eventually("it is there", async () => (await one.ask("GET city")) === "Hanoi");
});

describe.skipIf(mosquittoPath === null)("nodes that see only the broker", () => {
  test("heal through it, values too large for it included", async () => {
    const broker = await Mosquitto.start();
    const options: ClusterNodeOptions = {
      broker: broker.address,
      network: { advertise_address: "none", max_line_bytes: 8_000_000 },
      antiEntropy: { broker_bytes_per_second: 4_194_304 },
    };
    const [one, two] = [await start("n1", "one", options), await start("n2", "one", options)];
    await two.ask("REPLICATE disable");
    await one.askAll(Array.from({ length: 1_000 }, (_, i) => `SET missed:${i} ${i}`));
    await two.ask("REPLICATE enable");
    await one.ask(`SET large ${"x".repeat(1_048_576)}`);
    const same = async () => (await one.ask("HASH")) === (await two.ask("HASH"));
    await eventually("they hold the same", same);
    expect(await two.ask("STRLEN large")).toBe("1048576");
    expect((await one.info()).get("sync_ways")).toBe("n2=broker");
    expect(await one.ask("SYNC n2 --full --verify")).toBe("OK");
    await broker.stop();
  });
});
