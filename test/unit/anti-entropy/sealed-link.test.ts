/** Sealed links: what is said arrives as it was said, or not at all, and both sides know why not. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { OpeningGate } from "../../../src/anti-entropy/opening-gate.ts";
import { PeerSeal } from "../../../src/anti-entropy/peer-seal.ts";
import { ReplayFilter } from "../../../src/anti-entropy/replay-filter.ts";
import { OPENING_HEADER_BYTES } from "../../../src/anti-entropy/sealed-format.ts";
import { FrameReader } from "../../../src/core/sync/frames.ts";
import { readText } from "../../../src/core/sync/hello.ts";
import { FAIL } from "../../../src/core/sync/items.ts";
import { X25519_BYTES } from "../../../src/security/x25519.ts";
import { Timeline } from "../../sim/timeline.ts";
import { Listener, RawEnd, SealedPair, sealOf, type Meddling } from "../../support/sealed-pair.ts";
import { clusterSecrets } from "../../support/secrets.ts";

const ONE = clusterSecrets("one");
const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

/** The facts of a node about what it refused, those that are not 0. */
function refusalsOf(seal: PeerSeal): Record<string, unknown> {
  const counters = PeerSeal.facts.filter(({ kind }) => kind === "counter");
  const facts = counters.map(({ name, read }) => [name, read(seal)] as const);
  return Object.fromEntries(facts.filter(([, count]) => count !== 0));
}

/** A talk of a few sentences: the caller begins, the callee answers at once, and so on. */
function talk(pair: SealedPair): SealedPair {
  let answers = 0;
  pair.atCallee.onReceive = () => {
    if (answers++ < 2) pair.callee.send(bytes(`answer ${answers}.`));
  };
  let more = 0;
  pair.atCaller.onReceive = () => {
    if (more++ < 2) pair.caller.send(bytes(`more ${more}.`));
  };
  pair.caller.send(bytes("hello."));
  return pair.run();
}

const SAID_BY_CALLER = "hello.more 1.more 2.";
const SAID_BY_CALLEE = "answer 1.answer 2.";

