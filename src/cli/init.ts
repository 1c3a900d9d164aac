/**
 * `merklekv init`: makes a directory with all that a node of a closed cluster needs, so that the
 * secure way to begin is the short one. What it prints can be run as it is printed.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, open } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { sha256Of } from "../access/password.ts";
import { isHost, isLoopbackHost, parseBrokerAddress } from "../config/address.ts";
import { isNodeId, NODE_ID_RULE } from "../core/data/name.ts";
import { explainError, realFileSystem, withExplanation } from "../durability/file-system.ts";
import { OperationalError } from "../operational-error.ts";
import { MIN_SECRET_BYTES, secretText } from "../security/keys.ts";
import { readPrivateFile, readSecretFile } from "../security/secret-file.ts";
import { randomHex } from "../world.ts";
import { parseArguments, UsageError, type Arguments, type Subcommand } from "./arguments.ts";
import { DEFAULT_HOST, DEFAULT_PORT } from "./tls-options.ts";

const DEFAULT_BROKER = "mqtt://127.0.0.1:1883";
const FIRST_USER = "admin";
const PASSWORD_BYTES = 24;
const CONFIG = "node.toml";
const SECRET = "cluster.key";
const USERS = "users.acl";
const DATA = "data";
const FROM = `--from`;

/** The subcommand. Nothing is changed when anything of it is there already. */
export const init: Subcommand = {
  usage: "init DIR [--broker URL] [--bind HOST] [--port PORT] [--node-id ID] [--from DIR]",
  about:
    `Makes a directory for a node: ${CONFIG}, ${SECRET}, ${USERS} with the user "${FIRST_USER}" and a\n` +
    `password that is printed once, and ${DATA}. For another node of the cluster give --from a\n` +
    `directory with ${SECRET} and ${USERS} of the first.`,
  options: [
    { long: "--broker", value: "URL", about: `The MQTT broker (${DEFAULT_BROKER}).` },
    { long: "--bind", value: "HOST", about: `Address to serve clients at (${DEFAULT_HOST}).` },
    { long: "--port", value: "PORT", about: `Port to serve clients at (${DEFAULT_PORT}).` },
    { long: "--node-id", value: "ID", about: "Name of the node (the machine's, and some digits)." },
    { long: FROM, value: "DIR", about: `Where ${SECRET} and ${USERS} are to be copied from.` },
  ],
  acceptsOperands: true,

  async run(given) {
    const [directory, ...behind] = given.words;
    // Options may stand behind the directory, too.
    const later = parseArguments(init, behind);
    if (directory === undefined || later.words.length > 0) {
      throw new UsageError(`usage: merklekv ${init.usage}`);
    }
    for (const { long } of init.options) if (later.has(long)) given.set(long, later.get(long)!);
    const plan = planOf(resolve(directory), given);
    const password = randomBytes(PASSWORD_BYTES).toString("base64url");
    await write(plan, password);
    console.log(plan.from === null ? firstSteps(plan, password) : nextSteps(plan));
    return 0;
  },
};

interface Plan {
  readonly directory: string;
  readonly nodeId: string;
  readonly broker: string;
  readonly bind: string;
  readonly port: number;
  /** Null for the first node. */
  readonly from: string | null;
}

/** What is to be made. Throws a UsageError for what no node could be started with. */
function planOf(directory: string, given: Arguments): Plan {
  const nodeId = given.get("--node-id") ?? ownName();
  if (!isNodeId(nodeId)) throw new UsageError(`--node-id: allowed are ${NODE_ID_RULE}`);
  const broker = given.get("--broker") ?? DEFAULT_BROKER;
  if (parseBrokerAddress(broker) === undefined) {
    throw new UsageError("--broker: allowed is mqtt://HOST:PORT, or mqtts://, ws:// or wss://");
  }
  const bind = given.get("--bind") ?? DEFAULT_HOST;
  if (!isHost(bind)) throw new UsageError("--bind: allowed is an IP address or a host name");
  const from = given.get(FROM);
  return {
    ...{ directory, nodeId, broker, bind },
    port: given.port("--port", DEFAULT_PORT),
    from: from === undefined ? null : resolve(from),
  };
}

/** Two nodes on one machine need two names. */
function ownName(): string {
  const name = hostname().replace(/[^A-Za-z0-9.-]/g, "") || "node";
  return `${name.slice(0, 100)}-${randomHex(4)}`;
}

