/** Sync sessions that get garbage, lose their connection anywhere, or talk to the wrong node. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BUCKETS } from "../../src/core/tree/digest-tree.ts";
import { type Part, wholeBucket } from "../../src/core/tree/bucket-part.ts";
import { writePart } from "../../src/core/sync/part-frames.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { FRAME_HEADER_BYTES, FrameReader, FrameWriter } from "../../src/core/sync/frames.ts";
import { GroupMask } from "../../src/core/sync/contact-summary.ts";
import { CURRENT } from "../../src/core/data/capabilities.ts";
import { Hello, writeHello } from "../../src/core/sync/hello.ts";
import {
  AGAIN,
  ASK,
  ASK_ALL,
  DIGESTS,
  END,
  ENTRY,
  FETCH,
  LIST,
  OFFER,
  EXPAND,
  PARTS,
  REFUSED,
  ROOT,
  TURN,
  WANT,
  writeEntry,
} from "../../src/core/sync/items.ts";
import { MODES } from "../../src/core/sync/options.ts";
import { FAILURES } from "../../src/core/sync/result.ts";
import { SyncSession, type SyncMode, type SyncResult } from "../../src/core/sync/session.ts";
import { seeded } from "../support/random.ts";
import { del, entriesOf, get, incr, mergeOf, rootOf, set } from "../support/sync-data.ts";
import { runPair, SyncNode, type PipeOptions, type SyncNodeOptions } from "../support/sync-pair.ts";

const NOW_MS = 1_700_000_010_000;

/** All keys lie in one bucket. */
const CROWDED = 0xabab;
const crowding = new RecordDigester(treeKeyOf("merkle-kv"));
const { ofKey } = crowding;
crowding.ofKey = (entry, out) => {
  ofKey.call(crowding, entry, out);
  out.fill(0xab, 0, 2);
};

/** Two nodes that differ in a bit of everything; small, so that tests can be thorough. */
function differing(options: SyncNodeOptions = {}): SyncNode[] {
  const time = { ms: NOW_MS - 10_000 };
  const nodes = ["left", "right"].map(
    (name) => new SyncNode(name, { nowMs: () => time.ms, ...options }),
  );
  const [left, right] = nodes;
  for (const key of ["same", "set", "gone", "counter"]) set(left, key, "1");
  for (const entry of entriesOf(left)) right.store.apply(entry);
  time.ms += 10;
  set(left, "set", "left");
  set(left, "large", "x".repeat(300));
  incr(left, "counter", 5);
  del(right, "gone");
  time.ms += 10;
  set(right, "set", "right");
  set(right, "large", "y".repeat(400));
  incr(right, "counter", -3);
  set(right, "expiring", "v", NOW_MS + 1);
  time.ms = NOW_MS;
  return nodes;
}

/** Nothing was thrown; now a clean session leaves both with exactly the merge of all there was. */
function healCleanly(nodes: SyncNode[]): void {
  const { initiator, responder } = runPair(nodes[0], nodes[1]);
  expect([initiator.reason, responder.reason]).toEqual(["", ""]);
  expect([rootOf(nodes[0]), rootOf(nodes[1])]).toEqual([MERGED, MERGED]);
}

const MERGED = rootOf(mergeOf(...differing()));

/** How many bytes each side sends in a session that nothing disturbs. */
const LENGTHS = ((): { true: number; false: number } => {
  const [left, right] = differing();
  const { initiator } = runPair(left, right);
  return { true: initiator.bytesSent, false: initiator.bytesReceived };
})();

/** Every so manieth byte is tried; 1 tries all and takes a quarter of a minute. */
const STRIDE = 3;

type Tamper = NonNullable<PipeOptions["tamper"]>;

/** Changes one byte of the stream in one direction. */
function changeAt(fromInitiator: boolean, at: number, change: number): Tamper {
  let seen = 0;
  return (isInitiators, frame) => {
    if (isInitiators !== fromInitiator) return frame;
    if (at >= seen && at < seen + frame.length) frame[at - seen] ^= change;
    seen += frame.length;
    return frame;
  };
}

