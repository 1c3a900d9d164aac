/**
 * Values of kinds that only later versions of the program know: kept, merged by version, counted in
 * the tree by their bytes, passed on and written down as they are. Clients get a clear error.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Entry, KIND_OTHER, KIND_STRING } from "../../src/core/data/entry.ts";
import { APPLIED, REFUSED_INVALID, UNCHANGED } from "../../src/core/store/outcome.ts";
import type { Store } from "../../src/core/store/store.ts";
import { checkDirectory } from "../../src/durability/check.ts";
import { segmentPath } from "../../src/durability/data-directory.ts";
import { FRAME_HEADER_BYTES, finishFrame } from "../../src/durability/frame.ts";
import { FrameBuffer } from "../../src/durability/frame-buffer.ts";
import { FILE_LOG } from "../../src/durability/record.ts";
import { repairDirectory } from "../../src/durability/restore.ts";
import { eventually } from "../support/eventually.ts";
import { InProcessServer, respRequest } from "../support/in-process.ts";
import { DIRECTORY, entriesOf, openStore, untilSafe } from "../support/journalled-store.ts";
import { SimulatedDisk } from "../support/simulated-disk.ts";
import { rootOf } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

const NOW_MS = 1_700_000_000_000;
const TIME_HIGH = Math.floor((NOW_MS * 65_536) / 2 ** 32);

/** What a later version wrote; the first byte of its value names the kind. */
function later(key: string, value: Uint8Array | string, time = 1, kind = 7): Entry {
  const entry = new Entry().setKey(Buffer.from(key));
  entry.setValue(Buffer.concat([Buffer.of(kind), Buffer.from(value)]));
  entry.kind = KIND_OTHER;
  return entry.setVersion(TIME_HIGH - 100, time, 1, 2);
}

function plain(key: string, value: string, time: number): Entry {
  const entry = new Entry().setKey(Buffer.from(key)).setValue(Buffer.from(value));
  entry.kind = KIND_STRING;
  return entry.setVersion(TIME_HIGH - 100, time, 1, 2);
}

function held(store: Store, key: string): [kind: number, value: string] {
  const entry = new Entry();
  store.read(store.locate(Buffer.from(key), 0, key.length), entry);
  return [entry.kind, Buffer.from(entry.valueBytes()).toString("latin1")];
}

/** The reply to one line, without its end. */
async function ask(server: InProcessServer, line: string): Promise<string> {
  const client = server.connect();
  client.send(`${line}\n`);
  let reply = "";
  await eventually("it answers", () => (reply += client.read()).endsWith("\n"));
  return reply.trimEnd();
}

const node = (id: string): SyncNode => new SyncNode(id, { nowMs: () => NOW_MS });

