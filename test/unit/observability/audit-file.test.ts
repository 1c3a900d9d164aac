/** The audit file: what is in its lines, what is not, and what becomes of too many. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuditFile } from "../../../src/observability/audit-file.ts";
import { OperationalError } from "../../../src/operational-error.ts";
import type { AuditEvent } from "../../../src/ports.ts";
import { realWorld } from "../../../src/world.ts";

const NOON = Date.UTC(2026, 0, 2, 12);
const clocks = { ...realWorld, wallMs: () => NOON };
let directory = "";
let file = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-audit-"));
  file = join(directory, "audit.jsonl");
});
afterEach(() => rmSync(directory, { recursive: true }));

const open = (path = file) => new AuditFile({ file: path, max_file_mb: 0, keep_files: 0 }, clocks);
const flush: AuditEvent = {
  event: "administration",
  user: "ops",
  address: "10.0.0.7:51000",
  certificate: null,
  command: "FLUSHDB",
  key: null,
};
const denied: AuditEvent = { ...flush, event: "denied", user: "dash", detail: "command" };
const linesOf = () =>
  readFileSync(file, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
const valueOf = (name: string, audit: AuditFile) =>
  AuditFile.facts.find((fact) => fact.name === name)!.read(audit);

test("who, when and what, an object a line", async () => {
  const audit = open();
  audit.record(flush);
  const key = Buffer.from("site:1:temp");
  audit.record({ ...denied, certificate: "CN=dash", command: "SET", key });
  await audit.close();
  expect(linesOf()).toEqual([
    {
      time: "2026-01-02T12:00:00.000Z",
      event: "administration",
      user: "ops",
      address: "10.0.0.7:51000",
      command: "FLUSHDB",
    },
    {
      time: "2026-01-02T12:00:00.000Z",
      event: "denied",
      user: "dash",
      address: "10.0.0.7:51000",
      certificate: "CN=dash",
      command: "SET",
      key: "site:1:temp",
      detail: "command",
    },
  ]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test("a key that is no text comes in base64, and of a long one the beginning", async () => {
  const audit = open();
  audit.record({ ...flush, key: Uint8Array.of(0xff, 0x00) });
  audit.record({ ...flush, key: Buffer.from("é".repeat(1_000)) });
  audit.record({ ...flush, key: Buffer.from(`x${"é".repeat(1_000)}`) });
  await audit.close();
  const [binary, long, cutInTwo] = linesOf();
  expect(binary).toMatchObject({ key_base64: "/wA=" });
  expect(long).toMatchObject({ key: "é".repeat(512), key_bytes: 2_000 });
  expect(cutInTwo).toMatchObject({ key: `x${"é".repeat(511)}`, key_bytes: 2_001 });
});

test("nothing in it breaks a line or hides", async () => {
  const audit = open();
  const evil = 'a\n{"event":"x"}\u001b[31m\u2028\u202e\u200b\u{e0041}\ud800"';
  audit.record({ ...flush, user: evil, command: evil, detail: evil });
  audit.record({ ...flush, key: Buffer.from(evil.replace("\ud800", "")) });
  await audit.close();
  const text = readFileSync(file, "utf8");
  expect(text).toMatch(/^([ -~]+\n){2}$/);
  expect(linesOf()[0].user).toBe(evil);
  expect(linesOf()[1].key).toBe(evil.replace("\ud800", ""));
});

test("a stranger's repeats are counted, and an administrator's never left out", async () => {
  const audit = open();
  for (let i = 0; i < 1_000; i++) {
    audit.record({ ...denied, address: `10.0.0.7:${20_000 + i}` });
    audit.record({ ...denied, event: "login_failed", user: `guess-${"x".repeat(i)}` });
    audit.record(flush);
  }
  await audit.close();
  const lines = linesOf();
  const told = (event: string) => lines.filter((line) => line.event === event);
  expect(told("administration")).toHaveLength(1_000);
  for (const event of ["denied", "login_failed"]) {
    const repeats = told(event).reduce((sum, line) => sum + (line.repeats ?? 0), 0);
    const single = told(event).filter((line) => line.repeats === undefined).length;
    expect(single).toBeLessThanOrEqual(50);
    expect(single + repeats).toBe(1_000);
  }
  expect(told("denied").at(-1).last.user).toBe("dash");
  expect(valueOf("audit_events", audit)).toBe(3_000);
  expect(valueOf("audit_dropped_lines", audit)).toBe(0);
});

test("nobody hides what others tried behind what he repeats himself", async () => {
  const audit = open();
  const stranger = { ...denied, user: "", address: "10.0.0.66:1000" };
  const word = (i: number): string => "abcdefghij"[Math.floor(i / 10)] + "klmnopqrst"[i % 10];
  for (let i = 0; i < 100; i++) {
    audit.record({ ...stranger, command: word(i) });
    audit.record({ ...stranger, event: "login_failed", user: word(i) });
    audit.record({ ...denied, user: "dash", command: word(i) });
  }
  audit.record({ ...denied, user: "ops", command: "SHUTDOWN" });
  audit.record({ ...denied, event: "login_failed", user: "admin", address: "10.0.0.7:1" });
  // Of IPv6 one machine has as many addresses as it likes.
  for (let i = 0; i < 100; i++) {
    audit.record({ ...stranger, command: word(i), address: `[2001:db8::${i}]:1` });
  }
  await audit.close();
  const lines = linesOf().filter((line) => line.repeats === undefined);
  expect(lines.filter(({ user }) => user === "ops")).toHaveLength(1);
  expect(lines.filter(({ user }) => user === "admin")).toHaveLength(1);
  expect(lines.length).toBeLessThanOrEqual(4 * 50 + 2);
});

test("what the disk does not take is counted", async () => {
  const audit = open("/dev/full");
  for (let i = 0; i < 3; i++) audit.record(flush);
  await audit.close();
  expect(valueOf("audit_dropped_lines", audit)).toBe(3);
});

test("a burst that is too much at once is dropped, and a line says so", async () => {
  const audit = open();
  for (let i = 0; i < 20_000; i++) audit.record(flush);
  await audit.close();
  const dropped = valueOf("audit_dropped_lines", audit) as number;
  expect(dropped).toBeGreaterThan(0);
  const told = linesOf().filter((line) => line.event === "administration");
  expect(told.length + dropped).toBe(20_000);
  expect(linesOf().find((line) => line.event === "lost")?.lines).toBe(dropped);
});

test("a file that cannot be opened is one clear line", () => {
  expect(() => open(join(directory, "none/audit"))).toThrow(OperationalError);
  expect(() => open(join(directory, "none/audit"))).toThrow(/^audit.file: cannot open .*ENOENT/);
});