/** Breaks the connection after that many bytes in one direction. */
function cutAt(fromInitiator: boolean, at: number): Tamper {
  let left = at;
  return (isInitiators, frame) => {
    if (left < 0) return null;
    if (isInitiators !== fromInitiator) return frame;
    const passed = frame.subarray(0, left);
    left = left < frame.length ? -1 : left - frame.length;
    return passed;
  };
}

describe.each([
  ["the initiator's", true],
  ["the responder's", false],
])("%s stream", (_, fromInitiator) => {
  const length = LENGTHS[`${fromInitiator}`];

  test("broken off at any byte: who lost it says so, and starting again heals", () => {
    for (let at = 0; at < length; at += STRIDE) {
      const nodes = differing();
      const { initiator, responder } = runPair(
        nodes[0],
        nodes[1],
        {},
        { tamper: cutAt(fromInitiator, at) },
      );
      expect((fromInitiator ? responder : initiator).failure).toBe("closed");
      for (const { ok, reason } of [initiator, responder]) expect(ok).toBe(reason === "");
      healCleanly(nodes);
    }
  });

  test("with any byte changed: who hears it ends with a reason, and nothing wrong is merged", () => {
    const random = seeded(length);
    for (let at = 0; at < length; at += STRIDE) {
      const nodes = differing();
      const change = 1 + Math.floor(random() * 255);
      const { initiator, responder } = runPair(
        nodes[0],
        nodes[1],
        {},
        { tamper: changeAt(fromInitiator, at, change) },
      );
      expect((fromInitiator ? responder : initiator).failure).toMatch(/^(protocol|closed)$/);
      for (const { ok, reason } of [initiator, responder]) expect(ok).toBe(reason === "");
      healCleanly(nodes);
    }
  });
});

/** A frame with a right checksum around whatever payload. */
function frameOf(payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, payload.length);
  view.setUint32(4, Bun.hash.crc32(payload));
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** Gives a lone session these bytes, `later` when it has answered them, then silence; returns how it ended. */
function answerTo(
  bytes: Uint8Array,
  role: "initiator" | "responder",
  mode?: SyncMode,
  later = new Uint8Array(0),
): SyncResult {
  const [node] = differing();
  let result: SyncResult | null = null;
  const session = node.session(
    role,
    () => {},
    (it) => (result = it),
    mode ? { mode } : {},
  );
  if (role === "initiator") session.start();
  while (session.step());
  for (const part of [bytes, later]) {
    for (let at = 0; at < part.length && result === null; at += 50_000) {
      session.receive(part.subarray(at, at + 50_000));
      while (session.step());
    }
  }
  session.close("silence");
  return result!;
}

/** What a peer says first: a HELLO and the end of its turn. */
/** The HELLO of a stranger; an answer to one when it answers one. */
function helloOf(
  change: (hello: Hello) => void = () => {},
  answered: Hello | null = null,
): Uint8Array {
  const frames: Uint8Array[] = [];
  const writer = new FrameWriter((frame) => frames.push(frame.slice()));
  const hello = new Hello();
  hello.cluster = "merkle-kv";
  hello.nodeId = "stranger";
  hello.maxFrameBytes = 1_000_000;
  change(hello);
  writeHello(writer, hello, answered);
  writer.flush();
  return Buffer.concat(frames);
}

/** Its answer to who named nobody. */
const helloAnswer = (): Uint8Array => helloOf(() => {}, new Hello());