describe("what is said", () => {
  test("arrives, and what is said first rides in the two messages of the handshake", () => {
    const pair = talk(new SealedPair(sealOf(ONE), sealOf(ONE)));
    expect([pair.atCallee.text, pair.atCaller.text]).toEqual([SAID_BY_CALLER, SAID_BY_CALLEE]);
    const lengths = pair.wire.map((it) => it.bytes.length);
    // Opening: 7 + 48; answer: 3 + 48; then 18 more than what is said.
    expect(lengths).toEqual([55 + 6, 51 + 9, 18 + 7, 18 + 9, 18 + 7]);
    expect(pair.wire.map((it) => it.fromCaller)).toEqual([true, false, true, false, true]);
  });

  test("cannot be read on the wire, and is never sealed to the same", () => {
    const seals = [sealOf(ONE), sealOf(ONE)] as const;
    const wires = [1, 2].map(() => {
      const pair = talk(new SealedPair(...seals));
      return Buffer.concat(pair.wire.map((it) => it.bytes));
    });
    for (const wire of wires) {
      for (const word of ["hello", "answer", "more"]) expect(wire.includes(word)).toBe(false);
    }
    expect(wires[0].equals(wires[1])).toBe(false);
    // Type, key id and length of the opening are all that two talks have in common at their start.
    expect(wires[0].subarray(0, 7).equals(wires[1].subarray(0, 7))).toBe(true);
    expect(wires[0].subarray(7, 39).equals(wires[1].subarray(7, 39))).toBe(false);
  });

  test("arrives in its order, however it is cut, both ways and of any length", () => {
    const piece = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 150_000 }).map((length) => new Uint8Array(length).fill(length)),
    );
    const talk = fc.array(fc.tuple(fc.boolean(), piece), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(talk, fc.array(fc.nat(70_000), { minLength: 1 }), piece, (said, cuts, first) => {
        let turn = 0;
        const cut: Meddling = (whole) => {
          const pieces: Uint8Array[] = [];
          for (let at = 0; at < whole.length;) {
            const length = 1 + cuts[turn++ % cuts.length];
            pieces.push(whole.slice(at, at + length));
            at += length;
          }
          return pieces;
        };
        const pair = new SealedPair(sealOf(ONE), sealOf(ONE), cut);
        const sent: [Uint8Array[], Uint8Array[]] = [[first], []];
        pair.caller.send(first);
        for (const [isCaller, piece] of said) {
          if (!isCaller) pair.run();
          (isCaller ? pair.caller : pair.callee).send(piece);
          sent[isCaller ? 0 : 1].push(piece);
        }
        pair.run();
        expect(Buffer.concat(pair.atCallee.received).equals(Buffer.concat(sent[0]))).toBe(true);
        expect(Buffer.concat(pair.atCaller.received).equals(Buffer.concat(sent[1]))).toBe(true);
        expect([pair.caller.queuedBytes, pair.callee.queuedBytes]).toEqual([0, 0]);
      }),
      { numRuns: 50 },
    );
  });

  test("by who is called counts as queued until the answer goes out, and then no more", () => {
    const pair = new SealedPair(sealOf(ONE), sealOf(ONE));
    let queuedBytes = 0;
    pair.atCallee.onReceive = () => {
      pair.callee.send(bytes("answer."));
      ({ queuedBytes } = pair.callee);
    };
    pair.caller.send(bytes("hello."));
    pair.run();
    expect([queuedBytes, pair.callee.queuedBytes, pair.atCallee.drains]).toEqual([7, 0, 1]);
  });

  test("that does not ride in the opening waits for the answer, and counts as queued", () => {
    const pair = new SealedPair(sealOf(ONE), sealOf(ONE));
    pair.caller.send(Buffer.alloc(70_000, 1));
    pair.caller.send(Buffer.alloc(100, 2));
    expect(pair.wire.length).toBe(1);
    expect(pair.caller.queuedBytes).toBe(70_000 + 100 - (65_535 - 48));
    pair.rawCaller.handler!.drained();
    expect(pair.atCaller.drains).toBe(0);
    pair.run();
    expect(pair.atCaller.drains).toBe(1);
    expect(pair.caller.queuedBytes).toBe(0);
    expect(pair.atCallee.text.length).toBe(70_100);
  });

  test("last is sent before the end, by who is called, too", () => {
    const pair = new SealedPair(sealOf(ONE), sealOf(ONE));
    pair.atCallee.onReceive = () => {
      pair.callee.send(bytes("no."));
      pair.callee.end();
    };
    pair.caller.send(bytes("hello."));
    pair.run();
    expect([pair.atCaller.text, pair.rawCallee.isEnded]).toEqual(["no.", true]);
  });

  test("costs no more on the wire than is counted", () => {
    const pair = talk(new SealedPair(sealOf(ONE), sealOf(ONE)));
    const { sealingSent, sealingReceived } = pair.callee;
    expect(sealingSent).toBe(pair.said(false).length - SAID_BY_CALLEE.length);
    expect(sealingReceived).toBe(pair.said(true).length - SAID_BY_CALLER.length);
  });
});

/** Who is in between did something: nobody got what was not said, and who noticed says why. */
function expectNothingForged(pair: SealedPair): void {
  expect(SAID_BY_CALLER.startsWith(pair.atCallee.text)).toBe(true);
  expect(SAID_BY_CALLEE.startsWith(pair.atCaller.text)).toBe(true);
}

function isComplete({ atCallee, atCaller }: SealedPair): boolean {
  return atCallee.text === SAID_BY_CALLER && atCaller.text === SAID_BY_CALLEE;
}

const wireLength = (): number =>
  talk(new SealedPair(sealOf(ONE), sealOf(ONE))).wire.reduce((n, it) => n + it.bytes.length, 0);

