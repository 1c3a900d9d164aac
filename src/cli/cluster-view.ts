/**
 * A cluster as one of its nodes shows it: that node knows who is there, and every other one is
 * asked itself where it can be reached from here.
 */
import { OPEN_PEERS } from "../anti-entropy/peer-security.ts";
import { PeerSeal } from "../anti-entropy/peer-seal.ts";
import { parseHostPort } from "../config/address.ts";
import { CURRENT } from "../core/data/capabilities.ts";
import { OperationalError } from "../operational-error.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { realWorld } from "../world.ts";
import { BY_NAME_ONLY, Inspection } from "./inspection.ts";
import type { MemberView } from "../ports.ts";
import type { NodePlace } from "./connect.ts";
import { findingsIn, numberOf, type Facts, type Finding } from "./findings.ts";
import { RespConnection } from "./resp-connection.ts";

/** How long a node other than the one that was named may take, in ms. */
const ASK_WITHIN_MS = 3_000;
/** What `merkle_key` says of a key that follows from the cluster's name. */
const BY_NAME = "name";
/** Nodes asked at once. */
const ASK_AT_ONCE = 16;

/** A node of the cluster. */
export interface NodeStatus {
  readonly member: MemberView;
  /** What it says of itself; null when it could not be asked. */
  readonly facts: Facts | null;
  /** Why it could not be asked; empty when it was. */
  readonly reason: string;
  /** Whether it holds what most do; null when that is not known. */
  readonly isEqual: boolean | null;
  /** How many keys it has more than the one that was named, below 0 for fewer; null if unknown. */
  readonly moreKeys: number | null;
  /** In about how many keys it differs from what most hold; null if that could not be seen. */
  readonly differingKeys: number | null;
  readonly findings: readonly Finding[];
}

/** See the file header. */
export interface ClusterStatus {
  /** The node that was named first. */
  readonly nodes: readonly NodeStatus[];
  /** No warning, and all that is known to be there hold the same. */
  readonly isWell: boolean;
}

/** A node's own words. */
interface Answer {
  readonly facts: Facts | null;
  readonly reason: string;
}

/** Asks the node at `place` and all that it knows of. Throws an OperationalError without it. */
export async function askCluster(
  place: NodePlace,
  secrets: ClusterSecrets | null = null,
): Promise<ClusterStatus> {
  const connection = await RespConnection.open(place);
  let members: MemberView[];
  let first: Answer;
  try {
    first = { facts: parseFacts(await connection.ask(["INFO"])), reason: "" };
    const replies = (await connection.ask(["MEMBERS"])) as readonly Buffer[];
    members = replies.map((reply) => JSON.parse(reply.toString()) as MemberView);
  } finally {
    connection.close();
  }
  const answers = [first, ...(await askAll(members.slice(1), place))];
  const nodes = await measured(judge(members, answers), place, secrets);
  const isWell = nodes.every(
    ({ isEqual, findings }) => isEqual !== false && !findings.some((it) => it.isWarning),
  );
  return { nodes, isWell };
}

/** How many places of the tree differ is about how many keys do, while they are few. */
async function measured(
  nodes: readonly NodeStatus[],
  place: NodePlace,
  secrets: ClusterSecrets | null,
): Promise<NodeStatus[]> {
  const differing = nodes.filter(({ isEqual, facts }) => isEqual !== true && facts !== null);
  const like = nodes.find(({ isEqual, facts }) => isEqual === true && facts !== null);
  if (differing.length === 0 || like === undefined) return [...nodes];
  const [high, low] = realWorld.randomWords(2);
  const seal = new PeerSeal(secrets, realWorld.randomWords);
  const isByName = nodes.some(({ facts }) => facts !== null && keyIn(facts) === BY_NAME);
  const capabilities = isByName ? BY_NAME_ONLY : CURRENT;
  const digestsOf = async ({ member }: NodeStatus): Promise<Float64Array | null> => {
    const isNamed = member === nodes[0].member;
    const address = place.security === null ? member.address : member.tls_address;
    const hostPort = isNamed ? place : parseHostPort(address)!;
    const security = place.security ?? OPEN_PEERS;
    const secured = { ...hostPort, isSecure: place.security !== null };
    const at = { hostPort: secured, nodeId: "", login: place.login ?? null };
    try {
      const salt = { high, low };
      const inspection = await Inspection.open({ ...at, security }, salt, seal, capabilities);
      inspection.close();
      return inspection.digests;
    } catch (error) {
      // Who may not look into a node sees that it differs, and not how far.
      if (!(error instanceof OperationalError)) throw error;
      return null;
    }
  };
  const whole = await digestsOf(like);
  const result: NodeStatus[] = [];
  for (const node of nodes) {
    const own = whole !== null && differing.includes(node) ? await digestsOf(node) : null;
    result.push(own === null ? node : withDifference(node, countOther(own, whole!)));
  }
  return result;
}

