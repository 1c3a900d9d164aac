/** `merklekv status`: one screen for the whole cluster, found from one node. */
import { OperationalError } from "../operational-error.ts";
import { delay } from "../timing.ts";
import { realWorld } from "../world.ts";
import type { Subcommand } from "./arguments.ts";
import { askCluster, type ClusterStatus } from "./cluster-view.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { secretFile, secretsFor } from "./cluster-secret.ts";
import type { NodePlace } from "./connect.ts";
import { loginGiven, loginOptions } from "./login.ts";
import { screenOf } from "./status-screen.ts";
import { placeGiven, tlsOptions } from "./tls-options.ts";

const WATCH_EVERY_MS = 2_000;
const CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J";

/**
 * The subcommand. Exit code 0: all is well; 1: there are warnings, or nodes differ; 2: the node
 * that was named cannot be asked.
 */
export const status: Subcommand = {
  usage:
    "status [-h HOST] [-p PORT] [--user NAME] [--tls …] [--secret-file FILE] [--json] [--watch]",
  about:
    "Shows every node of the cluster, as far as the one that is named knows of it: the broker, keys,\n" +
    "whether all hold the same, disk, memory, clock, and what to do something about. The others are\n" +
    "asked themselves where they can be reached from here, with the same login. Exit code 0: all is\n" +
    "well; 1: there are warnings, or nodes differ; 2: the named node cannot be asked.",
  options: [
    { long: "--host", short: "-h", value: "HOST", about: "The node's address; 127.0.0.1." },
    { long: "--port", short: "-p", value: "PORT", about: "Its port; 7379." },
    ...loginOptions,
    ...tlsOptions,
    secretFile,
    { long: "--json", about: "Print one JSON object." },
    { long: "--watch", about: "Show it anew every 2 seconds, until Ctrl-C." },
  ],

  async run(given) {
    const place = { ...placeGiven(given), login: await loginGiven(given) };
    const secrets = secretsFor(given);
    const isJson = given.has("--json");
    if (!given.has("--watch")) return show(place, secrets, isJson, "");
    const clear = process.stdout.isTTY && !isJson ? CLEAR_SCREEN : "";
    for (;;) {
      await show(place, secrets, isJson, clear);
      await delay(realWorld.timing, WATCH_EVERY_MS);
    }
  },
};

async function show(
  place: NodePlace,
  secrets: ClusterSecrets | null,
  isJson: boolean,
  clear: string,
): Promise<number> {
  try {
    const found = await askCluster(place, secrets);
    const text = isJson ? jsonOf(found) : screenOf(found, hasColours());
    process.stdout.write(`${clear}${text}\n`);
    return found.isWell ? 0 : 1;
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    process.stderr.write(`${clear}merklekv: ${error.message}\n`);
    return 2;
  }
}

/** As https://no-color.org has it. */
function hasColours(): boolean {
  return process.stdout.isTTY && !process.env["NO_COLOR"];
}

function jsonOf({ nodes, isWell }: ClusterStatus): string {
  return JSON.stringify({
    ok: isWell,
    nodes: nodes.map(({ member, facts, reason, isEqual, moreKeys, differingKeys, findings }) => ({
      ...member,
      asked: facts !== null,
      ...(reason !== "" && { reason }),
      equal: isEqual,
      more_keys: moreKeys,
      differing_keys: differingKeys,
      findings: findings.map(({ isWarning, what, advice }) => ({
        severity: isWarning ? "warning" : "note",
        what,
        advice,
      })),
      facts: facts === null ? null : Object.fromEntries(facts),
    })),
  });
}
