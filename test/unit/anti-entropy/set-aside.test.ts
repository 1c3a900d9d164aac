/** The file of entries that were set aside. */
import { afterEach, beforeEach, expect, mock, test } from "bun:test";
import * as fs from "node:fs";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SetAside } from "../../../src/anti-entropy/set-aside.ts";
import { HybridClock, timeHighOf, timeLowOf } from "../../../src/core/clock.ts";
import { Int64 } from "../../../src/core/counter.ts";
import { Entry, KIND_TOMBSTONE } from "../../../src/core/entry.ts";
import { Store } from "../../../src/core/store.ts";
import { silentLogger } from "../../../src/observability/log.ts";

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-aside-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const create = (maxBytes = 1_000_000, nodeId = "n1") =>
  new SetAside(join(directory, "data"), nodeId, maxBytes, silentLogger);
const linesOf = (path: string): unknown[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const bytes = (text: string) => new TextEncoder().encode(text);

const TIME_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

function entryOf(key: Uint8Array, value: Uint8Array): Entry {
  const entry = new Entry().setKey(key).setValue(value);
  return entry.setVersion(timeHighOf(TIME_MS), timeLowOf(TIME_MS) + 5, 0xabc, 0xdef);
}

test("there is no file until something is set aside", () => {
  const aside = create();
  expect(existsSync(join(directory, "data"))).toBe(false);
  aside.close();
});

test("what earlier processes set aside counts", async () => {
  const earlier = create();
  for (const key of ["a", "b", "c"]) earlier.put(entryOf(bytes(key), bytes("v")), "stale");
  earlier.close();
  const aside = create();
  await aside.countEarlier();
  expect(aside.entries).toBe(3);
  aside.put(entryOf(bytes("d"), bytes("v")), "stale");
  expect(aside.entries).toBe(4);
  aside.close();
  const another = create(1_000_000, "n2");
  await another.countEarlier();
  expect(another.entries).toBe(0);
});

test("every kind of entry is written so that nothing is lost", () => {
  const aside = create();
  const string = entryOf(bytes("greeting"), bytes('say "hi"\n'));
  string.expiresAtMs = TIME_MS + 1000;
  expect(aside.put(string, "stale")).toBe(true);
  expect(aside.put(entryOf(new Uint8Array([0xff, 1]), new Uint8Array([0xfe])), "future")).toBe(
    true,
  );
  const tombstone = entryOf(bytes("gone"), new Uint8Array(0));
  tombstone.kind = KIND_TOMBSTONE;
  expect(aside.put(tombstone, "stale")).toBe(true);

  const store = new Store({
    clock: new HybridClock(() => TIME_MS),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 1, low: 2 },
    random: () => 0,
    memoryLimitBytes: 0,
    maxClockSkewMs: 1,
    tombstoneGraceMs: 1,
  });
  const key = bytes("counter");
  store.increment(key, 0, key.length, new Int64().set(-1, -42));
  const counter = new Entry();
  store.read(store.find(key, 0, key.length), counter);
  expect(aside.put(counter, "stale")).toBe(true);
  aside.close();

  const at = expect.stringMatching(/^\d{4}-\d\d-\d\dT/);
  const common = { at, reason: "stale", time: "2026-01-02T03:04:05.678Z" };
  const origin = "00000abc00000def";
  expect(linesOf(aside.path)).toEqual([
    {
      ...common,
      kind: "string",
      key: "greeting",
      value: 'say "hi"\n',
      origin,
      expires: "2026-01-02T03:04:06.678Z",
    },
    {
      ...common,
      reason: "future",
      kind: "string",
      key_base64: "/wE=",
      value_base64: "/g==",
      origin,
    },
    { ...common, kind: "tombstone", key: "gone", origin },
    {
      ...common,
      kind: "counter",
      key: "counter",
      value: "-42",
      value_base64: Buffer.from(counter.valueBytes()).toString("base64"),
      origin: "0000000100000002",
    },
  ]);
  expect(aside.entries).toBe(4);
});

test("an entry that is offered again is not written again, a newer version is", () => {
  const aside = create();
  const entry = entryOf(bytes("key"), bytes("value"));
  for (let i = 0; i < 3; i++) expect(aside.put(entry, "future")).toBe(true);
  entry.timeLow++;
  expect(aside.put(entry, "future")).toBe(true);
  aside.close();
  expect(linesOf(aside.path).length).toBe(2);
  expect(aside.entries).toBe(2);
});

