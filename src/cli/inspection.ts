/** A look into a running node: its `SyncInspector` and the connection that this talks over. */
import { formatHostPort, type NodeAddress } from "../config/address.ts";
import type { PeerSeal } from "../anti-entropy/peer-seal.ts";
import type { PeerSecurity } from "../anti-entropy/peer-security.ts";
import type { Link, LinkHandler } from "../ports.ts";
import { CURRENT, KEYS_BY_SECRET, type Capabilities } from "../core/data/capabilities.ts";
import type { Entry } from "../core/data/entry.ts";
import type { Salt } from "../core/sync/short-digest.ts";
import type { Hello } from "../core/sync/hello.ts";
import { SyncInspector } from "../core/sync/inspector.ts";
import { OperationalError } from "../operational-error.ts";
import { authLine, LineConnection } from "./line-connection.ts";
import type { Login } from "./login.ts";
import { realWorld } from "../world.ts";

/** Descriptions hold little of a value, so frames are small. */
const MAX_FRAME_BYTES = 1_048_576;
const SILENCE_MS = 30_000;
/** Whoever speaks this is told of a tree that nodes of all versions have. */
export const BY_NAME_ONLY: Capabilities = {
  ...CURRENT,
  features: CURRENT.features & ~KEYS_BY_SECRET,
};

/** What a node holds under a key, but for the rest of a long value. */
export interface Described {
  /** Equal on two nodes, under one salt, exactly when they hold the same. */
  readonly digest: number;
  /**
   * Owns its bytes; its value is the start of what the node holds, as much as `mergeRule` looks at.
   */
  readonly entry: Entry;
  /** Length of the whole value. */
  readonly valueBytes: number;
}

/** Where a node is reached. */
export interface Place {
  readonly hostPort: NodeAddress;
  /** Which one is meant of those that the node there reaches; empty for that one itself. */
  readonly nodeId: string;
  /** How TLS is spoken where it is. */
  readonly security: PeerSecurity;
  /** The login there; null for none. */
  readonly login: Login | null;
}

/** A connection in lines, with the login of the place. */
function openLines({ hostPort, security, login }: Place): Promise<LineConnection> {
  const { host, port, isSecure } = hostPort;
  return LineConnection.open({ host, port, security: isSecure ? security : null, login });
}

/** By which way a node is reached, in words, as INFO of the one that is asked for it tells. */
async function describeWay(place: Place): Promise<string> {
  const { hostPort, nodeId } = place;
  const connection = await openLines(place);
  const { bytes } = await connection.request("INFO");
  connection.close();
  const address = formatHostPort(hostPort.host, hostPort.port);
  const ways = /^sync_ways:(.*)$/m.exec(bytes.toString())?.[1]?.trim().split(" ") ?? [];
  const way = ways.find((it) => it.startsWith(`${nodeId}=`))?.slice(nodeId.length + 1);
  return `through ${address}${way === "broker" ? " and the broker" : ""}`;
}

/** One node looked into. Ask one thing at a time. */
export class Inspection {
  private readonly inspector: SyncInspector;
  private link: Link | null = null;
  private found = new Map<string, Described>();
  private onOutcome: (problem: string | null) => void = () => {};
  private problem: string | null = null;

  /**
   * `address`: where the node is reached, in words; `named`: the same, in a sentence without its
   * name.
   */
  private constructor(
    readonly address: string,
    private readonly named: string,
    salt: Salt,
    capabilities: Capabilities,
  ) {
    this.inspector = new SyncInspector({
      ...{ salt, capabilities },
      maxFrameBytes: MAX_FRAME_BYTES,
      send: (frame) => this.link!.send(frame),
      onEntry: (digest, entry, valueBytes) => {
        const copy = entry.clone();
        const key = Buffer.from(copy.key).toString("latin1");
        this.found.set(key, { digest, entry: copy, valueBytes });
      },
      onAnswered: () => this.onOutcome(null),
      onFailure: (reason) => this.fail(reason),
    });
  }

