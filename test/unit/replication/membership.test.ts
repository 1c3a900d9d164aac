/** Presence of this node: what the broker remembers of an earlier run, and what a twin gives away. */
import { beforeEach, describe, expect, test } from "bun:test";
import { Membership } from "../../../src/replication/membership.ts";
import { CURRENT, OLDEST, type Capabilities } from "../../../src/core/data/capabilities.ts";
import { type PeerPresence } from "../../../src/replication/presence.ts";
import { decodePresence, encodePresence } from "../../../src/replication/presence-message.ts";
import { Timeline } from "../../sim/timeline.ts";
import { readSeries } from "../../support/series.ts";

const EPOCH = 7;
const EARLIER = 6;
const LATER = 8;
const ABSURD = 1_000;
/** What every presence says here. */
const SAID = {
  ...{ address: "127.0.0.1:1", version: "1", roots: {} },
  ...{
    tlsAddress: "",
    sequence: 0,
    clientId: "me",
    hears: true,
    isRelayed: false,
    refreshMs: 60_000,
    connectedMs: 0,
  },
  capabilities: CURRENT,
};

let timeline: Timeline;
let published: boolean[];
/** For how long it said each time that it was connected. */
let connectedMs: number[];
let duplicates: number;
let membership: Membership;
let kept: Set<string>;
/** How often it was asked who is kept. */
let asked: number;
let members: Set<string>;
let forgotten: Set<string>;
let readyMs: number[];
let rootHex: string | null;
/** Whether the broker takes what is published, and when it was found not to come back. */
let isTaken: boolean;
let unheardMs: number[];
let currentKey: string;

beforeEach(() => {
  timeline = new Timeline();
  published = [];
  connectedMs = [];
  duplicates = 0;
  kept = new Set();
  asked = 0;
  members = new Set();
  forgotten = new Set();
  readyMs = [];
  rootHex = null;
  isTaken = true;
  unheardMs = [];
  currentKey = "";
  membership = new Membership({
    nodeId: "me",
    epoch: EPOCH,
    address: () => "127.0.0.1:1",
    tlsAddress: () => "",
    isRelayed: () => false,
    version: "1",
    trees: () => ({
      currentKey,
      rootHex,
      roots: () => (rootHex === null ? {} : { [currentKey]: rootHex }),
    }),
    random: () => 0.5,
    sequence: () => 0,
    clientId: () => "me",
    hears: () => true,
    isMember: (nodeId) => members.has(nodeId),
    isForgotten: (nodeId) => forgotten.has(nodeId),
    onPresence() {},
    publish(message, taken) {
      const presence = decodePresence(message)!;
      published.push(presence.online);
      connectedMs.push(presence.connectedMs);
      if (isTaken) taken();
    },
    onUnheard: () => unheardMs.push(timeline.nowMs),
    onReady: () => readyMs.push(timeline.nowMs),
    isKept: (nodeId) => {
      asked++;
      return kept.has(nodeId);
    },
    isPossibleEpoch: (epoch) => epoch < ABSURD,
    onDuplicateNodeId: () => duplicates++,
    capabilities: CURRENT,
    timing: {
      nowMs: () => timeline.nowMs,
      after: (delayMs, task) => timeline.after(delayMs, task),
      soon: (task) => timeline.after(0, task),
    },
  });
});

function pass(ms: number): void {
  timeline.runUntil(timeline.nowMs + ms);
}

function connect(): void {
  membership.nextWill();
  membership.up(false);
}

/** What the topic of this node's presence brings. */
function hear(epoch: number, online: boolean, retained: boolean, connection = 1): void {
  const rest = { ...SAID, connection };
  membership.receive("me", encodePresence({ nodeId: "me", epoch, online, ...rest }), retained);
}