describe("whoever is in between", () => {
  test("changes a byte, whichever: who gets it ends the connection and says why", () => {
    const total = wireLength();
    for (let target = 0; target < total; target++) {
      let at = 0;
      const change: Meddling = (whole) => {
        const changed = Uint8Array.from(whole);
        const mine = target - at;
        at += whole.length;
        if (mine >= 0 && mine < whole.length) changed[mine] ^= 1 << (target % 8);
        return [changed];
      };
      const pair = talk(new SealedPair(sealOf(ONE), sealOf(ONE), change));
      expectNothingForged(pair);
      expect(isComplete(pair)).toBe(false);
      // A length that is larger now is waited for: then silence ends it.
      const isOver = pair.rawCaller.isEnded || pair.rawCallee.isEnded;
      if (isOver) {
        const reasons = [pair.atCaller.closedBecause, pair.atCallee.closedBecause];
        expect(reasons.some((reason) => reason !== null)).toBe(true);
      }
    }
  });

  test("lets a part through, whichever: it is the beginning of what was said", () => {
    const total = wireLength();
    for (let left = 0; left < total; left++) {
      let rest = left;
      const truncate: Meddling = (whole) => {
        const passed = whole.slice(0, Math.max(0, rest));
        rest -= whole.length;
        return passed.length === 0 ? [] : [passed];
      };
      const pair = talk(new SealedPair(sealOf(ONE), sealOf(ONE), truncate));
      expectNothingForged(pair);
      for (const end of [pair.rawCaller, pair.rawCallee]) end.handler!.closed();
      expect(pair.atCallee.closedBecause).toBe("lost");
    }
  });

  const drop =
    (n: number): Meddling =>
    (whole) =>
      n-- === 0 ? [] : [whole];
  const double =
    (n: number): Meddling =>
    (whole) =>
      n-- === 0 ? [whole, whole] : [whole];
  test.each([2, 3, 4])("leaves out or doubles message %d", (n) => {
    for (const meddle of [drop(n), double(n)]) {
      const pair = talk(new SealedPair(sealOf(ONE), sealOf(ONE), meddle));
      expectNothingForged(pair);
      const isOver = pair.rawCaller.isEnded || pair.rawCallee.isEnded;
      expect(isComplete(pair) && !isOver).toBe(false);
    }
  });

  test("lets later words go first", () => {
    const seals = [sealOf(ONE), sealOf(ONE)] as const;
    let held: Uint8Array[] | null = null;
    const pair = new SealedPair(...seals, (whole, fromCaller) => {
      if (held === null || !fromCaller) return [whole];
      held.push(whole);
      return held.length < 2 ? [] : held.reverse();
    });
    pair.caller.send(bytes("hello."));
    pair.run();
    held = [];
    pair.caller.send(bytes("one"));
    pair.caller.send(bytes("two"));
    pair.run();
    expect(pair.atCallee.text).toBe("hello.");
    expect(pair.atCallee.closedBecause).toMatch(/changed on the way/);
    expect(refusalsOf(seals[1])).toEqual({ sync_refused_forged: 1 });
  });

  test("says again what he heard: the opening is taken once, and tells him nothing", () => {
    const callee = sealOf(ONE);
    const heard = talk(new SealedPair(sealOf(ONE), callee)).said(true);
    const listener = new Listener();
    const answered: Uint8Array[] = [];
    const raw = new RawEnd("thief:1", (it) => void answered.push(it));
    const link = callee.answer(raw, false);
    link.handler = listener;
    link.receive(heard);
    expect([listener.text, raw.isEnded, answered]).toEqual(["", true, []]);
    expect(listener.closedBecause).toMatch(/somebody repeats what he heard/);
    expect(refusalsOf(callee)).toEqual({ sync_refused_replayed: 1 });
  });

  test("says again the beginning of what he heard: no more of it is waited for", () => {
    const callee = sealOf(ONE);
    const heard = talk(new SealedPair(sealOf(ONE), callee)).said(true);
    const raw = new RawEnd("thief:1", () => {});
    const link = callee.answer(raw, false);
    link.handler = new Listener();
    link.receive(heard.subarray(0, OPENING_HEADER_BYTES + X25519_BYTES - 1));
    expect(raw.isEnded).toBe(false);
    link.receive(heard.subarray(OPENING_HEADER_BYTES + X25519_BYTES - 1));
    expect(raw.isEnded).toBe(true);
    const again = new RawEnd("thief:2", () => {});
    const other = callee.answer(again, false);
    other.handler = new Listener();
    other.receive(heard.subarray(0, OPENING_HEADER_BYTES + X25519_BYTES));
    expect(again.isEnded).toBe(true);
    expect(refusalsOf(callee)).toEqual({ sync_refused_replayed: 2 });
  });

  test("says again to another node what he heard: what follows the opening is not taken", () => {
    const heard = talk(new SealedPair(sealOf(ONE), sealOf(ONE))).said(true);
    const listener = new Listener();
    const answered: Uint8Array[] = [];
    const raw = new RawEnd("thief:1", (it) => void answered.push(it));
    const other = sealOf(ONE);
    const link = other.answer(raw, false);
    link.handler = listener;
    listener.onReceive = () => link.send(bytes("a secret answer"));
    link.receive(heard);
    // It was said by somebody who has the secret: what follows from it follows.
    expect([listener.text, raw.isEnded]).toEqual(["hello.", true]);
    expect(Buffer.concat(answered).includes("secret")).toBe(false);
    expect(refusalsOf(other)).toEqual({ sync_refused_forged: 1 });
  });

  test("gives a side back what it said", () => {
    const own: Uint8Array[] = [];
    const raw = new RawEnd("me:1", (it) => void own.push(it));
    const seal = sealOf(ONE);
    const link = seal.call(raw, false);
    const listener = (link.handler = new Listener());
    link.send(bytes("hello."));
    link.receive(own[0]);
    expect([listener.text, raw.isEnded]).toEqual(["", true]);
    const dressed: Uint8Array[] = [];
    const second = new RawEnd("me:1", (it) => void dressed.push(it));
    const again = seal.call(second, false);
    const other = (again.handler = new Listener());
    again.send(bytes("hello."));
    // As an answer: without the key id.
    again.receive(Buffer.concat([Buffer.of(0xc3), dressed[0].subarray(5)]));
    expect([other.text, second.isEnded]).toEqual(["", true]);
    expect(other.closedBecause).toMatch(/its answer was changed on the way/);
  });

  test("mixes two talks", () => {
    const seals = [sealOf(ONE), sealOf(ONE)] as const;
    const first = talk(new SealedPair(...seals));
    const second = new SealedPair(...seals, (whole, fromCaller) =>
      fromCaller && second.wire.length > 2 ? [first.wire[2].bytes] : [whole],
    );
    talk(second);
    expectNothingForged(second);
    expect(second.atCallee.text).toBe("hello.");
  });

  test("makes a node that may be called for itself only take part in a round", () => {
    const seals = [sealOf(ONE), sealOf(ONE)] as const;
    const pair = new SealedPair(...seals, (it) => [it], { said: true, heard: false });
    pair.caller.send(bytes("hello."));
    pair.run();
    expect([pair.atCallee.text, pair.rawCallee.isEnded]).toEqual(["", true]);
  });
});