describe("a peer that sends", () => {
  const roles = ["initiator", "responder"] as const;

  test("frames that are right around payloads that are not: nothing is thrown, and stores stay whole", () => {
    fc.assert(
      fc.property(
        fc.infiniteStream(fc.nat(9)),
        fc.nat(),
        fc.constantFrom<SyncMode>("watermark", "now", "full", "verify"),
        (plan, seed, mode) => {
          const random = seeded(seed);
          const below = (limit: number): number => Math.floor(random() * limit);
          const nodes = differing();
          const { initiator, responder } = runPair(
            nodes[0],
            nodes[1],
            { mode },
            {
              tamper: (_, frame) => {
                const what = plan.next().value;
                if (what > 3) return frame;
                const payload = frame.slice(FRAME_HEADER_BYTES);
                if (what === 0) return frameOf(payload.subarray(0, below(payload.length)));
                if (what === 1) return Buffer.concat([frame, frame]);
                for (let i = 0; i < what; i++) payload[below(payload.length)] = below(256);
                return frameOf(payload);
              },
            },
          );
          for (const { ok, reason } of [initiator, responder]) expect(ok).toBe(reason === "");
          for (const node of nodes) {
            // What was merged was well-formed, if changed: dated into the future at the most.
            const again = mergeOf(node);
            expect(rootOf(again)).toBe(rootOf(node));
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  test("noise: the session ends with a reason", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.constantFrom(...roles),
        fc.boolean(),
        (bytes, role, isFramed) => {
          const { ok, failure } = answerTo(isFramed ? frameOf(bytes) : bytes, role);
          expect(ok).toBe(false);
          expect(FAILURES).toContain(failure!);
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each(roles)("another protocol, to the %s", (role) => {
    const { failure, reason } = answerTo(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), role);
    expect(failure).toBe("protocol");
    // Who called it is not told what answered.
    const told = "it sent a frame of 1213486168 bytes, more than 262144";
    expect(reason).toBe(role === "responder" ? told : "what answers there is no MerkleKV node");
  });

  test("a length and then nothing: no memory is taken for what has not come", () => {
    const reader = new FrameReader(1_048_576);
    reader.push(Uint8Array.of(0, 3, 255, 240, 1, 2, 3, 4));
    expect([reader.next(), reader.failure, reader.hasFrame]).toEqual([false, "", false]);
    expect(reader.bytes.length).toBeLessThan(10_000);
    expect(answerTo(Uint8Array.of(0, 3, 255, 240, 1), "responder").reason).toBe("silence");
  });

  test.each(roles)("a long frame before it has said who it is, to the %s", (role) => {
    // As long as one may be later.
    expect(answerTo(Uint8Array.of(0, 15, 255, 240), role).failure).toBe("protocol");
  });

  test("an empty frame", () => {
    expect(answerTo(frameOf(new Uint8Array(0)), "responder").reason).toBe("it sent an empty frame");
  });

  test("more than a frame may have, while it is not listened to: reading pauses", () => {
    const session = new SyncNode("here").session(
      "responder",
      () => {},
      () => {},
    );
    session.canSend = false;
    const piece = new Uint8Array(65_536).fill(255);
    let taken = 0;
    for (; session.canReceive && taken < 100; taken++) session.receive(piece);
    expect(taken).toBe(2);
  });

  test("items before it has introduced itself, or when it has not the word", () => {
    const turn = frameOf(Uint8Array.of(2, 0));
    expect(answerTo(turn, "responder").reason).toBe(
      "it does not keep to the sync protocol (item 2)",
    );
    const hello = helloOf((it) => (it.root[0] = 1));
    expect(answerTo(Buffer.concat([hello, hello]), "responder").failure).toBe("protocol");
    expect(answerTo(Buffer.concat([hello, turn, turn]), "responder").failure).toBe("protocol");
  });

  test("a step down the tree that is missing, or one too many", () => {
    const start = Buffer.concat([helloOf((it) => (it.root[0] = 1)), frameOf(Uint8Array.of(2, 0))]);
    const turn = frameOf(Uint8Array.of(2, 0));
    const nothingDiffers = frameOf(Uint8Array.of(5, 0, 0));
    const answers = [[turn], [nothingDiffers, nothingDiffers], [nothingDiffers, turn]].map(
      (frames) => answerTo(start, "responder", undefined, Buffer.concat(frames)),
    );
    expect(answers.map(({ reason }) => reason)).toEqual([
      "it does not keep to the sync protocol (item 2)",
      "it does not keep to the sync protocol (item 5)",
      "silence",
    ]);
  });

  test("a refusal by which nothing was missed: nothing is set aside", () => {
    const [node] = differing();
    const [entry] = entriesOf(node);
    const refuse = (purgedUpToMs: number, key: Uint8Array, timeLow = entry.timeLow): Uint8Array => {
      const frame: Uint8Array[] = [];
      const writer = new FrameWriter((bytes) => frame.push(bytes.slice()));
      writer.reserve(100);
      writer.u8(REFUSED);
      writer.u64(purgedUpToMs);
      writer.u32(0);
      writer.u32(0);
      for (const word of [entry.timeHigh, timeLow, entry.originHigh, entry.originLow]) {
        writer.u32(word);
      }
      writer.varint(key.length);
      writer.copy(key, 0, key.length);
      writer.flush();
      return frame[0];
    };
    const key = entry.keyBytes();
    const run = (contactMs: number, refusal: Uint8Array): number => {
      const [stale] = differing({ tombstoneGraceMs: 1_000 });
      stale.contacts.note(0, 0, contactMs);
      const session = stale.session(
        "responder",
        () => {},
        () => {},
      );
      const hello = helloOf((it) => (it.clockMs = NOW_MS + 2_000));
      for (const bytes of [hello, refusal]) session.receive(bytes);
      while (session.step());
      return stale.setAside.length;
    };
    expect(run(NOW_MS - 1, refuse(NOW_MS, key))).toBe(1);
    expect(run(NOW_MS, refuse(NOW_MS, key))).toBe(0);
    expect(run(0, refuse(NOW_MS - 20_000, key))).toBe(0);
    expect(run(0, refuse(NOW_MS, key, entry.timeLow + 1))).toBe(0);
    expect(run(0, refuse(NOW_MS, Buffer.from("unknown")))).toBe(0);
  });

  test("more lists than there may be", () => {
    const list = (bucket: number, count: number): Uint8Array => {
      const item = new Uint8Array(7 + count * 6);
      item.set([LIST, bucket >> 8, bucket & 255, 0, 0x80 | (count & 0x7f), count >> 7]);
      return frameOf(item.subarray(0, 6 + count * 6));
    };
    const lists = Array.from({ length: 300 }, (_, bucket) => list(bucket, 1_000));
    const stream = Buffer.concat([helloAnswer(), ...lists]);
    const { reason, bytesReceived } = answerTo(stream, "initiator", "full");
    expect(reason).toBe("it does not keep to the sync protocol (item 6)");
    expect(bytesReceived).toBeLessThan(1_048_576 + 3 * 65_536);
    // One that is longer than any part that is listed.
    const long = Buffer.concat([helloAnswer(), list(0, 1_025)]);
    expect(answerTo(long, "initiator", "full").reason).toBe(reason);
  });

  test("a list of the same bucket twice, or of an earlier one", () => {
    for (const second of [5, 4]) {
      const lists = [5, second].map((bucket) => frameOf(Uint8Array.of(LIST, 0, bucket, 0, 0)));
      const { reason } = answerTo(Buffer.concat([helloAnswer(), ...lists]), "initiator", "full");
      expect(reason).toContain(`(item ${LIST})`);
    }
  });

  test("more wants than there may be", () => {
    // Of this bucket everything is wanted, over and over.
    const [node] = differing();
    rootOf(node);
    const bucket = node.tree.buckets.bucketOf(0);
    const want = frameOf(Uint8Array.of(7, bucket >> 8, bucket & 255, 0, 0));
    const wants = Buffer.concat([helloOf((it) => (it.mode = 1)), ...Array(65_537).fill(want)]);
    expect(answerTo(wants, "responder").reason).toBe("silence");
  });
});

describe("a peer that begins a session", () => {
  /** The peer's end of a session with this node, which answers at once. */
  function begin(node: SyncNode, mode: SyncMode, change: (hello: Hello) => void = () => {}) {
    let result: SyncResult | null = null;
    const session = node.session(
      "responder",
      () => {},
      (it) => (result = it),
    );
    const writer = new FrameWriter((frame) => session.receive(frame.slice()));
    const hello = new Hello();
    Object.assign(hello, { cluster: "merkle-kv", nodeId: "stranger", maxFrameBytes: 1_000_000 });
    hello.mode = MODES.indexOf(mode);
    hello.clockMs = node.store.clockMs();
    hello.watermarkMs = hello.clockMs - 2_000;
    change(hello);
    writeHello(writer, hello);
    /** Says something; how the session ended, or null. Throws when there is no end to its work. */
    const say = (what: (writer: FrameWriter) => void): SyncResult | null => {
      writer.reserve(1_000);
      what(writer);
      writer.flush();
      for (let steps = 0; session.step(); steps++) {
        if (steps > 100_000) throw new Error("it works on and on");
      }
      return result;
    };
    return { say };
  }
  const turn = (writer: FrameWriter) => [TURN, 0].forEach((byte) => writer.u8(byte));
  const ask = (writer: FrameWriter) => [ASK, 0, 0].forEach((byte) => writer.u8(byte));
  const askAll = (writer: FrameWriter) => writer.u8(ASK_ALL);

  test("may ask in any order, and gets an answer that ends", () => {
    const asks = fc.array(fc.constantFrom(ask, askAll, turn), { maxLength: 12 });
    fc.assert(
      fc.property(asks, (order) => {
        const { say } = begin(differing()[0], "inspect");
        for (const what of order) say(what);
        say(turn);
      }),
    );
  });

  test("is told what there is, and a FLUSH and a write come at any moment", () => {
    /** Asks for the one bucket there is; it takes two looks at the clock to pass by a bucket. */
    const run = (flushAtLook: number): { looks: number; bucket: number } => {
      let looks = 0;
      const monotonicMs = (): number => {
        if (looks++ === flushAtLook) {
          node.store.flush();
          set(node, "after", "v");
        }
        return looks;
      };
      const node = new SyncNode("node", { monotonicMs });
      set(node, "before", "v");
      rootOf(node);
      const bucket = node.tree.buckets.bucketOf(0);
      const { say } = begin(node, "inspect");
      say((writer) => {
        writer.u8(ASK);
        writer.u16(bucket);
        turn(writer);
      });
      return { looks, bucket };
    };
    const { looks, bucket } = run(-1);
    const found = looks - 2 * (BUCKETS - bucket);
    for (let look = found - 10; look < found + 10; look++) {
      expect(run(look).looks).toBeGreaterThan(look);
    }
  });

  test("only to look, changes nothing and wants nothing", () => {
    const entry = new Entry().setKey(Buffer.from("evil")).setValue(Buffer.from("x"));
    entry.setVersion(1, 1, 1, 1);
    for (const tag of [ENTRY, OFFER, WANT, FETCH, REFUSED, ROOT, DIGESTS]) {
      const [node] = differing();
      const { say } = begin(node, "inspect", (hello) => (hello.cluster = "another"));
      const result = say((writer) => {
        writer.u8(tag);
        if (tag === ENTRY) writeEntry(writer, entry);
        else for (let i = 0; i < 100; i++) writer.u8(0);
      });
      expect(result!.reason).toBe(`it does not keep to the sync protocol (item ${tag})`);
      expect(get(node, "evil")).toBeNull();
    }
  });

  test("asks for what is not for its mode", () => {
    for (const [what, tag] of [
      [ask, ASK],
      [askAll, ASK_ALL],
      [(writer: FrameWriter) => [FETCH, 1, 97].forEach((byte) => writer.u8(byte)), FETCH],
    ] as const) {
      const { say } = begin(differing()[0], "now");
      expect(say(what)!.reason).toBe(`it does not keep to the sync protocol (item ${tag})`);
    }
  });

  test("passes the word again and again", () => {
    for (const mode of ["watermark", "now", "full", "fetch", "inspect"] as const) {
      const { say } = begin(new SyncNode("node"), mode, (hello) => void hello.root.fill(1));
      let result: SyncResult | null = null;
      for (let turns = 0; result === null && turns < 20; turns++) result = say(turn);
      expect(result!.failure).toBe("protocol");
    }
  });

  test("has a digest of members that are not known here: it is asked once to name them", () => {
    const [node] = differing();
    const { say } = begin(node, "now", (hello) => {
      hello.mask = new GroupMask(0);
      hello.contacts.note(1, 2, NOW_MS);
    });
    expect(say(turn)).toBeNull();
    const again = (writer: FrameWriter) => {
      const hello = Object.assign(new Hello(), { cluster: "merkle-kv", nodeId: "stranger" });
      hello.mask = new GroupMask(0);
      hello.contacts.note(1, 2, NOW_MS);
      writeHello(writer, hello);
    };
    expect(say(again)!.failure).toBe("protocol");
    expect(node.contacts.size).toBe(0);
  });

  describe("where a bucket is large", () => {
    /** A node with so many keys in one bucket, which a session compares in full; it has listed its parts. */
    function told(count = 2_000) {
      const node = new SyncNode("node", { nowMs: () => NOW_MS, digester: crowding });
      for (let i = 0; i < count; i++) set(node, `k${i}`, "v");
      const { say } = begin(node, "full", (hello) => (hello.acceptsUpToMs = 2 ** 50));
      expect(say(turn)).toBeNull();
      return say;
    }
    const expand = (mask: number) => (writer: FrameWriter) => {
      writer.u8(EXPAND);
      writer.u16(mask);
    };
    const wantAll = (writer: FrameWriter) => {
      writer.u8(WANT);
      writePart(writer, wholeBucket(CROWDED));
      writer.varint(0);
    };

    test("expands parts, but no more than it was told of", () => {
      const say = told();
      expect(say(expand(0xffff))).toBeNull();
      expect(say(turn)).toBeNull();
      expect(say(expand(1))!.reason).toContain(`(item ${EXPAND})`);
    });

    test("expands what it was not told of, or does not answer", () => {
      const { say } = begin(new SyncNode("node", { nowMs: () => NOW_MS }), "full");
      expect(say(expand(1))!.failure).toBe("protocol");
      expect(told()(turn)!.failure).toBe("protocol");
      const sayTwice = told();
      sayTwice(expand(0));
      expect(sayTwice(expand(0))!.failure).toBe("protocol");
    });

    test("wants it all over and over: that has a bound", () => {
      const say = told();
      let wants = 0;
      while (say(wantAll) === null) if (wants++ > 1_000) throw new Error("has no bound");
      // Twice what was listed, and so many besides.
      expect(wants).toBeLessThan((2 * 2_000 + 65_536) / 2_000 + 2);
    });

    test("wants one entry of it by a list of digests: it is not looked through for that", () => {
      const say = told();
      const result = say((writer) => {
        writer.u8(WANT);
        writePart(writer, wholeBucket(CROWDED));
        writer.varint(1);
        for (let i = 0; i < 6; i++) writer.u8(0);
      });
      expect(result!.reason).toContain(`(item ${WANT})`);
    });

    test("as responder: lists parts that were not expanded, are none, or are too many", () => {
      const parts = (part: Part, present = 0): Uint8Array => {
        const frames: Uint8Array[] = [];
        const writer = new FrameWriter((frame) => frames.push(frame.slice()));
        writer.reserve(20);
        writer.u8(PARTS);
        writePart(writer, part);
        writer.u16(present);
        writer.flush();
        return frames[0];
      };
      const answers = [
        parts({ bucket: 5, depth: 1, path: 3 }),
        parts({ bucket: 5, depth: 13, path: 0 }),
        parts({ bucket: 5, depth: 1, path: 16 }),
        parts(wholeBucket(5), 1),
        Buffer.concat([parts(wholeBucket(5)), parts(wholeBucket(5))]),
        Buffer.concat(Array.from({ length: 2_050 }, (_, bucket) => parts(wholeBucket(bucket)))),
      ];
      for (const answer of answers) {
        const { reason } = answerTo(Buffer.concat([helloAnswer(), answer]), "initiator", "full");
        expect(reason).toContain(`(item ${PARTS})`);
      }
    });
  });

  test("asks to be told again what it was told, or when that is not its to ask", () => {
    const again = frameOf(Uint8Array.of(AGAIN, 0, 1, 2, 3, 4, 5, 6));
    expect(answerTo(Buffer.concat([again, again]), "initiator").failure).toBe("protocol");
    expect(answerTo(Buffer.concat([again, helloOf()]), "responder").failure).toBe("protocol");
    expect(answerTo(Buffer.concat([helloOf(), again]), "responder").failure).toBe("protocol");
  });

  test("ends it before all was compared: that is no contact", () => {
    const [node] = differing();
    const { say } = begin(node, "now");
    say(turn);
    expect(say((writer) => writer.u8(END))!.failure).toBe("protocol");
    expect(node.contacts.size).toBe(0);
  });

  test("has forgotten deletions of times to come: it is not let in, nor is what it says believed", () => {
    for (const change of [
      (hello: Hello) => (hello.purgedUpToMs = NOW_MS + 3_600_000),
      (hello: Hello) => hello.contacts.note(1, 2, 0, NOW_MS + 3_600_000),
    ]) {
      const [node] = differing();
      const { say } = begin(node, "now", (hello) => void change(hello));
      const result = say(turn)!;
      expect(result.failure).toBe("untrue");
      expect(result.reason).toMatch(
        /^it claims to have forgotten deletions of 36\d\d s ahead of this node's clock, /,
      );
      expect(node.contacts.size).toBe(0);
      expect(node.store.deletions.purgedElsewhereMs).toBe(0);
    }
  });

  test("answers and is never done", () => {
    const [node] = differing();
    const other = new SyncNode("other", { nowMs: () => NOW_MS });
    let result: SyncResult | null = null;
    const asking: SyncSession = node.session(
      "initiator",
      (frame) => answering.receive(frame.slice()),
      (it) => (result = it),
      { mode: "full" },
    );
    const answering: SyncSession = other.session(
      "responder",
      (frame) => {
        // The last item of a turn: done becomes not done.
        const payload = frame.slice(FRAME_HEADER_BYTES);
        payload[payload.length - 1] = 0;
        asking.receive(frameOf(payload));
      },
      () => {},
    );
    asking.start();
    for (let steps = 0; result === null && steps < 1_000; steps++) {
      asking.step();
      answering.step();
    }
    expect(result!).toMatchObject({ failure: "protocol" });
  });
});

describe("a peer that is", () => {
  const meet = (a: SyncNode, b: SyncNode): SyncResult[] => {
    const { initiator, responder } = runPair(a, b);
    return [initiator, responder];
  };
  const options = { nowMs: () => NOW_MS };

  test("of another cluster", () => {
    const right = new SyncNode("right", { ...options, cluster: "other" });
    set(right, "k", "v");
    const left = new SyncNode("left", options);
    const [initiator, responder] = meet(left, right);
    expect(responder.reason).toBe('it belongs to the cluster "merkle-kv", this node to "other"');
    expect(initiator.reason).toBe(`the peer ended the session, saying "${responder.reason}"`);
    expect([initiator.failure, responder.failure]).toEqual(["incompatible", "incompatible"]);
    expect(left.store.size).toBe(0);
  });

  test("of another version of the protocol", () => {
    const hello = helloOf().subarray(FRAME_HEADER_BYTES);
    hello[5] = 8;
    hello[6] = 9;
    for (const role of ["initiator", "responder"] as const) {
      const { failure, reason } = answerTo(frameOf(hello), role);
      expect(failure).toBe("incompatible");
      expect(reason).toBe(
        `it speaks versions 8 to 9 of the protocol between nodes, this node version ${CURRENT.highest}; ` +
          "upgrade this node, through a release that speaks both if there is one in between",
      );
    }
  });

  test("called the same, or this node itself", () => {
    const twins = [1, 2].map((epoch) => new SyncNode("twin", { ...options, epoch }));
    for (const result of meet(twins[0], twins[1])) {
      expect([result.failure, result.peerNodeId]).toEqual(["duplicate", "twin"]);
    }
    for (const result of meet(twins[0], twins[0])) {
      expect([result.failure, result.peerNodeId]).toEqual(["self", "twin"]);
    }
  });

  test.each([
    ["a line in its name", "n\r\nloading:1", "merkle-kv"],
    ["no name", "", "merkle-kv"],
    ["a line in its cluster's name", "n", "c\nd"],
  ])("called what no configuration allows: %s", (_, nodeId, cluster) => {
    const [left] = differing();
    const liar = new SyncNode(nodeId, { ...options, cluster });
    const first = runPair(liar, left).responder;
    expect(first.reason).toMatch(/none that a configuration could give$/);
    const second = runPair(left, liar).initiator;
    for (const { failure, reason } of [first, second]) {
      expect(failure).toBe("incompatible");
      expect(reason).not.toMatch(/[\r\n]/);
    }
  });

  test("busy", () => {
    const admit = (nodeId: string) => `no room for ${nodeId}`;
    const [left, right] = differing();
    const results: SyncResult[] = [];
    const frames: Uint8Array[][] = [[], []];
    const sessions = (["initiator", "responder"] as const).map((role, i) =>
      [left, right][i].session(
        role,
        (frame) => frames[i].push(frame.slice()),
        (result) => (results[i] = result),
        role === "responder" ? { admit } : {},
      ),
    );
    sessions[0].start();
    for (const i of [0, 1, 0]) {
      for (const frame of frames[1 - i]) sessions[i].receive(frame);
      while (sessions[i].step());
    }
    expect(results.map(({ failure }) => failure)).toEqual(["busy", "busy"]);
    expect(results[1].reason).toBe("no room for left");
    expect(results[0].reason).toBe(`the peer ended the session, saying "no room for left"`);
    expect([left.store.deletions.sessionsUnderWay, right.store.deletions.sessionsUnderWay]).toEqual(
      [0, 0],
    );
  });

  test.each([0, 1])(
    "full takes what it can, says that it is, and does not count as having met; place %d",
    (place) => {
      const full = new SyncNode("full", { ...options, memoryLimitBytes: 3_000_000 });
      const time = { ms: NOW_MS - 10_000 };
      const other = new SyncNode("other", { nowMs: () => time.ms });
      for (let i = 0; i < 30; i++) set(other, `k${i}`, "x".repeat(300_000));
      del(other, "k0");
      time.ms = NOW_MS;
      const results = place === 0 ? meet(full, other) : meet(other, full).reverse();
      const [missing, told] = results as [SyncResult, SyncResult];
      expect([missing.failure, told.failure]).toEqual(["incomplete", "incomplete"]);
      expect(missing.reason).toMatch(/^\d+ entries missed: the memory limit is reached$/);
      expect(told.reason).toBe(`the peer ended the session, saying "${missing.reason}"`);
      expect(full.contacts.size).toBe(0);
      // The other has all that the full one has.
      const { high, low } = full.store.origin;
      expect(other.contacts.of(high, low)).toBeGreaterThan(0);
      expect(full.store.size).toBeGreaterThan(0);
    },
  );

  test.each([0, 1])(
    "full is sent nothing new again, but deletions and what is smaller, until it has room; place %d",
    (place) => {
      const time = { ms: NOW_MS - 10_000 };
      const nowMs = () => time.ms;
      const full = new SyncNode("full", { nowMs, memoryLimitBytes: 3_000_000 });
      const other = new SyncNode("other", { nowMs });
      const comeTogether = (): [full: SyncResult, other: SyncResult] => {
        time.ms += 10_000;
        const results = place === 0 ? meet(full, other) : meet(other, full).reverse();
        return [results[0], results[1]];
      };
      for (const key of ["mine", "gone", "smaller"]) set(full, key, "x".repeat(500));
      comeTogether();
      for (let i = 0; i < 60; i++) set(other, `k${i}`, "x".repeat(100_000));
      expect(comeTogether()[0].entriesApplied).toBeGreaterThan(5);
      expect(full.store.isFull).toBe(true);

      del(other, "gone");
      set(other, "smaller", "y");
      set(full, "mine", "newer");
      const [missing, told] = comeTogether();
      expect([missing.failure, told.failure]).toEqual(["incomplete", "incomplete"]);
      expect(missing.reason).toMatch(/^\d+ entries missed: the memory limit is reached$/);
      expect(told.entriesWithheld).toBeGreaterThan(20);
      expect(told.bytesSent).toBeLessThan(20_000);
      expect(get(full, "gone")).toBeNull();
      expect(get(other, "mine")).toBe("newer");
      expect(get(full, "smaller")).toBe("y");
      const { high, low } = other.store.origin;
      const metMs = full.contacts.of(high, low);

      for (let i = 0; i < 60; i++) del(other, `k${i}`);
      comeTogether();
      const [last] = comeTogether();
      expect([last.failure, full.store.isFull]).toEqual([null, false]);
      expect(rootOf(full)).toBe(rootOf(other));
      expect(full.contacts.of(high, low)).toBeGreaterThan(metMs);
    },
  );

  test("unable to take a frame as long as an entry: the rest goes over", () => {
    const right = new SyncNode("right", { ...options, maxFrameBytes: 70_000 });
    const time = { ms: NOW_MS - 10_000 };
    const left = new SyncNode("left", { nowMs: () => time.ms });
    set(left, "large", "x".repeat(70_000));
    set(left, "small", "x");
    time.ms = NOW_MS;
    const { initiator, responder } = runPair(left, right, { mode: "verify" });
    expect(initiator.reason).toBe("1 entries missed: an entry is larger than a frame may be");
    expect(initiator.rootsEqual).toBe(false);
    expect([responder.failure, right.store.size]).toEqual(["incomplete", 1]);
  });
});