describe("what an earlier run left is no twin", () => {
  test.each([true, false])(
    "when the broker tells of it after the announcement, online: %p",
    (online) => {
      membership.nextWill();
      membership.nextWill(); // the first attempt failed
      connect();
      expect(published).toEqual([true]);
      hear(EARLIER, online, true);
      expect(duplicates).toBe(0);
    },
  );

  test("nor is its will, over which this node announces itself again", () => {
    connect();
    hear(EARLIER, false, false);
    timeline.runUntil(5_000);
    expect(duplicates).toBe(0);
    expect(published).toEqual([true, true]);
  });

  test("nor is what this node left before its connection broke", () => {
    connect();
    membership.down();
    connect();
    hear(EPOCH, false, true);
    expect(duplicates).toBe(0);
  });
});

test("what an earlier run said, and the broker kept for this one, is no twin", () => {
  connect();
  hear(EARLIER, true, false);
  expect(duplicates).toBe(0);
  hear(EPOCH, true, false);
  // Some brokers do not say that they kept it, and deliver it late.
  hear(EARLIER, true, false);
  expect(duplicates).toBe(0);
});

test("what a broker brings back of an earlier run, at every connection, is no twin", () => {
  for (let i = 0; i < 5; i++) {
    connect();
    hear(EPOCH, true, false);
    for (const retained of [true, false]) hear(EARLIER, true, retained);
    membership.down();
    timeline.runUntil(timeline.nowMs + 60_000);
  }
  expect(duplicates).toBe(0);
});

test("a root that stands still again is announced soon, and once", () => {
  connect();
  pass(10_000);
  published = [];
  rootHex = "abc";
  membership.announceRoot();
  membership.announceRoot();
  pass(1_000);
  expect(published).toEqual([true]);
  membership.announceRoot();
  pass(10_000);
  expect(published).toEqual([true]);
});

test("an epoch that no clock can have said is no twin, is counted, and announced over", () => {
  connect();
  for (const retained of [true, false]) hear(ABSURD, true, retained);
  membership.down();
  connect();
  hear(ABSURD, false, true);
  timeline.runUntil(5_000);
  expect(duplicates).toBe(0);
  expect(membership.impossible).toBe(3);
  expect(published.length).toBeGreaterThan(2);
});

describe("a twin gives itself away", () => {
  test("by what it says, if it was started earlier", () => {
    connect();
    hear(EPOCH, true, false);
    hear(EARLIER, true, false);
    expect(duplicates).toBe(0);
    // It is asked, and answers.
    timeline.runUntil(4_000);
    expect(published).toEqual([true, true]);
    hear(EARLIER, true, false);
    expect(duplicates).toBe(1);
  });

  test("by what it says, if it was started later, and is answered so that it knows", () => {
    connect();
    for (let i = 0; i < 3; i++) {
      hear(LATER, true, false);
      timeline.runUntil(timeline.nowMs + 5_000);
    }
    expect(duplicates).toBe(3);
    expect(published).toEqual([true, true, true, true]);
  });

  test("by what it leaves in place of this node's announcement, again and again", () => {
    connect();
    hear(EARLIER, true, true, 1);
    membership.down();
    connect();
    hear(EARLIER, false, true, 2);
    expect(duplicates).toBe(1);
  });
});

describe("what is for everybody is said as all understand it who are there:", () => {
  const NEWER = { lowest: 5, highest: 7, features: 255 };
  const STRANGE = { lowest: 100, highest: 101, features: 0 };
  const say = (nodeId: string, capabilities: Capabilities, online = true, connection = 1) => {
    const rest = { epoch: 1, ...SAID, connection, clientId: nodeId, capabilities };
    membership.receive(nodeId, encodePresence({ nodeId, online, ...rest }), false);
  };
  const agreed = () => membership.agreement();
  const alone = { version: CURRENT.highest, features: CURRENT.features };

  test("alone, or among newer nodes, as this node does", () => {
    connect();
    expect(agreed()).toEqual(alone);
    say("newer", NEWER);
    expect(agreed()).toEqual(alone);
  });

  test("with an older one, as that one does, from its first word to its last", () => {
    connect();
    say("newer", NEWER);
    say("older", OLDEST);
    expect(agreed()).toEqual({ version: OLDEST.highest, features: 0 });
    say("older", OLDEST, false);
    expect(agreed()).toEqual(alone);
  });

  test("until an older one has been silent for long", () => {
    connect();
    say("older", OLDEST);
    expect(agreed().features).toBe(0);
    timeline.runUntil(timeline.nowMs + 200_000);
    membership.takeChanges();
    expect(agreed()).toEqual(alone);
  });

  test("whoever understands nothing of it does not matter", () => {
    connect();
    say("strange", STRANGE);
    expect(agreed()).toEqual(alone);
  });
});