describe("who does not have the same secret is refused, and both know why", () => {
  function meet(caller: PeerSeal, callee: PeerSeal): SealedPair {
    const pair = new SealedPair(caller, callee);
    // As a session begins that is not sealed.
    pair.caller.send(Buffer.concat([Buffer.of(0, 0, 1, 0), bytes("hello.")]));
    return pair.run();
  }

  test("with a secret at one without", () => {
    const [caller, callee] = [sealOf(ONE), sealOf(null)];
    const pair = meet(caller, callee);
    expect(pair.atCallee.closedBecause).toBe(
      "it has a cluster secret, and this node has none; set cluster.secret_file to the same secret on both",
    );
    expect(pair.atCaller.closedBecause).toBe(
      "it has no cluster secret, and this node has one; set cluster.secret_file to the same secret on both",
    );
    expect([pair.rawCaller.isEnded, pair.rawCallee.isEnded]).toEqual([true, true]);
    expect(refusalsOf(callee)).toEqual({ sync_refused_no_secret: 1 });
    expect(refusalsOf(caller)).toEqual({ sync_refused_unsealed: 1 });
  });

  test("without a secret at one with: it is told in a frame, as it knows no other words", () => {
    const callee = sealOf(ONE);
    const pair = meet(sealOf(null), callee);
    expect(pair.atCallee.closedBecause).toMatch(/it has no cluster secret, and this node has one/);
    const reader = new FrameReader(10_000);
    reader.push(Buffer.concat(pair.atCaller.received));
    expect(reader.next()).toBe(true);
    expect(reader.u8()).toBe(FAIL);
    reader.u8();
    expect(readText(reader)).toMatch(/this cluster has a secret.*set cluster.secret_file/);
    expect(pair.rawCallee.isEnded).toBe(true);
    expect(refusalsOf(callee)).toEqual({ sync_refused_unsealed: 1 });
  });

  test("with another secret", () => {
    const [caller, callee] = [sealOf(ONE), sealOf(clusterSecrets("two"))];
    const pair = meet(caller, callee);
    const [one, two] = [ONE.current.id, clusterSecrets("two").current.id];
    expect(pair.atCallee.closedBecause).toBe(
      `it has another cluster secret with the id ${one} than this node, whose secret has the id ${two}; ` +
        "set cluster.secret_file to the same secret on both, or list the other in cluster.previous_secret_files while it is changed",
    );
    expect(pair.atCaller.closedBecause).toMatch(
      `it has another cluster secret than this node, whose secret has the id ${one}`,
    );
    expect(refusalsOf(callee)).toEqual({ sync_refused_other_secret: 1 });
    expect(refusalsOf(caller)).toEqual({ sync_refused_other_secret: 1 });
  });

  test("with no secret both talk as before", () => {
    const pair = meet(sealOf(null), sealOf(null));
    pair.callee.send(bytes("answer."));
    pair.run();
    expect(pair.atCallee.text).toEndWith("hello.");
    expect(pair.atCaller.text).toBe("answer.");
  });

  test("an answer that is not sealed", () => {
    const seal = sealOf(ONE);
    const raw = new RawEnd("old:1", () => {});
    const link = seal.call(raw, false);
    const listener = (link.handler = new Listener());
    link.send(bytes("hello."));
    link.receive(Buffer.of(0, 0, 0, 9));
    expect(listener.closedBecause).toMatch(/no cluster secret, or is older/);
    expect([listener.text, raw.isEnded]).toEqual(["", true]);
  });
});