async function write(plan: Plan, password: string): Promise<void> {
  const { directory, from } = plan;
  // Before anything is made, so that nothing is left of what cannot be finished.
  const secret =
    from === null
      ? `${secretText(randomBytes(MIN_SECRET_BYTES))}\n`
      : `${Buffer.from(readSecretFile(join(from, SECRET), "the cluster secret").bytes)}\n`;
  const users =
    from === null ? usersWith(password) : readPrivateFile(join(from, USERS), "the access file");
  const files: [string, string | Uint8Array][] = [
    [CONFIG, configOf(plan)],
    [SECRET, secret],
    [USERS, users],
  ];
  for (const name of [...files.map(([name]) => name), DATA]) await expectNothing(directory, name);
  const made = await withExplanation(
    `make ${directory}`,
    mkdir(directory, { recursive: true, mode: 0o700 }),
  );
  if (made === undefined) await withExplanation(`change ${directory}`, chmod(directory, 0o700));
  for (const [name, content] of files) await writeNew(join(directory, name), content);
  const data = join(directory, DATA);
  await withExplanation(`make ${data}`, realFileSystem.makeDirectory(data));
}

async function expectNothing(directory: string, name: string): Promise<void> {
  const path = join(directory, name);
  if ((await withExplanation(`look at ${path}`, realFileSystem.sizeOf(path))) < 0) return;
  throw new OperationalError(`${path} is there already; choose another directory, or remove it`);
}

async function writeNew(path: string, content: string | Uint8Array): Promise<void> {
  try {
    const file = await open(path, "wx", 0o600);
    await file.writeFile(content);
    await file.sync();
    await file.close();
  } catch (error) {
    throw new OperationalError(`cannot write ${path}: ${explainError(error)}`);
  }
}

/** Nobody may do anything without logging in. */
function usersWith(password: string): string {
  return [
    "# Users and their rights, as Redis writes them. ACL SETUSER and ACL SAVE change this file.",
    "user default off",
    `user ${FIRST_USER} on #${sha256Of(Buffer.from(password))} ~* +@all`,
    "",
  ].join("\n");
}

function configOf({ directory, nodeId, broker, bind, port }: Plan): string {
  const path = (name: string): string => JSON.stringify(join(directory, name));
  const { host } = parseBrokerAddress(broker)!;
  // Others cannot reach it there, so they come through the broker.
  const isHidden = isLoopbackHost(bind) && !isLoopbackHost(host);
  const lines = [
    "# Made by merklekv init. docs/configuration.md has every key.",
    "",
    `node_id = ${JSON.stringify(nodeId)}`,
    "",
    "[cluster]",
    `secret_file = ${path(SECRET)} # the same on every node`,
    "",
    "[network]",
    `bind_address = ${JSON.stringify(bind)}`,
    `bind_port = ${port}`,
    ...(isHidden ? ['advertise_address = "none" # peers come through the broker'] : []),
    "",
    "[auth]",
    `acl_file = ${path(USERS)}`,
    "",
    "[mqtt]",
    `broker_address = ${JSON.stringify(broker)}`,
    "",
    "[storage]",
    `path = ${path(DATA)}`,
    "",
    "[audit]",
    `file = ${path("audit.jsonl")}`,
    "",
  ];
  return lines.join("\n");
}

function firstSteps(plan: Plan, password: string): string {
  const { directory, broker, port } = plan;
  const inside = (name: string): string => quoted(join(directory, name));
  return [
    `Made ${directory} with ${CONFIG}, ${SECRET}, ${USERS} and ${DATA}.`,
    "",
    `The first user is ${FIRST_USER}. Its password, which is kept nowhere and shown only now:`,
    "",
    `    ${password}`,
    "",
    "Start the node:",
    "",
    `    merklekv serve --config ${inside(CONFIG)}`,
    "",
    "Talk to it:",
    "",
    `    merklekv cli -p ${port} --user ${FIRST_USER} --askpass PING`,
    "",
    `For the second node copy ${SECRET} and ${USERS} to it, with their modes, and say there:`,
    "",
    `    mkdir -m 700 first && scp -p THIS_HOST:${inside(`{${SECRET},${USERS}}`)} first/`,
    `    merklekv init second --from first --broker ${quoted(broker)}`,
  ].join("\n");
}

function nextSteps({ directory, port }: Plan): string {
  return [
    `Made ${directory} with ${CONFIG}, ${SECRET}, ${USERS} and ${DATA}.`,
    "Its users and their passwords are those of the node that these come from.",
    "",
    "Start the node:",
    "",
    `    merklekv serve --config ${quoted(join(directory, CONFIG))}`,
    "",
    "Talk to it:",
    "",
    `    merklekv cli -p ${port} --user ${FIRST_USER} --askpass PING`,
  ].join("\n");
}

/** As one word of a shell. */
function quoted(word: string): string {
  return /^[\w.:/{},-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
