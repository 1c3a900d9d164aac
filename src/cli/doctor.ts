/** `merklekv doctor`: looks at what a node needs around it, and says what to do. */
import { formatHostPort, parseBrokerAddress } from "../config/address.ts";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { OperationalError } from "../operational-error.ts";
import { affordableConnections, openFiles } from "../server/open-files.ts";
import { randomHex } from "../world.ts";
import type { Arguments, Subcommand } from "./arguments.ts";
import { askCluster, type ClusterStatus, type NodeStatus } from "./cluster-view.ts";
import { problemsAround } from "./config.ts";
import { connectToNode } from "./connect.ts";
import { diskFindings } from "./disk-trial.ts";
import { numberOf, type Look } from "./findings.ts";
import { loginGiven, loginOptions } from "./login.ts";
import { formatLead } from "./status-screen.ts";
import { NODE_ANSWERS } from "./resp-connection.ts";
import { environmentFor } from "./service-environment.ts";
import { placeGiven, tlsOptions } from "./tls-options.ts";

/** Files that a node opens beside its connections. */
const OWN_FILES = 64;
const BROKER_WITHIN_MS = 5_000;

/**
 * The subcommand. Exit code 0: nothing was found; 1: something is to be done; 2: neither a
 * configuration was given nor a node found.
 */
export const doctor: Subcommand = {
  usage: "doctor [--config FILE] [-h HOST] [-p PORT] [--user NAME] [--tls …] [--json]",
  about:
    "Looks at what a node needs, and says what to do. With --config, to be given on the node's own\n" +
    "machine: the configuration and the files it names, the limit of open files, the disk's free\n" +
    "space and how long it takes to sync, and whether the broker is reached. Of the running node:\n" +
    "its clock against its peers', its limits, what the broker offers, whether peers reach it, and\n" +
    "whatever merklekv status warns of. Exit code 0: nothing was found; 1: something is to be done;\n" +
    "2: there was nothing to look at.",
  options: [
    { long: "--config", short: "-c", value: "FILE", about: "The node's configuration." },
    { long: "--host", short: "-h", value: "HOST", about: "The node's address; 127.0.0.1." },
    {
      long: "--port",
      short: "-p",
      value: "PORT",
      about: "Its port; 7379, or the configuration's.",
    },
    ...loginOptions,
    ...tlsOptions,
    { long: "--json", about: "Print one JSON object." },
  ],

  async run(given) {
    const path = given.get("--config");
    const looks: Look[] = [];
    const config = path === undefined ? null : lookAtConfiguration(path, looks);
    if (config !== null) {
      looks.push(lookAtFiles(config), ...(await diskFindings(config)), await lookAtBroker(config));
    }
    const isNodeThere = await lookAtNode(given, config, looks);
    const isFine = looks.every(({ result }) => result !== "warning");
    if (given.has("--json")) console.log(JSON.stringify({ ok: isFine, looks }));
    else for (const look of looks) console.log(lineOf(look));
    if (path === undefined && !isNodeThere) return 2;
    return isFine ? 0 : 1;
  },
};

function lineOf({ at, result, what, advice }: Look): string {
  const head = `${result.padEnd(8)} ${at.padEnd(14)} ${what}`;
  return advice === "" ? head : `${head}; ${advice}`;
}

function ok(at: string, what: string): Look {
  return { at, result: "ok", what, advice: "" };
}

function warning(at: string, what: string, advice: string): Look {
  return { at, result: "warning", what, advice };
}

function lookAtConfiguration(path: string, looks: Look[]): Config | null {
  const at = "configuration";
  const loaded = loadConfig({ path, env: environmentFor(path, process.env), randomHex });
  const problems = loaded.ok ? [...problemsAround(loaded.config)] : loaded.problems;
  for (const problem of problems) looks.push(warning(at, problem, "mend it"));
  if (!loaded.ok) return null;
  for (const notice of loaded.notices) looks.push({ at, result: "note", what: notice, advice: "" });
  if (problems.length === 0) looks.push(ok(at, path));
  return loaded.config;
}