describe("a value of a later kind", () => {
  test("gives way to what was written later, and takes the place of what was written before", () => {
    const { store } = node("a");
    expect(store.apply(plain("k", "before", 1))).toBe(APPLIED);
    expect(store.apply(later("k", "x", 2))).toBe(APPLIED);
    expect(store.apply(later("k", "x", 2))).toBe(UNCHANGED);
    expect(store.apply(plain("k", "before", 1))).toBe(UNCHANGED);
    expect(held(store, "k")).toEqual([KIND_OTHER, "\x07x"]);
    expect(store.size).toBe(1);
    store.verify();
    expect(store.apply(plain("k", "after", 3))).toBe(APPLIED);
    expect(held(store, "k")).toEqual([KIND_STRING, "after"]);
  });

  test("says of which kind it is, and that is none that is known", () => {
    const { store } = node("a");
    const nameless = later("k", "");
    expect(store.apply(nameless.setValue(new Uint8Array(0)))).toBe(REFUSED_INVALID);
    for (const kind of [0, 1, 2, 3, 4]) {
      expect(store.apply(later("k", "x", 1, kind))).toBe(REFUSED_INVALID);
    }
    expect(store.apply(later("k", "x", 1, 255))).toBe(APPLIED);
  });

  test("goes over in a session as it is, whoever has it, however large", () => {
    const TIMES = 4;
    // No two writes have the same version.
    const contents = fc.array(
      fc.record({
        value: fc.oneof(
          fc.uint8Array({ maxLength: 5 }),
          fc.constantFrom(50, 5_000, 70_000).map((length) => new Uint8Array(length).fill(length)),
        ),
        isLater: fc.boolean(),
      }),
      { minLength: TIMES, maxLength: TIMES },
    );
    const write = fc.record({
      key: fc.constantFrom("a", "b", "c"),
      time: fc.nat(TIMES - 1),
      side: fc.nat(1),
    });
    const writesOf = fc.array(write, { maxLength: 12 });
    fc.assert(
      fc.property(contents, writesOf, fc.boolean(), (written, writes, isBackwards) => {
        const sides = [node("a"), node("b")] as const;
        const all = node("all");
        for (const { key, time, side } of writes) {
          const { value, isLater } = written[time];
          const entry = isLater ? later(key, value, time) : plain(key, `${value.length}`, time);
          sides[side].store.apply(entry);
          all.store.apply(entry);
        }
        const [a, b] = isBackwards ? [sides[1], sides[0]] : sides;
        expect(runPair(a, b, { mode: "now" }).initiator.ok).toBe(true);
        for (const side of sides) expect(rootOf(side)).toBe(rootOf(all));
      }),
      { numRuns: 60 },
    );
  });

  test("may be counted by its bytes in HASH, and shows among the keys", async () => {
    const [one, two] = [new InProcessServer(), new InProcessServer()];
    const hashes: string[] = [];
    for (const server of [one, two]) {
      server.store.apply(later("k", "x"));
      hashes.push(await ask(server, "HASH"));
    }
    expect(hashes[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(hashes[1]).toBe(hashes[0]);
    expect(await ask(one, "EXISTS k")).toBe("1");
    expect(await ask(one, "DBSIZE")).toBe("1");
  });

  test.each(["GET k", "INCR k", "APPEND k x", "MGET j k", "GETDEL k", "STRLEN k", "RENAME k j"])(
    "is shown to no client: %s",
    async (line) => {
      const server = new InProcessServer();
      server.store.apply(later("k", "x"));
      expect(await ask(server, line)).toBe(
        "ERROR: Invalid command - the key holds a value of kind 7, which this version of the " +
          "program does not know; ask a node that does, or upgrade this one",
      );
      expect(held(server.store, "k")).toEqual([KIND_OTHER, "\x07x"]);
      expect(server.bugs).toEqual([]);
    },
  );

  test("is replaced or deleted by whoever says so", async () => {
    const server = new InProcessServer();
    server.store.apply(later("k", "x"));
    server.store.apply(later("j", "x"));
    expect(await ask(server, "SET k plain")).toBe("OK");
    expect(await ask(server, "GET k")).toBe("plain");
    server.store.apply(later("x", "x"));
    expect(await ask(server, "TYPE x")).toBe("other");
    const client = server.connect();
    client.send(respRequest("SET", "x", "plain", "XX", "EX", "100"));
    await eventually("it answers", () => client.read() === "+OK\r\n");
    expect(await ask(server, "TYPE x")).toBe("string");
    expect(await ask(server, "DEL j")).toBe("DELETED");
  });

  test("is on disk as it is: after a kill, a snapshot and a repair", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    first.store.apply(later("k", "x"));
    first.store.apply(later("j", new Uint8Array(3_000).fill(9), 2, 200));
    expect(first.store.expire(Buffer.from("j"), 0, 1, NOW_MS * 2)).toBe(APPLIED);
    await untilSafe(first);
    const expected = entriesOf(first.store);
    expect(expected).toHaveLength(2);
    files.kill();
    const second = await openStore({ files });
    expect(entriesOf(second.store)).toEqual(expected);
    await second.journal.compact();
    await second.journal.close();
    const report = await checkDirectory(files, DIRECTORY);
    expect(report.isGood).toBe(true);
    await repairDirectory(files, report, new Date(0));
    const third = await openStore({ files });
    expect(entriesOf(third.store)).toEqual(expected);
    await third.journal.close();
  });
});

test("a log with records of a later type is left alone: no start, no repair, nothing dropped", async () => {
  const files = new SimulatedDisk();
  const path = segmentPath(DIRECTORY, 1);
  const head = new FrameBuffer();
  head.addHead(FILE_LOG, 1, "n1");
  const whole = head.finish(0).slice();
  const frame = new Uint8Array(FRAME_HEADER_BYTES + 5);
  frame[FRAME_HEADER_BYTES] = 0x70;
  const at = whole.length;
  files.place(path, Buffer.concat([whole, finishFrame(frame, frame.length, at, at)]));
  const before = files.contents(path);
  const line =
    `${path} holds records of a type that this merklekv does not know, from byte ${at} on: a later ` +
    "version wrote it; use that version, or start with an empty directory and let peers fill it";
  await expect(openStore({ files })).rejects.toThrow(line);
  await expect(checkDirectory(files, DIRECTORY)).rejects.toThrow(line);
  expect(files.contents(path)).toEqual(before);
});
