/** How settings of a running node change, and how they do not; and that their file is watched. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Authority } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { soloConfig, startNodeProcess } from "../support/process.ts";
import { change, Started, type Values } from "../support/reloading-node.ts";
import { ask, connectTls } from "../support/tls-client.ts";
import { usersFile } from "../support/users-node.ts";

const started = new Started();
afterEach(() => started.end());

describe("a change of settings", () => {
  test("a bad file changes nothing, and says all that is wrong with it", async () => {
    const node = await started.node();
    const outcome = await node.change({
      description: "new",
      "network.idle_timeout": -1,
      "logging.level": "loud",
      "auth.acl_file": "/nowhere/users.acl",
    });
    expect(outcome).toMatchObject({ ok: false, problems: [expect.anything(), expect.anything()] });
    expect(await node.setting("description")).toBe("");
    await eventually("it is in the log", () =>
      /idle_timeout.*logging\.level/.test(node.read("log")),
    );
    expect(await node.fact("config_problem")).toContain("network.idle_timeout");
    const again = { "network.idle_timeout": 0, "logging.level": "info", "auth.acl_file": "" };
    expect(await node.change(again)).toMatchObject({ ok: true, changed: ["description"] });
    expect(await node.fact("config_problem")).toBeUndefined();
  });

  test("what a part cannot do with changes nothing, and all parts are asked", async () => {
    const authority = new Authority();
    started.also(() => authority.remove());
    const { cert, key } = authority.issue();
    const node = await started.node({ "tls.cert_file": cert, "tls.key_file": key });
    const outcome = await node.change({
      description: "new",
      "tls.cert_file": "/nowhere/own.crt",
      "auth.acl_file": "/nowhere/users.acl",
      "logging.file_path": "/nowhere/log",
    });
    expect(outcome.ok === false && outcome.problems).toHaveLength(3);
    expect(await node.setting("description")).toBe("");
    const socket = await connectTls({ port: node.tlsPort, caFile: authority.caFile });
    expect(await ask(socket, "PING")).toBe("PONG");
    socket.destroy();
  });

  test("what needs a restart is named once, and the rest is in effect", async () => {
    const node = await started.node();
    const first = await node.change({ "network.bind_port": 1234, description: "a" });
    expect(first).toMatchObject({ changed: ["description"], needRestart: ["network.bind_port"] });
    expect(await node.setting("network.bind_port")).toBe("0");
    expect(await node.fact("config_needs_restart")).toBe("network.bind_port");
    const second = await node.change({ description: "b" });
    expect(second).toMatchObject({ changed: ["description"], needRestart: [] });
    await eventually("it is in the log", () =>
      /restart.*network\.bind_port/.test(node.read("log")),
    );
    await node.change({ "network.bind_port": 0 });
    expect(await node.fact("config_needs_restart")).toBeUndefined();
  });

  test("CONFIG SET wins over the environment, that over the file; UNSET takes it back", async () => {
    const node = await started.node(
      { description: "file" },
      { MERKLE_KV_NETWORK_IDLE_TIMEOUT: "70" },
    );
    expect(await node.setting("network.idle_timeout")).toBe("70");
    await node.change({ "network.idle_timeout": 80 });
    expect(await node.setting("network.idle_timeout")).toBe("70");
    expect(await node.ask("CONFIG SET network.idle_timeout 90 description set")).toBe("OK");
    expect(await node.setting("network.idle_timeout")).toBe("90");
    await node.change({ "network.idle_timeout": 81, description: "other" });
    expect(await node.setting("network.idle_timeout")).toBe("90");
    expect(await node.setting("description")).toBe("set");
    expect(node.live.originOf("description")).toBe("CONFIG SET");
    expect(await node.ask("CONFIG UNSET network.idle_timeout description")).toBe("OK");
    expect(await node.setting("network.idle_timeout")).toBe("70");
    expect(await node.setting("description")).toBe("other");
  });

  test("CONFIG SET takes long values whole", async () => {
    const node = await started.node();
    const peers = Array.from({ length: 100 }, (_, i) => `127.0.0.1:${20_000 + i}`).join(",");
    expect(await node.ask(`CONFIG SET anti_entropy.peer_list ${peers}`)).toBe("OK");
    expect(await node.setting("anti_entropy.peer_list")).toBe(peers);
  });

  test("CONFIG SET sets all or nothing, and says why it does not", async () => {
    const node = await started.node();
    const refused = "ERROR: Invalid command - the settings stay as they are: ";
    expect(await node.ask("CONFIG SET description new network.idle_timeout x")).toBe(
      `${refused}CONFIG SET: network.idle_timeout: found "x"; allowed: an integer from 0 to 2592000`,
    );
    expect(await node.ask("CONFIG SET description new network.bind_port 1")).toContain(
      "network.bind_port: changes with a restart only",
    );
    expect(await node.ask("CONFIG SET network.idle_timeoot 1")).toContain("network.idle_timeout");
    // Whoever says where to write says what is written over.
    expect(await node.ask("CONFIG SET logging.file_path /tmp/x")).toContain("names a place");
    expect(await node.setting("description")).toBe("");
    const free = await started.node({ "auth.password": "pw" });
    await free.ask("AUTH pw");
    const path = join(free.directory, "other");
    expect(await free.ask(`CONFIG SET logging.file_path ${path}`)).toBe("OK");
    await eventually("it is there", () => free.read("other") !== "");
  });

  test("CONFIG SET reckons with the file that is in effect, not with one that is bad", async () => {
    const node = await started.node();
    await node.write("this is no TOML");
    expect(await node.ask("CONFIG SET description new")).toBe("OK");
    expect(await node.ask("CONFIG RELOAD")).toContain("ERROR: Invalid command - the settings stay");
  });

  test("users in the file are read again when it changes, and after a reload of settings", async () => {
    const path = usersFile(["user default off", "user eve on >secret ~* +@all"]);
    const node = await started.node({ "auth.acl_file": path });
    writeFileSync(path, "user default off\nuser bob on >other ~* +@all\n");
    await eventually("bob is a user", async () => {
      const client = await node.connect();
      return (await client.send("AUTH bob other")) === "OK";
    });
    writeFileSync(path, "user bob\nnonsense\n");
    await eventually("it is refused", () => node.read("log").includes("file of users is not used"));
    expect(await (await node.connect()).send("AUTH bob other")).toBe("OK");
  });
});

test("a cluster with a secret moves to another broker, one node after the other", async () => {
  const [first, second] = [await started.broker(), await started.broker()];
  const directory = mkdtempSync(join(tmpdir(), "merklekv-reload-"));
  started.also(() => rmSync(directory, { recursive: true }));
  const secret_file = join(directory, "secret");
  writeFileSync(secret_file, "a secret that is long enough for a cluster", { mode: 0o600 });
  const common: Values = {
    "cluster.secret_file": secret_file,
    "mqtt.enabled": true,
    "mqtt.broker_address": first,
    "anti_entropy.enabled": false,
  };
  const [one, two] = [
    await started.node({ ...common, node_id: "one" }),
    await started.node({ ...common, node_id: "two" }),
  ];
  // Who is not there yet misses what is published, so it is written until it has come.
  const comes = (key: string, from = one, to = two) =>
    eventually(`${key} has come`, async () => {
      await from.ask(`SET ${key} v`);
      return (await to.ask(`GET ${key}`)) === "v";
    });
  await comes("before");
  await change(two, { "mqtt.broker_address": second });
  await one.ask("SET meanwhile v");
  await change(one, { "mqtt.broker_address": second });
  await comes("after");
  await comes("back", two, one);
  expect(await two.fact("replication_refused_forged")).toBe("0");
});

describe("the file of settings is watched", () => {
  const withDescription = (text: string) => `description = "${text}"\n${soloConfig("n")}`;

  async function expectFollowed(path: string, replace: (content: string) => void): Promise<void> {
    const node = await startNodeProcess({ file: path });
    const client = await LineClient.connect(node.port);
    try {
      for (const text of ["one", "two"]) {
        replace(withDescription(text));
        await eventually(`it is ${text}`, async () => {
          const line = await client.send("CONFIG GET description");
          await client.readLine();
          return line === `description:${text}`;
        });
      }
    } finally {
      await client.close();
      await node.stop();
    }
  }

  test("and SIGHUP has it read at once, with the users", async () => {
    const users = usersFile(["user default on nopass ~* +@all"]);
    const config = `${soloConfig("n")}[auth]\nacl_file = "${users}"\n`;
    const node = await startNodeProcess({ config });
    const client = await LineClient.connect(node.port);
    writeFileSync(join(node.directory, "node.toml"), `description = "new"\n${config}`);
    writeFileSync(users, "user default on nopass ~* +@all\nuser eve on >secret ~* +@all\n");
    node.signal("SIGHUP");
    await node.waitFor(/Settings have changed cause=.* keys=description/);
    await node.waitFor(/The users are those of the file again users=2/);
    expect(await client.send("CONFIG GET description")).toBe("description:new");
    await client.close();
    await node.stop();
  });

  test("when another takes its name", async () => {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-reload-"));
    const path = join(directory, "node.toml");
    writeFileSync(path, soloConfig("n"));
    await expectFollowed(path, (content) => {
      writeFileSync(`${path}.new`, content);
      renameSync(`${path}.new`, path);
    });
    rmSync(directory, { recursive: true });
  });

  test("when it is a link in a volume of Kubernetes, which leads elsewhere", async () => {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-reload-"));
    let version = 0;
    const publish = (content: string) => {
      const name = `..${++version}`;
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, "node.toml"), content);
      symlinkSync(name, join(directory, "..data_tmp"));
      renameSync(join(directory, "..data_tmp"), join(directory, "..data"));
    };
    publish(soloConfig("n"));
    symlinkSync("..data/node.toml", join(directory, "node.toml"));
    await expectFollowed(join(directory, "node.toml"), publish);
    rmSync(directory, { recursive: true });
  });
});