test.each([
  ["the new one first", clusterSecrets("new", ["old"]), clusterSecrets("old", ["new"])],
  ["the old one first", clusterSecrets("old", ["new"]), clusterSecrets("new", ["old"])],
  ["one knows the old one only", clusterSecrets("old"), clusterSecrets("old", ["new"])],
  ["one knows the new one only", clusterSecrets("new"), clusterSecrets("new", ["old"])],
])("while the secret is changed all understand each other: %s", (_what, a, b) => {
  for (const [caller, callee] of [
    [a, b],
    [b, a],
  ] as const) {
    const pair = talk(new SealedPair(sealOf(caller), sealOf(callee)));
    expect([pair.atCallee.text, pair.atCaller.text]).toEqual([SAID_BY_CALLER, SAID_BY_CALLEE]);
  }
});

describe("what can be no message", () => {
  test.each([
    ["nothing in it", Buffer.of(0, 0)],
    ["a seal and nothing", Buffer.concat([Buffer.of(0, 16), Buffer.alloc(16)])],
  ])("%s", (_what, message) => {
    const seals = [sealOf(ONE), sealOf(ONE)] as const;
    const pair = talk(new SealedPair(...seals));
    pair.rawCallee.handler!.receive(message);
    expect(pair.atCallee.closedBecause).toMatch(/too short/);
    expect(refusalsOf(seals[1])).toEqual({ sync_refused_damaged: 1 });
  });
});

test("of what comes before the handshake is done no more is kept than a message may have", () => {
  const raw = new RawEnd("caller:1", () => {});
  const link = sealOf(ONE).answer(raw, false);
  const listener = (link.handler = new Listener());
  const header = Buffer.concat([
    Buffer.of(0xc1),
    Buffer.from(ONE.current.id, "hex"),
    Buffer.of(0xff, 0xff),
  ]);
  link.receive(header);
  for (let sent = 0; sent < 65_535 && !raw.isEnded; sent += 1_000)
    link.receive(Buffer.alloc(1_000));
  expect(raw.isEnded).toBe(true);
  expect(listener.closedBecause).toMatch(/what it said first was changed/);
});

