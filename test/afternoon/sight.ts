/** What can be seen of a node from outside: its metrics, its readiness, its log, its answers. */
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { readMetrics, type Sample } from "../support/metrics-text.ts";
import type { Machine } from "./machine.ts";

/** Who asks; an administrator, and who may only watch. */
export interface Logins {
  readonly admin: string;
  readonly watch: string;
}

/** The HTTP port's answer. Rejects when there is none within a second. */
function get({ address, httpPort }: Machine, path: string, logins: Logins): Promise<Response> {
  const authorization = `Basic ${btoa(`watch:${logins.watch}`)}`;
  return fetch(`http://${address}:${httpPort}${path}`, {
    headers: { authorization },
    signal: AbortSignal.timeout(5_000),
  });
}

/** All metrics of a node. */
export async function metricsOf(machine: Machine, logins: Logins): Promise<readonly Sample[]> {
  return readMetrics(await (await get(machine, "/metrics", logins)).text(), false).samples;
}

/** What `/readyz` says: nothing of a node that is ready, else each check that is not well. */
export async function unreadyOf(machine: Machine, logins: Logins): Promise<string> {
  const response = await get(machine, "/readyz", logins);
  const { ready, checks } = (await response.json()) as {
    ready: boolean;
    checks: { name: string; ok: boolean; reason: string }[];
  };
  if (ready !== (response.status === 200)) throw new Error(`ready: ${ready}, ${response.status}`);
  return checks
    .filter(({ ok }) => !ok)
    .map(({ name, reason }) => `${name}: ${reason}`)
    .join("; ");
}

/** The events of a log of JSON lines, with how the line goes on. */
export function eventsIn(log: string): { event: string; message: string }[] {
  const lines = log.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as { event: string; message: string });
}

/** A connection that has logged in as the administrator. */
export async function adminOf({ address, port }: Machine, { admin }: Logins): Promise<LineClient> {
  const client = await LineClient.connect(port, address);
  const reply = await client.send(`AUTH admin ${admin}`);
  if (reply !== "OK") throw new Error(`AUTH: ${reply}`);
  return client;
}

/** Says lines to a node, each with a reply of one line; the replies. */
export async function tell(
  machine: Machine,
  logins: Logins,
  lines: readonly string[],
): Promise<string[]> {
  const client = await adminOf(machine, logins);
  try {
    client.sendRaw(lines.map((line) => `${line}\n`).join(""));
    return await client.readLines(lines.length);
  } finally {
    await client.close();
  }
}

/** Waits until all nodes have the same data; the root. */
export async function untilEqual(machines: readonly Machine[], logins: Logins): Promise<string> {
  return eventually("all nodes have the same root", async () => {
    const roots = await Promise.all(machines.map((it) => tell(it, logins, ["HASH"])));
    const [root] = roots[0];
    return roots.every(([it]) => it === root) ? root : undefined;
  });
}
