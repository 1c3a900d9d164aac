/** Users of the real binary: their file, their connections, and the tools that people have. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import Redis from "ioredis";
import { networkInterfaces } from "node:os";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "redis";
import { Authority } from "../support/certificates.ts";
import { ask, connectTls } from "../support/tls-client.ts";
import { secretFileNamed } from "../support/secret-files.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/mosquitto.ts";
import { LineClient } from "../support/line-client.ts";
import { runBinary, runToEnd, startNodeProcess, type NodeProcess } from "../support/process.ts";
import { redisCli } from "../support/redis.ts";
import {
  failToStart,
  inspect,
  settings,
  startWithUsers,
  usersFile,
} from "../support/users-node.ts";

const sha256 = (text: string): string => new Bun.CryptoHasher("sha256").update(text).digest("hex");
const ADMIN = "admin-pass-1f3870be";
const DASH = "dash-pass-274ad478";
const ARGON = "slow-pass-6d9a1e3c";
const LINES = [
  "# who may do what",
  `user default off`,
  `user admin on #${sha256(ADMIN)} ~* +@all`,
  `user dash on #${sha256(DASH)} ~site:*:temp +@read`,
];

describe("a file of users that cannot be used stops the start with one line", () => {
  const bad: Record<string, [text: string[], mode: number, says: RegExp]> = {
    "others may read it": [LINES, 0o644, /can be read or changed by other users .*chmod 600/],
    "an unknown category": [
      ["user a +@foo nopass"],
      0o600,
      /users\.acl:1: .*"\+@foo".*nearest known one is @\w+/,
    ],
    "an unknown command": [
      ["user a nopass +lpush"],
      0o600,
      /users\.acl:1: .*"\+lpush".*nearest known one is \w+/,
    ],
    "no password": [
      ["user a on +@all ~*"],
      0o600,
      /users\.acl:1: the user "a" is on and has no password: give it #SHA256/,
    ],
    "a password that is no hash": [
      ["user a on #hunter2hunter2"],
      0o600,
      /users\.acl:1: .*rule 2: .*64 characters/,
    ],
    "a forgotten >": [
      ["user a on hunter2hunter2"],
      0o600,
      /users\.acl:1: .*rule 2: Syntax error; a password begins with >/,
    ],
    "two users of a name": [
      ["user a off", "user a off"],
      0o600,
      /users\.acl:2: the user "a" is defined twice/,
    ],
  };
  test.each(Object.entries(bad))("%s", async (_, [text, mode, says]) => {
    const path = usersFile(text, mode);
    const { code, output } = await failToStart(settings(`[auth]\nacl_file = "${path}"`));
    expect(code).toBe(1);
    expect(output).toMatch(says);
    expect(output.trimEnd().split("\n")).toHaveLength(1);
    expect(output).not.toContain("hunter2");
  });

  test("it is not there, is a directory; or there is a password beside it", async () => {
    const missing = await failToStart(settings('[auth]\nacl_file = "/nowhere/users.acl"'));
    expect(missing.code).toBe(1);
    expect(missing.output).toContain(
      'cannot read the file of users (auth.acl_file) in "/nowhere/users.acl": there is no such file',
    );
    const folder = await failToStart(settings('[auth]\nacl_file = "/tmp"'));
    expect([folder.code, folder.output]).toEqual([1, expect.stringContaining("is not a file")]);
    const both = await failToStart(settings('[auth]\nacl_file = "x"\npassword = "hunter2"'));
    expect([both.code, both.output]).toEqual([1, expect.stringContaining("one of the two")]);
    expect(both.output).not.toContain("hunter2");
  });
});

describe("with a file of users", () => {
  let node: NodeProcess;
  let path: string;
  let admin: LineClient;

  const connect = async (user?: string, password?: string): Promise<LineClient> => {
    const client = await LineClient.connect(node.port);
    if (user !== undefined) expect(await client.send(`AUTH ${user} ${password}`)).toBe("OK");
    return client;
  };

  beforeAll(async () => {
    const slow = await Bun.password.hash(ARGON, {
      algorithm: "argon2id",
      memoryCost: 4_096,
      timeCost: 3,
    });
    path = usersFile([...LINES, `user slow on ${slow} ~* +@read +@connection`]);
    node = await startWithUsers(path);
    admin = await connect("admin", ADMIN);
  });
  afterAll(async () => {
    await admin.close();
    await node.stop();
  });

  test("nobody does anything without a login, and everybody may leave", async () => {
    const client = await connect();
    for (const line of [
      "GET k",
      "SET k v",
      "PING",
      "INFO",
      "FLUSH",
      "SHUTDOWN",
      "PEER",
      "COMMAND",
    ]) {
      expect(await client.send(line)).toBe(
        "ERROR: Not authenticated - log in with AUTH user password, or AUTH password",
      );
    }
    expect(await client.send("QUIT")).toBe("OK");
    await client.closed;
  });

  test("a user does what it may and no more; argon2id is checked, too", async () => {
    expect(await admin.send("SET site:1:temp 21")).toBe("OK");
    expect(await admin.send("SET site:1:pin 1234")).toBe("OK");
    const dash = await connect("dash", DASH);
    expect(await dash.send("GET site:1:temp")).toBe("21");
    expect(await dash.send("GET site:1:pin")).toMatch(/^ERROR: Permission denied/);
    expect(await dash.send("SET site:1:temp 22")).toMatch(/^ERROR: Permission denied/);
    await dash.close();
    for (let i = 0; i < 3; i++) await (await connect("slow", ARGON)).close();
  });

  test("rights that change apply at once, and who is removed or turned off is cut off", async () => {
    expect(await admin.send("ACL SETUSER eve on >e ~a* +get +set")).toBe("OK");
    const [eve, other] = [await connect("eve", "e"), await connect("eve", "e")];
    expect(await eve.send("SET a 1")).toBe("OK");
    expect(await admin.send("ACL SETUSER eve -set resetkeys ~b*")).toBe("OK");
    expect(await eve.send("SET b 1")).toContain("'set' command");
    expect(await eve.send("GET a")).toContain("one of the keys");
    expect(await eve.send("GET b")).toBe("(null)");
    expect(await admin.send("ACL SETUSER eve off")).toBe("OK");
    await Promise.all([eve.closed, other.closed]);
    expect(await admin.send("ACL SETUSER eve on")).toBe("OK");
    const again = await connect("eve", "e");
    expect(await admin.send("ACL DELUSER eve")).toBe("1");
    await again.closed;
    // Who is cut off by its own command hears that it was done.
    expect(await admin.send("ACL SETUSER fay on >f +acl ~*")).toBe("OK");
    const fay = await connect("fay", "f");
    expect(await fay.send("ACL DELUSER fay")).toBe("1");
    await fay.closed;
  });

  test("SAVE writes a file for nobody else; LOAD takes all of one or names all that is wrong", async () => {
    expect(await admin.send("ACL SETUSER gil on >g ~g* +@all -@dangerous")).toBe("OK");
    expect(await admin.send("ACL SAVE")).toBe("OK");
    const saved = inspect(path);
    expect(saved.mode).toBe("600");
    expect(saved.text).toContain(`user gil on #${sha256("g")} ~g* +@all -@dangerous\n`);
    expect(saved.text).toContain("user default off -@all\n");
    // A user that nobody could be would make a file that cannot be read.
    expect(await admin.send("ACL SETUSER hal on")).toBe("OK");
    expect(await admin.send("ACL SAVE")).toContain('the user "hal" is on and has no password');
    expect(inspect(path).text).toBe(saved.text);

    const gil = await connect("gil", "g");
    writeFileSync(path, `${saved.text}user x +@foo\nuser gil off\nnonsense\n`);
    const problem = await admin.send("ACL LOAD");
    for (const part of [
      "+@foo",
      '"gil" is defined twice',
      'a line begins with "user"',
      "nothing was changed",
    ]) {
      expect(problem).toContain(part);
    }
    expect(await gil.send("GET g")).toBe("(null)");
    writeFileSync(path, saved.text.replace(/^user gil.*\n/m, "user ida on nopass +ping\n"));
    expect(await admin.send("ACL LOAD")).toBe("OK");
    await gil.closed;
    const users = await admin
      .send("ACL USERS")
      .then(async (first) => [first, ...(await admin.readLines(5))]);
    expect(users).toEqual(["admin", "dash", "default", "ida", "slow", ""]);
  });

  test("a wrong password costs time, more each time, and others none", async () => {
    const client = await connect();
    const wrong = "ERROR: Not authenticated - invalid username-password pair or user is disabled";
    expect(await client.send("AUTH dash nope")).toBe(wrong);
    // The answers are due after 0.25, 0.75, 1.75, 3.75 and 5.75 s.
    client.sendRaw("AUTH dash nope\n".repeat(5));
    expect(await client.readLine()).toBe(wrong);
    expect(await admin.send("GET site:1:temp")).toBe("21");
    expect(client.unread().split(wrong).length - 1).toBeLessThan(4);
    await client.close();
  });

  test("peers need a secret, and both sides say so", async () => {
    const other = await startNodeProcess();
    const client = await LineClient.connect(other.port);
    const told = await client.send(`SYNC 127.0.0.1 ${node.port}`);
    expect(told).toContain("Not authenticated - log in with AUTH");
    await node.waitFor(/A peer is refused/);
    await client.close();
    await other.stop();
  });

  test.skipIf(redisCli === null)("redis-cli", async () => {
    const run = async (args: string[], env: Record<string, string> = {}): Promise<string> => {
      const all = [redisCli!, "-p", String(node.port), ...args];
      const child = Bun.spawn(all, {
        env: { ...process.env, ...env },
        stdout: "pipe",
        stderr: "pipe",
      });
      const texts = [child.stdout, child.stderr].map((it) => new Response(it).text());
      return (await Promise.all(texts)).join("");
    };
    const as = ["--user", "dash", "--pass", DASH, "--no-auth-warning"];
    expect(await run([...as, "GET", "site:1:temp"])).toBe("21\n");
    expect(await run([...as, "GET", "x"])).toContain("NOPERM");
    expect(await run(["GET", "site:1:temp"])).toContain("NOAUTH Authentication required.");
    expect(await run([...as, "-3", "GET", "site:1:temp"])).toBe("21\n");
    expect(await run(["--user", "dash", "--pass", "x", "GET", "y"])).toContain("WRONGPASS");
    expect(await run(["--user", "dash", "GET", "site:1:temp"], { REDISCLI_AUTH: DASH })).toBe(
      "21\n",
    );
  });

  test("ioredis and node-redis", async () => {
    const io = new Redis({ port: node.port, username: "dash", password: DASH, lazyConnect: true });
    await io.connect();
    expect(await io.get("site:1:temp")).toBe("21");
    await expect(io.get("x")).rejects.toThrow("NOPERM");
    io.disconnect();
    const url = `redis://dash:${DASH}@127.0.0.1:${node.port}`;
    for (const RESP of [2, 3] as const) {
      const client = createClient({ url, RESP });
      client.on("error", () => {});
      await client.connect();
      expect(await client.get("site:1:temp")).toBe("21");
      await expect(client.get("x")).rejects.toThrow("NOPERM");
      client.destroy();
    }
    const wrong = createClient({
      url: url.replace(DASH, "x"),
      socket: { reconnectStrategy: false },
    });
    wrong.on("error", () => {});
    await expect(wrong.connect()).rejects.toThrow("WRONGPASS");
  });

  test("cli: by environment, file, question and, with a warning, on the command line", async () => {
    const at = ["cli", "-p", String(node.port)];
    const file = usersFile([DASH]);
    const get = ["GET", "site:1:temp"];
    const env = { MERKLE_KV_PASSWORD: DASH };
    const runs = [
      await runToEnd([...at, "--user", "dash", ...get], { env }),
      await runToEnd([...at, ...get], { env: { ...env, MERKLE_KV_USER: "dash" } }),
      await runToEnd([...at, "--user", "dash", "--pass-file", file, ...get]),
    ];
    for (const run of runs) expect(run).toEqual({ code: 0, output: "21\n" });
    const asked = await runToEnd([...at, "--user=dash", "--askpass", ...get], {
      input: `${DASH}\n`,
    });
    expect(asked.output).toContain("21\n");
    const typed = await runToEnd([...at, "--user", "dash", "--pass", DASH, ...get]);
    expect(typed.output).toContain("21\n");
    expect(typed.output).toContain("others can see a password on the command line");
    const wrong = await runToEnd([...at, "--user", "dash", ...get], {
      env: { MERKLE_KV_PASSWORD: "x" },
    });
    expect(wrong).toEqual({
      code: 1,
      output: expect.stringMatching(/cannot log in at 127\.0\.0\.1:\d+: Not authenticated/),
    });
    const none = await runToEnd([...at, ...get]);
    expect(none).toEqual({
      code: 1,
      output: expect.stringContaining("Not authenticated - log in"),
    });
    const denied = await runToEnd([...at, "--user", "dash", "FLUSH"], { env });
    expect(denied).toEqual({ code: 1, output: expect.stringContaining("Permission denied") });
    const noPassword = await runToEnd([...at, "--user", "dash", ...get]);
    expect(noPassword).toEqual({ code: 2, output: expect.stringContaining("--askpass") });
  });
});

describe("with a password only", () => {
  test("the default user has it, as with Redis' requirepass", async () => {
    const config = settings("");
    const node = await startNodeProcess({ config, env: { MERKLE_KV_AUTH_PASSWORD: ADMIN } });
    const client = await LineClient.connect(node.port);
    expect(await client.send("GET k")).toMatch(/^ERROR: Not authenticated/);
    expect(await client.send(`AUTH ${ADMIN}`)).toBe("OK");
    expect(await client.send("SET k v")).toBe("OK");
    expect(await client.send("ACL WHOAMI")).toBe("default");
    await client.close();
    await node.stop();
  });
});

test("nodes with users and one secret sync, and nobody else says PEER", async () => {
  const path = usersFile(LINES);
  const start = (secret: string, id: string): Promise<NodeProcess> => {
    const auth = `[auth]\nacl_file = "${path}"\n[cluster]\nsecret_file = "${secretFileNamed(secret)}"`;
    return startNodeProcess({ config: settings(auth).replace('"n"', `"${id}"`) });
  };
  const [a, b, stranger] = [
    await start("one", "a"),
    await start("one", "b"),
    await start("two", "c"),
  ];
  const [onA, onB] = [await LineClient.connect(a.port), await LineClient.connect(b.port)];
  for (const client of [onA, onB]) expect(await client.send(`AUTH admin ${ADMIN}`)).toBe("OK");
  expect(await onA.send("SET k v")).toBe("OK");
  expect(await onB.send(`SYNC 127.0.0.1 ${a.port} --verify`)).toBe("OK");
  expect(await onB.send("GET k")).toBe("v");
  expect(await onB.send(`SYNC 127.0.0.1 ${stranger.port}`)).toContain("ERROR: Connection failed");
  for (const client of [onA, onB]) await client.close();
  for (const node of [a, b, stranger]) await node.stop();
});

test("the name in a certificate is the user, and needs no password", async () => {
  const authority = new Authority();
  const own = authority.issue();
  const dash = authority.issue({ name: "dash" });
  const stranger = authority.issue({ name: "nobody" });
  const path = usersFile(["user default off", "user dash on ~site:*:temp +@read +acl|whoami"]);
  const files = `cert_file = "${own.cert}"\nkey_file = "${own.key}"\nca_file = "${authority.caFile}"`;
  const tls = `certificate_users = "common_name"\n[tls]\n${files}\nclient_certificates = "request"`;
  const node = await startWithUsers(path, tls, "tls_port = 0");
  try {
    const options = { port: node.tlsPort, caFile: authority.caFile };
    const asDash = await connectTls({ ...options, certificate: dash });
    expect(await ask(asDash, "ACL WHOAMI")).toBe("dash");
    expect(await ask(asDash, "GET site:1:temp")).toBe("(null)");
    expect(await ask(asDash, "SET site:1:temp 1")).toContain("Permission denied");
    for (const other of [undefined, stranger]) {
      const socket = await connectTls({ ...options, ...(other && { certificate: other }) });
      expect(await ask(socket, "GET site:1:temp")).toContain("Not authenticated");
      socket.destroy();
    }
    const plain = await LineClient.connect(node.port);
    expect(await plain.send("GET site:1:temp")).toContain("Not authenticated");
    await plain.close();
    asDash.destroy();
  } finally {
    await node.stop();
    authority.remove();
  }
});

/** An address of this machine by which it looks like another. */
const outward = Object.values(networkInterfaces())
  .flatMap((all) => all ?? [])
  .find(({ internal, family }) => !internal && family === "IPv4")?.address;