describe("a connection that is to be passed on", () => {
  const timeline = new Timeline();
  const timing = {
    nowMs: () => timeline.nowMs,
    after: (delayMs: number, task: () => void) => timeline.after(delayMs, task),
    soon: (task: () => void) => timeline.after(0, task),
  };

  function gate(seal: PeerSeal) {
    const told: Uint8Array[] = [];
    const link = new RawEnd("client:1", (it) => void told.push(it));
    const behind = new Listener();
    const ends: (string | null)[] = [];
    const opening = new OpeningGate({
      ...{ link, timing, patienceMs: 5_000 },
      examine: (it) => seal.examineGuest(it),
      passOn: () => behind,
      onEnd: (problem) => ends.push(problem),
    });
    return { opening, link, behind, ends, told };
  }

  /** What a member would say first. */
  function openingOf(secrets = ONE): Uint8Array {
    const said: Uint8Array[] = [];
    sealOf(secrets)
      .call(new RawEnd("x:1", (it) => void said.push(it)), false)
      .send(bytes("hello."));
    return said[0];
  }

  test("is, as it came, once whoever came has shown that he has the secret", () => {
    const { opening, behind, ends } = gate(sealOf(ONE));
    const said = openingOf();
    for (const byte of said) opening.receive(Uint8Array.of(byte));
    expect(Buffer.concat(behind.received).equals(said)).toBe(true);
    opening.receive(bytes("more"));
    expect(Buffer.concat(behind.received).subarray(said.length).toString()).toBe("more");
    opening.drained();
    opening.closed();
    expect([behind.drains, behind.closedBecause, ends]).toEqual([1, "lost", [null]]);
    timeline.runUntil(timeline.nowMs + 10_000);
    expect(ends).toEqual([null]);
  });

  test.each([
    ["another secret", () => openingOf(clusterSecrets("two")), /another cluster secret/, 2],
    ["no secret", () => bytes("\0\0\0\x09 hello"), /it has no cluster secret/, -1],
    [
      "something made up",
      () => Buffer.concat([openingOf().subarray(0, 20), Buffer.alloc(100)]),
      /what it said first was changed/,
      2,
    ],
  ] as [string, () => Uint8Array, RegExp, number][])(
    "is not with %s",
    (_what, said, reason, replyBytes) => {
      const { opening, link, behind, ends, told } = gate(sealOf(ONE));
      opening.receive(said());
      expect(ends[0]).toMatch(reason);
      expect([behind.received.length, link.isEnded]).toEqual([0, true]);
      if (replyBytes > 0) expect(Buffer.concat(told).length).toBe(replyBytes);
      opening.receive(bytes("more"));
      expect(behind.received.length).toBe(0);
    },
  );

  test("is not a second time with what was heard, nor after a while", () => {
    const seal = sealOf(ONE);
    const said = openingOf();
    gate(seal).opening.receive(said);
    const second = gate(seal);
    second.opening.receive(said);
    expect(second.ends[0]).toMatch(/somebody repeats/);
    expect(second.told).toEqual([]);
    const late = gate(seal);
    late.opening.receive(said.subarray(0, 10));
    timeline.runUntil(timeline.nowMs + 6_000);
    expect(late.ends).toEqual(["client:1 did not show the secret within 5 s"]);
    expect(late.link.isEnded).toBe(true);
    const gone = gate(seal);
    gone.opening.closed();
    expect(gone.ends).toEqual(["the connection was lost"]);
  });
});

test("the filter of repetitions forgets what was first, when there are too many", () => {
  const filter = new ReplayFilter(3);
  const key = (n: number): Uint8Array => Buffer.alloc(32, n);
  for (const n of [1, 2, 3]) expect(filter.note(key(n))).toBe(true);
  for (const n of [1, 2, 3]) expect(filter.note(key(n))).toBe(false);
  expect(filter.note(key(4))).toBe(true);
  expect(filter.note(key(1))).toBe(true);
  expect(filter.note(key(3))).toBe(false);
});