function lookAtFiles({ network }: Config): Look {
  const at = "open files";
  const files = openFiles();
  if (files === null) return { at, result: "note", what: "the limit is not known", advice: "" };
  const { max_connections } = network;
  const affordable = affordableConnections(max_connections, OWN_FILES, { ...files, open: 0 });
  const what = `the limit is ${files.limit} here, for network.max_connections = ${max_connections}`;
  if (affordable === max_connections) return ok(at, what);
  return warning(at, what, "raise it: ulimit -n, or LimitNOFILE= in a systemd unit");
}

async function lookAtBroker({ mqtt }: Config): Promise<Look> {
  const at = "broker";
  if (!mqtt.enabled) return ok(at, "none is used");
  const address = parseBrokerAddress(mqtt.broker_address);
  if (address === undefined) return ok(at, "the node has its own");
  const place = formatHostPort(address.host, address.port);
  try {
    const socket = await connectToNode({ ...address, security: null }, BROKER_WITHIN_MS);
    socket.destroy();
    return ok(at, `something answers at ${place}`);
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    const reason = error.message.replace("; is a node running there?", "");
    return warning(at, reason, "check mqtt.broker_address, and the firewalls in between");
  }
}

/** Whether there is a node. */
async function lookAtNode(
  given: Arguments,
  config: Config | null,
  looks: Look[],
): Promise<boolean> {
  const place = { ...placeGiven(given), login: await loginGiven(given) };
  const { bind_port } = config?.network ?? {};
  const isPortKnown = given.has("--port") || given.has("--tls") || !bind_port;
  const at = isPortKnown ? place : { ...place, port: bind_port };
  try {
    looks.push(...looksInto(await askCluster(at)));
    return true;
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    const isThere = error.message.startsWith(NODE_ANSWERS);
    const advice = isThere ? "" : "start it, or say where it is with -h and -p";
    // Before its first start there is none.
    const isExpected = config === null || given.has("--host") || given.has("--port");
    const result = isExpected ? "warning" : "note";
    looks.push({ at: "node", result, what: error.message, advice });
    return false;
  }
}

/** What a running node shows. */
function looksInto({ nodes }: ClusterStatus): Look[] {
  const [node, ...others] = nodes as [NodeStatus, ...NodeStatus[]];
  const { member, findings, facts } = node;
  const looks = [ok("node", `${member.node_id} at ${member.address}, version ${member.version}`)];
  const ahead = numberOf(facts!, "clock_ahead_of_peers_ms");
  const peers = numberOf(facts!, "clock_peers");
  if (facts!.get("clock_off") !== "1") {
    const none = "no peer has said the time yet";
    const what = peers > 0 ? `against its peers': ${formatLead(ahead)}` : none;
    looks.push(ok("clock", what));
  }
  looks.push(lookAtLimit(node));
  if (facts!.get("replication_connected") === "1" && !facts!.has("replication_broker_lacks")) {
    looks.push(ok("broker", "the node is connected, and it offers all that nodes use"));
  }
  for (const { isWarning, what, advice } of findings) {
    looks.push({ at: "node", result: isWarning ? "warning" : "note", what, advice });
  }
  if (node.isEqual === false) {
    const advice = "wait some seconds if there are writes; else see docs/healing.md";
    looks.push(warning("data", "it holds other data than most nodes", advice));
  }
  return [...looks, ...others.map((other) => lookFrom(other, member.node_id))];
}

function lookAtLimit({ facts }: NodeStatus): Look {
  const limit = numberOf(facts!, "connection_limit");
  const used = numberOf(facts!, "connected_clients");
  return ok("connections", `${used} of ${limit} are taken`);
}

/** Whether a peer reaches the node. */
function lookFrom({ member, facts, reason }: NodeStatus, nodeId: string): Look {
  const at = "reachability";
  const peer = member.node_id;
  if (facts === null) return { at, result: "note", what: `${peer} was not asked`, advice: reason };
  const ways = (facts.get("sync_ways") ?? "").split(" ");
  const way = ways.find((it) => it.startsWith(`${nodeId}=`))?.slice(nodeId.length + 1);
  if (way === "tcp" || way === "tls") return ok(at, `${peer} reaches it by ${way}`);
  if (way !== "broker") {
    return { at, result: "note", what: `${peer} has not tried to reach it yet`, advice: "" };
  }
  return warning(
    at,
    `${peer} reaches it through the broker only, which is slow`,
    "set network.advertise_address to what peers reach, and let them through to its port",
  );
}