test("the file is continued after a restart and never grows beyond its bound", () => {
  const first = create(500);
  expect(first.put(entryOf(bytes("a"), bytes("x".repeat(100))), "stale")).toBe(true);
  first.close();
  const second = create(500);
  expect(second.put(entryOf(bytes("b"), bytes("x".repeat(100))), "stale")).toBe(true);
  expect(second.put(entryOf(bytes("c"), bytes("x".repeat(100))), "stale")).toBe(false);
  second.close();
  expect(linesOf(second.path)).toMatchObject([{ key: "a" }, { key: "b" }]);
});

test("a line cut short by a full disk does not spoil the next one", () => {
  const real = { ...fs };
  let roomBytes = 60;
  const writeSync = (file: number, line: Uint8Array, at: number): number => {
    if (roomBytes === 0) throw new Error("ENOSPC");
    const written = real.writeSync(file, line, at, Math.min(line.length - at, roomBytes));
    roomBytes -= written;
    return written;
  };
  void mock.module("node:fs", () => ({ ...real, writeSync }));
  try {
    const aside = create();
    expect(aside.put(entryOf(bytes("a"), bytes("x")), "stale")).toBe(false);
    roomBytes = Infinity;
    expect(aside.put(entryOf(bytes("b"), bytes("x")), "stale")).toBe(true);
    expect(aside.put(entryOf(bytes("c"), bytes("x")), "stale")).toBe(true);
    aside.close();
    const [cut, ...whole] = readFileSync(aside.path, "utf8").trimEnd().split("\n");
    expect(cut.length).toBe(60);
    expect(whole.map((line) => JSON.parse(line))).toMatchObject([{ key: "b" }, { key: "c" }]);
  } finally {
    void mock.module("node:fs", () => real);
  }
});

test("nor does one that a crash cut short, after a restart", () => {
  const first = create();
  expect(first.put(entryOf(bytes("a"), bytes("x")), "stale")).toBe(true);
  first.close();
  writeFileSync(first.path, '{"at":"20', { flag: "a" });
  const second = create();
  expect(second.put(entryOf(bytes("b"), bytes("x")), "stale")).toBe(true);
  second.close();
  const lines = readFileSync(second.path, "utf8").trimEnd().split("\n");
  expect(lines[1]).toBe('{"at":"20');
  expect([lines[0], lines[2]].map((line) => JSON.parse(line))).toMatchObject([
    { key: "a" },
    { key: "b" },
  ]);
});

test("however many entries come from the future, none is written twice", () => {
  const aside = create(1_000_000_000);
  const entry = entryOf(bytes("key"), bytes("v"));
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 66_000; i++) {
      entry.originLow = i;
      aside.put(entry, "future");
    }
    expect(aside.entries).toBe(65_536);
  }
  expect(aside.put(entryOf(bytes("old"), bytes("v")), "stale")).toBe(true);
  aside.close();
});

test("entries from the future leave half of the file to those that are nowhere else", () => {
  const aside = create(1_000);
  const entry = entryOf(bytes("key"), bytes("x".repeat(200)));
  expect(aside.put(entry, "future")).toBe(true);
  entry.timeLow++;
  expect(aside.put(entry, "future")).toBe(false);
  expect(aside.put(entry, "stale")).toBe(true);
  aside.close();
});

test("a directory that cannot be made is no reason to lose the entry", () => {
  writeFileSync(join(directory, "data"), "a file is in the way");
  const aside = create();
  expect(aside.put(entryOf(bytes("a"), bytes("b")), "stale")).toBe(false);
  expect(aside.entries).toBe(0);
  aside.close();
});

test.each(["../../etc", "ü".repeat(120), "plain-1"])("any node id makes a file name: %s", (id) => {
  const aside = create(1_000, id);
  expect(aside.put(entryOf(bytes("a"), bytes("b")), "stale")).toBe(true);
  aside.close();
  expect(aside.path.startsWith(join(directory, "data", "set-aside-"))).toBe(true);
  expect(linesOf(aside.path).length).toBe(1);
});