if (outward === undefined)
  console.warn("skipped: this machine has no address but its own loopback");

test("a file in which no user is on is taken, and the log says that nobody can log in", async () => {
  const node = await startWithUsers(usersFile(["# none yet"]));
  await node.waitFor(/WARN .*Nobody can log in: no user of the file is on/);
  await node.stop();
});

describe.skipIf(outward === undefined)("without users, from another address", () => {
  const ADMINISTRATION =
    "SHUTDOWN;FLUSH;FLUSHDB;FLUSHALL;TRUNCATE;CONFIG GET x;CONFIG RESETSTAT;BACKUP;SNAPSHOT;" +
    "BGREWRITEAOF;REPLICATE status;REPLICATE disable;SYNC 127.0.0.1 1;FORGET n2;CLIENT KILL 1;ACL LIST;" +
    "ACL WHOAMI;ACL SETUSER x";

  test("data may be read and written, and nothing is administered", async () => {
    const node = await startNodeProcess({ config: settings("", 'bind_address = "0.0.0.0"') });
    await node.waitFor(
      /There are no users: clients on this machine may do everything, others may read/,
    );
    const client = await LineClient.connect(node.port, outward);
    for (const line of ADMINISTRATION.split(";")) {
      const answer = await client.send(line);
      expect(`${line}: ${answer}`).toContain("ERROR: Permission denied - ");
      expect(answer).toContain("network.open_administration = true");
    }
    expect(await client.send("PEER")).toMatch(
      /^ERROR: Permission denied - peers .*cluster\.secret_file/,
    );
    expect(await client.send("SET k v")).toBe("OK");
    expect(await client.send("GET k")).toBe("v");
    expect(await client.send("SCAN")).toBe("KEYS 1");
    expect(await client.readLine()).toBe("k");
    expect(await client.send("CLIENT ID")).toMatch(/^\d+$/);
    expect(await client.send("AUTH default anything")).toBe("OK");
    expect(await client.send("FLUSH")).toContain("ERROR: Permission denied - ");
    // As soon as there is a user, the default one is the same everywhere.
    const local = await LineClient.connect(node.port);
    expect(await local.send("ACL SETUSER default resetkeys ~a*")).toBe("OK");
    expect(await client.send("GET k")).toContain("this user has no permissions");
    expect(await client.send("ACL WHOAMI")).toBe("default");
    expect(await local.send("CLIENT KILL USER default")).toBe("2");
    await local.close();
    await client.close();
    await node.stop();
  });

  test("or all of it is, if the configuration says so", async () => {
    const network = 'bind_address = "0.0.0.0"\nopen_administration = true';
    const node = await startNodeProcess({ config: settings("", network) });
    await node.waitFor(/every client that reaches the port may do everything/);
    const client = await LineClient.connect(node.port, outward);
    expect(await client.send("CONFIG GET node_id")).toBe("node_id:n");
    expect(await client.readLine()).toBe("");
    expect(await client.send("FLUSH")).toBe("OK");
    await client.close();
    await node.stop();
  });

  test("nodes without a secret heal through the broker, and nothing is lost", async () => {
    const brokerPort = await freePort();
    const start = (id: string, broker: string): Promise<NodeProcess> => {
      const network = `bind_address = "0.0.0.0"\nbind_port = 0\nadvertise_address = "${outward}"`;
      const mqtt = `broker_address = "${broker}"\nembedded.bind_port = ${brokerPort}`;
      const more = `[mqtt]\n${mqtt}\n[anti_entropy]\ninterval_seconds = 2\n[storage]\nengine = "memory"`;
      return startNodeProcess({ config: `node_id = "${id}"\n[network]\n${network}\n${more}\n` });
    };
    const first = await start("a", "embedded");
    const onFirst = await LineClient.connect(first.port);
    expect(await onFirst.send("SET before v")).toBe("OK");
    // What is written before a node is there comes by a sync or not at all.
    const second = await start("b", `mqtt://127.0.0.1:${brokerPort}`);
    const onSecond = await LineClient.connect(second.port);
    await eventually("it is healed", async () => (await onSecond.send("GET before")) === "v");
    await second.waitFor(/A peer is reached through the broker/);
    for (const client of [onFirst, onSecond]) await client.close();
    for (const node of [second, first]) await node.stop();
  });

  test("peers say in both logs why they do not sync", async () => {
    const network = 'bind_address = "0.0.0.0"';
    const node = await startNodeProcess({ config: settings("", network) });
    const more = `[anti_entropy]\npeer_list = ["${outward}:${node.port}"]`;
    const other = await startNodeProcess({ config: settings(more).replace('"n"', '"m"') });
    await node.waitFor(/A peer is refused.*cluster\.secret_file/);
    await other.waitFor(/peers on other machines need a cluster secret/);
    await other.stop();
    await node.stop();
  });
});