/** Where a root could not be compared, what it is of may be the same. */
function withDifference(node: NodeStatus, differingKeys: number): NodeStatus {
  if (node.isEqual === null && differingKeys === 0) return { ...node, isEqual: true };
  return { ...node, isEqual: false, differingKeys };
}

function countOther(one: Float64Array, other: Float64Array): number {
  return one.reduce((count, digest, i) => count + Number(digest !== other[i]), 0);
}

async function askAll(members: readonly MemberView[], place: NodePlace): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (let i = 0; i < members.length; i += ASK_AT_ONCE) {
    const some = members.slice(i, i + ASK_AT_ONCE);
    answers.push(...(await Promise.all(some.map((member) => askOne(member, place)))));
  }
  return answers;
}

async function askOne(member: MemberView, { security, login }: NodePlace): Promise<Answer> {
  if (!member.online) return { facts: null, reason: "it is away" };
  const address = security === null ? member.address : member.tls_address;
  const hostPort = parseHostPort(address);
  if (hostPort === undefined) {
    const protocol = security === null ? "plain text" : "TLS";
    return { facts: null, reason: `it has no address for ${protocol}` };
  }
  let connection: RespConnection | null = null;
  try {
    const at = { ...hostPort, security, ...(login !== undefined && { login }) };
    connection = await RespConnection.open(at, ASK_WITHIN_MS);
    const facts = parseFacts(await connection.ask(["INFO"], ASK_WITHIN_MS));
    const nodeId = facts.get("node_id");
    if (nodeId === member.node_id) return { facts, reason: "" };
    return { facts: null, reason: `another node answers at ${address}: ${nodeId}` };
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    return { facts: null, reason: error.message };
  } finally {
    connection?.close();
  }
}

/** What the key of a node's root follows from. Those of before do not say so. */
function keyIn(facts: Facts): string {
  return facts.get("merkle_key") ?? BY_NAME;
}

/** Whether two roots, each behind its key, are known and of one key. */
function isComparable(one: string | null, other: string | null): boolean {
  return one !== null && one.split(" ")[0] === other?.split(" ")[0];
}

/** `name:value` lines. */
function parseFacts(reply: unknown): Facts {
  const lines = String(reply).split("\r\n");
  const pairs = lines.map((line) => /^([a-z\d_]+):(.*)$/.exec(line)).filter((it) => it !== null);
  return new Map(pairs.map(([, name, value]) => [name, value]));
}

function judge(members: readonly MemberView[], answers: readonly Answer[]): NodeStatus[] {
  const [first] = answers;
  const roots = members.map(({ root, online }, i) => {
    const facts = answers[i].facts;
    const known = facts?.get("merkle_root") ?? (online ? root : null);
    // What presence tells is of the tree that the first node shows.
    return known === null ? null : `${keyIn(facts ?? first.facts!)} ${known}`;
  });
  const common = mostCommon(roots);
  const keys = answers.map(({ facts }) => (facts === null ? NaN : numberOf(facts, "total_keys")));
  return members.map((member, i) => {
    const { facts, reason } = answers[i];
    const more = keys[i] - keys[0];
    return {
      member,
      facts,
      reason,
      isEqual: isComparable(roots[i], common) ? roots[i] === common : null,
      moreKeys: Number.isNaN(more) ? null : more,
      differingKeys: null,
      findings: [...(facts === null ? [] : findingsIn(facts)), ...aboutMember(member, reason)],
    };
  });
}

function aboutMember({ online, seen_ms_ago, way }: MemberView, reason: string): Finding[] {
  if (reason === "") return [];
  if (!online) {
    const ago = formatAgo(seen_ms_ago);
    const advice = "start it, or say FORGET if it does not come back";
    return [{ isWarning: true, what: `it is away, last heard of ${ago} ago`, advice }];
  }
  const by = way === "" ? "" : `; the node that was asked reaches it by ${way}`;
  const what = `it could not be asked itself${by}`;
  return [{ isWarning: false, what, advice: reason }];
}

/** What most hold; of several the first. */
function mostCommon(roots: readonly (string | null)[]): string | null {
  const counts = new Map<string, number>();
  for (const root of roots) if (root !== null) counts.set(root, (counts.get(root) ?? 0) + 1);
  const most = Math.max(0, ...counts.values());
  return roots.find((root) => root !== null && counts.get(root) === most) ?? null;
}

/** A duration for people, to one unit. */
export function formatAgo(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800
    ? `${Math.round(seconds / 3_600)} h`
    : `${Math.round(seconds / 86_400)} d`;
}