test("who does not say what it speaks speaks as the oldest; what cannot be spoken is no presence", () => {
  const message = JSON.parse(
    encodePresence({ nodeId: "n1", epoch: 1, connection: 1, online: true, ...SAID }).toString(),
  ) as Record<string, unknown>;
  const read = (speaks: unknown) =>
    decodePresence(Buffer.from(JSON.stringify({ ...message, speaks })));
  expect(read([5, 6, 3])?.capabilities).toEqual({ lowest: 5, highest: 6, features: 3 });
  expect(read([5, 6, 3, "more"])?.capabilities).toEqual({ lowest: 5, highest: 6, features: 3 });
  expect(read(undefined)?.capabilities).toEqual(OLDEST);
  for (const speaks of [null, "5", [], [5], [5, 6], [6, 5, 0], [5, 6, "x"], [0, 5, 0], { 0: 5 }]) {
    expect(read(speaks)).toBeNull();
  }
});

describe("whoever makes up nodes", () => {
  const say = (nodeId: string, topicName = nodeId, facts: object = {}) => {
    const rest = { epoch: 1, connection: 1, ...SAID, clientId: nodeId };
    const message = encodePresence({ nodeId, online: true, ...rest, ...facts });
    membership.receive(topicName, message, false);
  };
  const known = () => membership.list().map(({ nodeId }) => nodeId);

  test("is heard up to a bound; who was heard longest ago is forgotten, but not who was met", () => {
    connect();
    kept.add("n1");
    for (const id of ["n1", "n2"]) say(id);
    for (let i = 0; i < 6_000; i++) say(`forged${i}`);
    expect(known().length).toBe(4_096);
    expect(known()).toContain("n1");
    expect(known()).not.toContain("n2");
    expect(known()).toContain("forged5999");
    expect(membership.crowdedOut).toBe(1_906);
    const changes: PeerPresence[] = [];
    for (let i = 0; i < 100; i++) {
      const some = membership.takeChanges();
      // No slice of what follows is long.
      expect(some.length).toBeLessThanOrEqual(512);
      changes.push(...some);
    }
    expect(changes.length).toBe(4_096);
    expect(new Set(changes.map(({ nodeId }) => nodeId)).size).toBe(4_096);
    expect(changes.every(({ online }) => online)).toBe(true);
    expect(membership.takeChanges()).toEqual([]);
  });

  test("finds no room, or little, among those that were met, and costs no more for it", () => {
    connect();
    for (let i = 0; i < 4_090; i++) {
      kept.add(`n${i}`);
      say(`n${i}`);
    }
    asked = 0;
    for (let i = 0; i < 1_000; i++) say(`forged${i}`);
    expect(asked).toBeLessThan(20 * 1_000);
    const forged = known().filter((nodeId) => !kept.has(nodeId));
    expect(forged.length).toBe(6);
    expect(known().length).toBe(4_096);
  });

  test("speaks for nobody but the topic's own node", () => {
    connect();
    say("n1", "n2");
    expect(known()).toEqual([]);
    say("über", encodeURIComponent("über"));
    expect(known()).toEqual(["über"]);
  });

  test("may use no names and addresses but those that a configuration may hold", () => {
    connect();
    for (const id of ["a\r\nloading:1", "a b", "", "x".repeat(129), "a/b", "a\u0000", "\ud800"]) {
      say(id, "x");
      say(id, encodeURIComponent(id.toWellFormed()));
    }
    for (const address of ["", "no port", "a\r\n:1", "127.0.0.1:99999", "-x:1"]) {
      say("n1", "n1", { address });
    }
    say("n1", "n1", { version: "v".repeat(65) });
    say("n1", "n1", { roots: { "": "no\r\nroot" } });
    expect(known()).toEqual([]);
  });

  test("neither keeps this node from announcing itself nor makes it talk on and on", () => {
    connect();
    for (let i = 0; i < 1_000; i++) {
      say(`forged${i}`);
      timeline.runUntil(timeline.nowMs + 10);
    }
    // In ten seconds.
    expect(published.length).toBeGreaterThan(30);
    expect(published.length).toBeLessThan(45);
  });

  test("does not keep what waits to be published waiting for those who were met", () => {
    connect();
    for (const id of ["n1", "forged1", "forged2"]) say(id);
    timeline.runUntil(100);
    kept.add("n1");
    membership.down();
    readyMs = [];
    connect();
    expect(readyMs).toEqual([]);
    say("n1", "n1", { connection: 2 });
    expect(readyMs).toEqual([100]);
  });

  test("and then falls silent, is forgotten, if there is a broker to be heard over", () => {
    connect();
    say("n1");
    timeline.runUntil(100_000);
    membership.takeChanges();
    say("n2");
    timeline.runUntil(190_000);
    const changes = membership.takeChanges().map(({ nodeId, online }) => [nodeId, online]);
    expect(changes).toEqual([
      ["n2", true],
      ["n1", false],
    ]);
    membership.down();
    timeline.runUntil(400_000);
    expect(membership.takeChanges()).toEqual([]);
    expect(known()).toEqual(["n2"]);
  });
});