  /**
   * Looks into two nodes so that they can be compared. Throws an OperationalError when that fails.
   */
  static async openBoth(places: readonly [Place, Place], seal: PeerSeal): Promise<Inspection[]> {
    const [high, low] = realWorld.randomWords(2);
    const open: Inspection[] = [];
    const openAll = async (capabilities: Capabilities): Promise<void> => {
      for (const place of places) {
        open.push(await Inspection.open(place, { high, low }, seal, capabilities));
      }
    };
    const closeAll = (): void => open.splice(0).forEach((it) => it.close());
    try {
      await openAll(CURRENT);
      const [one, two] = open.map(({ hello }) => hello.capabilities.features & KEYS_BY_SECRET);
      if (one !== two && seal.isSealing) {
        closeAll();
        await openAll(BY_NAME_ONLY);
      }
    } catch (error) {
      closeAll();
      throw error;
    }
    return open;
  }

  /**
   * Connects, with the cluster's secret if it has one, and gets the digests of all buckets, which
   * are comparable among those with the same salt that have the same of `KEYS_BY_SECRET`. Throws an
   * OperationalError when that fails.
   */
  static async open(
    place: Place,
    salt: Salt,
    seal: PeerSeal,
    capabilities = CURRENT,
  ): Promise<Inspection> {
    const { host, port } = place.hostPort;
    const isDirect = place.nodeId === "";
    const { login } = place;
    // A login that fails is told of in a line; after a greeting there is no room for one.
    if (isDirect && login !== null) (await openLines(place)).close();
    const address = isDirect ? formatHostPort(host, port) : await describeWay(place);
    const named = isDirect ? address : `${place.nodeId} ${address}`;
    const inspection = new Inspection(address, named, salt, capabilities);
    const peer = isDirect ? "PEER" : `PEER VIA ${place.nodeId}`;
    const answered = inspection.answer();
    answered.catch(() => {}); // awaited below, unless there is no connection
    try {
      await realWorld.dialler(place.security)(
        place.hostPort,
        login === null ? peer : `${authLine(login)}\n${peer}`,
        (link) => inspection.attach(link, seal),
        (reason) => inspection.fail(reason),
        true,
      );
    } catch (error) {
      throw new OperationalError((error as Error).message);
    }
    await answered;
    return inspection;
  }

  /** Who the node is. */
  get hello(): Hello {
    return this.inspector.hello!;
  }

  /** The digest of each bucket. */
  get digests(): Float64Array {
    return this.inspector.digests;
  }

  /**
   * What these buckets hold, by key in latin1. Throws an OperationalError when the node goes away.
   */
  async describe(buckets: readonly number[]): Promise<Map<string, Described>> {
    this.found = new Map();
    const answered = this.answer();
    this.inspector.ask(buckets);
    await answered;
    return this.found;
  }

  /** Ends it. */
  close(): void {
    if (this.problem === null) this.inspector.close();
    this.link?.end();
  }

  private attach(outer: Link, seal: PeerSeal): LinkHandler {
    const handler: LinkHandler = {
      receive: (bytes) => this.inspector.receive(bytes),
      drained() {},
      closed: (reason = "the connection was lost") => this.fail(reason),
    };
    const sealed = seal.isSealing ? seal.call(outer, false) : null;
    if (sealed !== null) sealed.handler = handler;
    this.link = sealed ?? outer;
    this.inspector.start();
    return sealed ?? handler;
  }

  private fail(reason: string): void {
    this.problem ??= reason;
    this.onOutcome(this.problem);
  }

  private answer(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const late = `nothing came for ${SILENCE_MS / 1000} s`;
    const timer = setTimeout(() => this.fail(late), SILENCE_MS);
    this.onOutcome = (problem) => {
      clearTimeout(timer);
      if (problem === null) resolve();
      else reject(new OperationalError(`cannot look into ${this.named}: ${problem}`));
    };
    if (this.problem !== null) this.onOutcome(this.problem);
    return promise;
  }
}