test("passwords are nowhere but where they were put", async () => {
  const path = usersFile(LINES);
  const more = `[logging]\nlevel = "trace"\n[audit]\nfile = "audit.log"\n[storage]\npath = "data"`;
  const node = await startWithUsers(path, more);
  const env = { MERKLE_KV_PASSWORD: ADMIN };
  const cli = await runBinary(["cli", "-p", String(node.port), "--user", "admin"], { env });
  const heard: string[] = [];
  const seen = (): void => {
    heard.push(readFileSync(`/proc/${cli.pid}/cmdline`, "latin1"));
    heard.push(readFileSync(`/proc/${node.pid}/cmdline`, "latin1"));
  };
  const client = await LineClient.connect(node.port);
  const ask = async (line: string): Promise<void> => {
    client.sendRaw(`${line}\nECHO that-was-all\n`);
    for (let text = ""; text !== "that-was-all"; heard.push(text)) text = await client.readLine();
  };
  expect(await client.send(`AUTH admin ${ADMIN}x`)).toContain("Not authenticated");
  expect(await client.send(`AUTH admin ${ADMIN}`)).toBe("OK");
  seen();
  const made = "new-pass-0cc175b9";
  for (const line of [
    `ACL SETUSER new on >${made} ~* +@all`,
    `ACL SETUSER new <${made}x`,
    `AUTH new ${made}x`,
    `HELLO 3 AUTH new ${made}`,
    "CONFIG GET *",
    "INFO",
    "STATS",
    "CLIENT LIST",
    "ACL LIST",
    "ACL LOG",
    "ACL GETUSER new",
    "ACL SAVE",
    "COMMAND",
    "BACKUP b",
  ]) {
    await ask(line);
  }
  seen();
  await client.close();
  await cli.kill();
  // Nobody waits for this file, so its lines may come a little later.
  const audit = join(node.directory, "audit.log");
  await eventually("it is written", () => readFileSync(audit, "latin1").includes("ACL SAVE"));
  for (const name of readdirSync(node.directory, { recursive: true })) {
    const file = join(node.directory, String(name));
    if (statSync(file).isFile()) heard.push(readFileSync(file, "latin1"));
  }
  expect(heard.some((text) => text.includes('"event":"login_failed"'))).toBe(true);
  await node.stop().then(() => heard.push(node.output()));
  heard.push(inspect(path).text);
  for (const secret of [ADMIN, made, DASH]) {
    expect(heard.filter((text) => text.includes(secret))).toEqual([]);
  }
});