describe("what waits to be published after an outage goes when all that were there", () => {
  const say = (nodeId: string, connection: number, retained: boolean, connectedMs = 0): void => {
    const rest = { epoch: 1, ...SAID, connection, clientId: nodeId, connectedMs };
    const message = encodePresence({ nodeId, online: true, ...rest });
    membership.receive(nodeId, message, retained);
  };
  const isReady = () => readyMs.length > 0;

  beforeEach(() => {
    connect();
    for (const id of ["n1", "n2"]) say(id, 1, false);
    pass(60_000);
    membership.down();
    readyMs = [];
  });

  test("have come back, whether they are heard or the broker tells of it", () => {
    // It may tell before the last of the subscriptions is granted.
    say("n1", 2, true);
    membership.nextWill();
    membership.up(true);
    expect(isReady()).toBe(false);
    say("n2", 2, false);
    expect(isReady()).toBe(true);
  });

  test("never were away: who goes on as before was connected to the broker all the time", () => {
    connect();
    for (const id of ["n1", "n2"]) say(id, 1, true);
    expect(isReady()).toBe(false);
    say("n2", 1, false);
    expect(isReady()).toBe(true);
  });

  test("or when it is time", () => {
    connect();
    say("n1", 2, false);
    say("n1", 2, false);
    pass(4_900);
    expect(isReady()).toBe(false);
    pass(200);
    expect(isReady()).toBe(true);
  });

  test("have had that time since somebody came, by what is heard, not by what is remembered", () => {
    connect();
    say("n3", 1, false);
    say("n1", 1, false);
    membership.down();
    readyMs = [];
    connect();
    pass(100);
    say("n1", 2, true, 60_000);
    pass(900);
    say("n2", 2, false, 2_500);
    pass(2_400);
    expect(isReady()).toBe(false);
    pass(200);
    expect(isReady()).toBe(true);
  });

  test("have had that time since a member came that this node has not met, and no stranger", () => {
    connect();
    say("stranger", 1, false, 4_000);
    members.add("n3");
    say("n3", 1, false, 3_000);
    pass(1_900);
    expect(isReady()).toBe(false);
    pass(200);
    expect(isReady()).toBe(true);
  });

  test("have had it long ago, as who is heard has been there for long", () => {
    connect();
    say("n1", 2, false, 60_000);
    pass(0);
    expect(isReady()).toBe(true);
  });

  test("and others are told how long that is, as long as they may want to know", () => {
    connect();
    const told = [1_500, 7_000, 60_000].map((ms) => {
      pass(ms);
      membership.announce();
      return connectedMs.at(-1);
    });
    expect(told).toEqual([1_500, 8_500, 0]);
    membership.down();
    expect(decodePresence(membership.nextWill())!.connectedMs).toBe(0);
  });
});

