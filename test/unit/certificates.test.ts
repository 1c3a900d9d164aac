/** Certificates that are read again while a node runs: what comes into use, and what does not. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Certificates } from "../../src/certificates.ts";
import { within } from "../../src/fact.ts";
import { silentLogger, type Fields } from "../../src/observability/log.ts";
import type { Timing } from "../../src/timing.ts";
import { eventLoop } from "../../src/world.ts";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";

let authority: Authority;
let directory: string;
let said: string[];
let certificates: Certificates | null;

beforeEach(() => {
  authority = new Authority();
  directory = join(authority.directory, "node");
  mkdirSync(directory);
  said = [];
  certificates = null;
});
afterEach(() => {
  certificates?.stop();
  authority.remove();
});

const path = (name: string): string => join(directory, name);

/** Puts files in place as careful programs do: written beside, then renamed. */
function place({ cert, key }: CertificateFiles, where = directory): void {
  for (const [from, to] of [
    [key, "tls.key"],
    [cert, "tls.crt"],
  ] as const) {
    copyFileSync(from, join(where, `${to}.new`));
    renameSync(join(where, `${to}.new`), join(where, to));
  }
}

function open(timing: Timing = eventLoop, wallMs = Date.now): Certificates {
  const log = (message: string, fields: Fields = {}): void =>
    void said.push(`${message} ${JSON.stringify(fields)}`);
  const files = { cert_file: path("tls.crt"), key_file: path("tls.key"), ca_file: "" };
  certificates = new Certificates({
    section: "tls",
    files,
    wallMs,
    timing,
    logger: { ...silentLogger, info: log, warn: log, error: log },
  });
  return certificates;
}

function factOf(it: Certificates, name: string): unknown {
  return within(() => it, Certificates.facts("tls"))
    .find((fact) => fact.name === name)!
    .read(undefined);
}

const inUse = (it: Certificates): unknown => factOf(it, "tls_certificate_fingerprint");

test("files that are replaced come into use by themselves", async () => {
  place(authority.issue());
  const it = open();
  const before = inUse(it);
  let changes = 0;
  it.onChange = () => changes++;
  place(authority.issue());
  await eventually("another is in use", () => inUse(it) !== before);
  expect(changes).toBe(1);
  expect(factOf(it, "tls_disk_certificate_fingerprint")).toBe(inUse(it));
  expect(factOf(it, "tls_certificate_changes")).toBe(1);
  // And once more: the watch goes on.
  const second = inUse(it);
  place(authority.issue());
  await eventually("and another", () => inUse(it) !== second);
});

test("so do files that are written over", async () => {
  place(authority.issue());
  const it = open();
  const before = inUse(it);
  const { cert, key } = authority.issue();
  writeFileSync(path("tls.key"), readFileSync(key));
  writeFileSync(path("tls.crt"), readFileSync(cert));
  await eventually("another is in use", () => inUse(it) !== before);
});

test("and links that lead elsewhere, as Kubernetes exchanges them", async () => {
  const version = (name: string): string => {
    const where = path(name);
    mkdirSync(where);
    place(authority.issue(), where);
    return name;
  };
  symlinkSync(version("..v1"), path("..data"));
  for (const name of ["tls.crt", "tls.key"]) symlinkSync(`..data/${name}`, path(name));
  const it = open();
  for (const name of ["..v2", "..v3"]) {
    const before = inUse(it);
    symlinkSync(version(name), path("..data.new"));
    renameSync(path("..data.new"), path("..data"));
    await eventually(`${name} is in use`, () => inUse(it) !== before);
  }
});

test("and links that are made anew, as certbot does", async () => {
  const link = ({ cert, key }: CertificateFiles): void => {
    for (const [target, name] of [
      [key, "tls.key"],
      [cert, "tls.crt"],
    ] as const) {
      symlinkSync(target, path(`${name}.new`));
      renameSync(path(`${name}.new`), path(name));
    }
  };
  link(authority.issue());
  const it = open();
  const before = inUse(it);
  link(authority.issue());
  await eventually("another is in use", () => inUse(it) !== before);
});

test.each([
  ["expired", (a: Authority) => place(a.issue({ days: -1 })), /expired at .*put a new one/],
  [
    "of another key",
    (a: Authority) => copyFileSync(a.issue().key, path("tls.key")),
    /does not belong to the certificate/,
  ],
  ["damaged", () => writeFileSync(path("tls.crt"), "nonsense"), /holds no certificate in PEM form/],
  ["gone", () => unlinkSync(path("tls.key")), /there is no such file/],
])("what is %s is not used, and said", async (_, spoil, reason) => {
  place(authority.issue());
  const it = open();
  const before = inUse(it);
  spoil(authority);
  await eventually("it is said", () => said.some((line) => reason.test(line)));
  expect(inUse(it)).toBe(before);
  expect(factOf(it, "tls_certificate_problem")).toMatch(reason);
  expect(said.filter((line) => reason.test(line))).toHaveLength(1);
  // Asked to look, it says so again.
  it.reopen();
  expect(said.filter((line) => reason.test(line))).toHaveLength(2);
  place(authority.issue());
  it.reopen();
  expect(inUse(it)).not.toBe(before);
  expect(factOf(it, "tls_certificate_problem")).toBeNull();
});

test("the end is warned of, from 30 days before and once a day, and when it has come", () => {
  const DAY_MS = 86_400_000;
  place(authority.issue({ days: 40.25 }));
  let nowMs = 0;
  let tick = (): void => {};
  const after = (_: number, task: () => void) => {
    tick = task;
    return () => {};
  };
  const startMs = Date.now();
  const it = open({ ...eventLoop, nowMs: () => nowMs, after }, () => startMs + nowMs);
  expect(factOf(it, "tls_certificate_days_left")).toBe(40);
  const pass = (days: number): string[] => {
    nowMs += days * DAY_MS;
    tick();
    return said.splice(0);
  };
  expect(pass(5)).toEqual([]);
  expect(pass(6)).toEqual([expect.stringContaining("expires soon")]);
  expect(factOf(it, "tls_certificate_days_left")).toBe(29);
  expect(pass(0.5)).toEqual([]);
  expect(pass(0.5)).toEqual([expect.stringContaining('"days_left":28')]);
  expect(pass(28)).toEqual([expect.stringContaining('"days_left":0')]);
  const hasExpired = [expect.stringContaining("has expired; put a new one")];
  expect(pass(0.25)).toEqual(hasExpired);
  expect(factOf(it, "tls_certificate_days_left")).toBe(-1);
  expect([pass(0.75), pass(0.25)]).toEqual([[], hasExpired]);
});