describe("a fleet of a thousand", () => {
  const COUNT = 1_000;
  const say = (nodeId: string, retained: boolean, connection = 1): number => {
    const facts = { ...SAID, clientId: nodeId, refreshMs: 250_000, connection };
    const message = encodePresence({ nodeId, epoch: 1, online: true, ...facts });
    membership.receive(nodeId, message, retained);
    return message.length;
  };

  test("announces itself so seldom that each hears less than 2 KB/s, and nobody is taken for gone", () => {
    for (let i = 0; i < COUNT; i++) members.add(`node${i}`);
    connect();
    let bytes = 0;
    for (let i = 0; i < COUNT; i++) bytes += say(`node${i}`, true);
    timeline.runUntil(20_000);
    const { length } = published;
    timeline.runUntil(3_620_000);
    const announcements = published.length - length;
    expect(announcements).toBeGreaterThan(10);
    // The topic and the packet come on top of it.
    expect(((announcements / 3_600) * (bytes + COUNT * 60)) | 0).toBeLessThan(2_000);
    membership.takeChanges();
    for (let i = 0; i < COUNT; i++) say(`node${i}`, false);
    timeline.runUntil(timeline.nowMs + 700_000);
    membership.takeChanges();
    expect(membership.count()).toBe(COUNT + 1);
    timeline.runUntil(timeline.nowMs + 60_000);
    membership.takeChanges();
    expect(membership.count()).toBe(1);
  });

  test("that comes back at once makes each announce itself a few times, not a thousand times", () => {
    for (let i = 0; i < COUNT; i++) members.add(`node${i}`);
    for (const id of members) say(id, true);
    connect();
    for (let i = 0; i < COUNT; i++) {
      say(`node${i}`, false, 2);
      timeline.runUntil(timeline.nowMs + 5);
    }
    timeline.runUntil(30_000);
    expect(published.length).toBeLessThanOrEqual(3);
  });
});

test("what the broker remembers of a node that is gone for good does not count, nor an empty message", () => {
  connect();
  const say = (online: boolean, retained: boolean): void => {
    const message = encodePresence({ nodeId: "n1", epoch: 1, connection: 1, online, ...SAID });
    membership.receive("n1", message, retained);
  };
  const known = () => membership.list().map(({ nodeId }) => nodeId);
  forgotten.add("n1");
  say(true, true);
  expect(known()).toEqual([]);
  say(true, false);
  membership.receive("n1", Buffer.alloc(0), false);
  expect(known()).toEqual(["n1"]);
  say(false, false);
  expect(known()).toEqual(["n1"]);
  membership.receive("n1", Buffer.alloc(0), false);
  membership.receive("%", Buffer.alloc(0), false);
  expect(known()).toEqual([]);
});

test("metrics tell which peers are there, and which of them have the same root", () => {
  const hear = (nodeId: string, root: string | null, online = true): void => {
    const roots = root === null ? {} : { "": root };
    const presence = { ...SAID, nodeId, clientId: nodeId, epoch: 1, connection: 1, online, roots };
    membership.receive(nodeId, encodePresence(presence), false);
  };
  rootHex = "aa";
  hear("n2", "aa");
  hear("n3", "bb");
  hear("n4", null);
  hear("n5", "aa", false);
  const online = readSeries(Membership.series, membership, "peer_online");
  expect(online).toEqual({ n2: 1, n3: 1, n4: 1, n5: 0 });
  const equal = (): unknown => readSeries(Membership.series, membership, "peer_roots_equal");
  expect(equal()).toEqual({ n2: 1, n3: 0 });
  rootHex = "bb";
  expect(equal()).toEqual({ n2: 0, n3: 1 });
  rootHex = null;
  expect(equal()).toEqual({});
});

describe("what this node announces of itself", () => {
  test("is missed when it does not come back, once on each connection", () => {
    connect();
    pass(180_000);
    expect(unheardMs).toEqual([5_000]);
    membership.down();
    connect();
    pass(180_000);
    expect(unheardMs).toEqual([5_000, 185_000]);
  });

  test("is not when it comes back, was refused, or the connection ends before", () => {
    connect();
    pass(4_000);
    hear(EPOCH, true, false);
    pass(180_000);
    membership.down();
    connect();
    pass(4_000);
    membership.down();
    isTaken = false;
    connect();
    pass(180_000);
    expect(unheardMs).toEqual([]);
  });

  test("is missed all the same when what comes back is of an earlier connection", () => {
    connect();
    hear(EPOCH, true, false);
    membership.down();
    connect();
    hear(EPOCH, false, true, 1);
    pass(5_000);
    expect(unheardMs).toEqual([5_000]);
  });
});

test("roots are compared only of the tree that this node shows", () => {
  const roots: Record<string, string>[] = [
    { "": "aa" },
    { "11111111": "aa", "22222222": "bb" },
    { "": "aa", "22222222": "cc" },
    {},
  ];
  for (const [i, each] of roots.entries()) {
    const nodeId = `n${i}`;
    const presence = { ...SAID, nodeId, clientId: nodeId, epoch: 1, connection: 1, online: true };
    const message = encodePresence({ ...presence, roots: each });
    expect(decodePresence(message)?.roots).toEqual(each);
    membership.receive(nodeId, message, false);
  }
  const shown = (key: string): unknown => {
    currentKey = key;
    return membership.list().map(({ root }) => root);
  };
  expect(shown("")).toEqual(["aa", null, "aa", null]);
  expect(shown("11111111")).toEqual([null, "aa", null, null]);
  expect(shown("22222222")).toEqual([null, "bb", "cc", null]);
  rootHex = "bb";
  const equal = readSeries(Membership.series, membership, "peer_roots_equal");
  expect(equal).toEqual({ n1: 1, n2: 0 });
});

test("a node of the version before reads the root that it can compare, or none", () => {
  const presence = { ...SAID, nodeId: "n1", clientId: "n1", epoch: 1, connection: 1, online: true };
  const rootIn = (roots: Record<string, string>): unknown => {
    return (JSON.parse(encodePresence({ ...presence, roots }).toString()) as { root: unknown })
      .root;
  };
  expect(rootIn({ "": "aa" })).toBe("aa");
  expect(rootIn({ "11111111": "bb", "": "aa" })).toBe("aa");
  expect(rootIn({ "11111111": "bb" })).toBeNull();
});

describe("a broker that shuts down passes on the wills of all that were connected:", () => {
  const say = (online: boolean, nodeId = "n1") => {
    const message = encodePresence({ nodeId, epoch: 1, connection: 1, online, ...SAID });
    membership.receive(nodeId, message, false);
  };
  const told = () => membership.takeChanges().map(({ nodeId, online }) => [nodeId, online]);

  test("who left just before is there as before, without the broker", () => {
    connect();
    say(true);
    pass(1_000);
    say(false);
    expect(told()).toEqual([["n1", false]]);
    pass(4_900);
    membership.down();
    expect(told()).toEqual([["n1", true]]);
    expect(membership.isOnline("n1")).toBe(true);
  });

  test("who left before that has left, and so has who says so again", () => {
    connect();
    for (const id of ["n1", "n2"]) say(true, id);
    say(false, "n2");
    pass(5_000);
    say(false);
    membership.down();
    expect(told().sort()).toEqual([
      ["n1", true],
      ["n2", false],
    ]);
    connect();
    say(false);
    expect(told()).toEqual([["n1", false]]);
  });
});
