/** The log's way to the disk: real files, a full disk (/dev/full), rotation, and the process's end. */
import { eventLoop, realWorld } from "../../../src/world.ts";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger } from "../../../src/observability/log.ts";
import { LineWriter } from "../../../src/observability/line-writer.ts";

let directory = "";
let path = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-log-"));
  path = join(directory, "node.log");
});
afterEach(() => rmSync(directory, { recursive: true }));

const unlimited = { max_file_mb: 0, keep_files: 0 };
const fileLogger = () =>
  createLogger({ level: "info", format: "json", file_path: path, ...unlimited }, realWorld);
const writer = () => new LineWriter(path, (count) => `lost ${count}\n`, eventLoop);
const linesOf = (file: string) => readFileSync(file, "utf8").split("\n").slice(0, -1);
const messagesOf = (file: string) => linesOf(file).map((line) => JSON.parse(line).message);

test("lines reach the file in order, and a later run appends", async () => {
  const expected: string[] = [];
  for (let run = 0; run < 2; run++) {
    const log = fileLogger();
    for (let i = 0; i < 500; i++) {
      log.info(`${run}:${i}`);
      expected.push(`${run}:${i}`);
      if (i % 100 === 0) await new Promise(setImmediate); // so that some come while others are written
    }
    await log.close();
  }
  expect(messagesOf(path)).toEqual(expected);
});

test("after a rename, reopen goes on in a new file and loses nothing", async () => {
  const log = fileLogger();
  const files: string[] = [];
  const expected: string[] = [];
  for (let i = 0; i < 400; i++) {
    log.info(`${i}`);
    expected.push(`${i}`);
    if (i % 4 !== 3) continue;
    await new Promise(setImmediate); // a write may be under way
    files.push(`${path}.${i}`);
    renameSync(path, `${path}.${i}`);
    log.reopen();
  }
  log.info("last");
  await log.close();
  expect([...files, path].flatMap(messagesOf)).toEqual([...expected, "last"]);
  expect(messagesOf(path)).toContain("last");
});

test("when reopening fails the old file stays in use and says why", async () => {
  const log = fileLogger();
  log.info("before");
  const elsewhere = mkdtempSync(join(tmpdir(), "merklekv-log-"));
  renameSync(path, join(elsewhere, "kept.log"));
  symlinkSync(join(directory, "missing", "x"), path);
  log.reopen();
  log.info("after");
  await log.close();
  expect(messagesOf(join(elsewhere, "kept.log"))).toEqual([
    "before",
    "The log file cannot be reopened; the old one stays in use",
    "after",
  ]);
  rmSync(elsewhere, { recursive: true });
});

test("a file that cannot be opened is one clear line", () => {
  expect(() =>
    createLogger(
      { level: "info", format: "text", file_path: join(directory, "no/x.log"), ...unlimited },
      realWorld,
    ),
  ).toThrow(/^logging\.file_path: cannot open \S+no\/x\.log for appending: ENOENT[^\n]*$/);
});

test("a full disk throws nothing, and the lines it cost are reported once there is room", async () => {
  symlinkSync("/dev/full", path);
  const lines = writer();
  const settled = () => new Promise<void>((resolve) => lines.whenWritten(resolve));
  for (let i = 0; i < 3; i++) {
    lines.push(`refused ${i}\n`); // one batch each; the reports of loss are lost as well, their counts are not
    await settled();
  }
  lines.push("refused 3\nrefused 4\n");
  await settled();
  unlinkSync(path);
  lines.reopen();
  lines.push("there is room again\n");
  await lines.close();
  expect(linesOf(path)).toEqual(["lost 5", "there is room again"]);
});

test("what waits is bounded; the rest is counted", async () => {
  const lines = writer();
  const long = `${"x".repeat(1023)}\n`;
  for (let i = 0; i < 1500; i++) lines.push(long); // in one turn, so nothing leaves meanwhile
  await new Promise<void>((resolve) => lines.whenWritten(resolve));
  lines.push("next\n");
  await lines.close();
  expect(linesOf(path)[0]).toBe("lost 476");
  expect(linesOf(path).slice(1)).toEqual([...Array(1024).fill(long.trimEnd()), "next"]);
});

describe("a file with a limit", () => {
  const limited = (keep: number, maxBytes = 100) =>
    new LineWriter(path, (count) => `lost ${count}\n`, eventLoop, { maxBytes, keep });
  const line = (i: number) => `${i}`.padStart(29, "0") + "\n";
  const numbersOf = (file: string) => linesOf(file).map(Number);
  async function pushAll(lines: LineWriter, from: number, to: number): Promise<void> {
    for (let i = from; i < to; i++) {
      lines.push(line(i));
      await new Promise<void>((resolve) => lines.whenWritten(resolve));
    }
  }

  test("is put away when it is full, and the newest few are kept", async () => {
    const first = limited(2);
    await pushAll(first, 0, 5);
    await first.close();
    const second = limited(2); // a restart goes on where it was
    await pushAll(second, 5, 11);
    await second.close();
    expect(readdirSync(directory).sort()).toEqual(["node.log", "node.log.1", "node.log.2"]);
    expect([`${path}.2`, `${path}.1`, path].map(numbersOf)).toEqual([
      [3, 4, 5],
      [6, 7, 8],
      [9, 10],
    ]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("is begun anew when none is kept", async () => {
    const lines = limited(0);
    await pushAll(lines, 0, 7);
    await lines.close();
    expect(readdirSync(directory)).toEqual(["node.log"]);
    expect(numbersOf(path)).toEqual([6]);
  });

  test("loses lines rather than grow when it cannot be put away", async () => {
    const lines = limited(1);
    mkdirSync(join(`${path}.1`, "in the way"), { recursive: true });
    await pushAll(lines, 0, 6);
    expect(numbersOf(path)).toEqual([0, 1, 2]);
    rmSync(`${path}.1`, { recursive: true });
    await pushAll(lines, 6, 7);
    await lines.close();
    expect(linesOf(path)).toEqual(["lost 3", line(6).trimEnd()]);
  });

  test("goes on in the new file when somebody else put it away meanwhile", async () => {
    const lines = limited(2);
    await pushAll(lines, 0, 3);
    renameSync(path, `${path}.mine`);
    lines.push(line(3));
    lines.reopen();
    await pushAll(lines, 4, 6);
    await lines.close();
    const files = readdirSync(directory).map((name) => join(directory, name));
    expect(files.flatMap(numbersOf).sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

test("closing twice, and logging after it, is harmless", async () => {
  const log = fileLogger();
  log.info("only");
  await log.close();
  await log.close();
  log.info("late");
  log.reopen();
  expect(messagesOf(path)).toEqual(["only"]);
});

test("standard error gets the lines, and the last ones survive process.exit", async () => {
  const script = `
    import { createLogger } from ${JSON.stringify(join(import.meta.dir, "../../../src/observability/log.ts"))};
    import { realWorld } from ${JSON.stringify(join(import.meta.dir, "../../../src/world.ts"))};
    const log = createLogger({ level: "info", format: "text", file_path: "", max_file_mb: 0, keep_files: 0 }, realWorld);
    log.info("first");
    setImmediate(() => setImmediate(() => { log.error("last"); process.exit(3); }));`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "pipe" });
  const [output, code] = [await new Response(child.stderr).text(), await child.exited];
  expect(code).toBe(3);
  const messages = output
    .trimEnd()
    .split("\n")
    .map((line) => line.split(" ").at(-1));
  expect([...new Set(messages)]).toEqual(["first", "last"]); // "first" may be there twice
});

test("a reader that does not read stops neither the process nor its end", async () => {
  const script = `
    import { createLogger } from ${JSON.stringify(join(import.meta.dir, "../../../src/observability/log.ts"))};
    import { realWorld } from ${JSON.stringify(join(import.meta.dir, "../../../src/world.ts"))};
    const log = createLogger({ level: "info", format: "text", file_path: "", max_file_mb: 0, keep_files: 0 }, realWorld);
    for (let i = 0; i < 500; i++) log.info("x".repeat(1000)); // far more than a pipe holds
    setImmediate(async () => { console.log("alive"); await log.close(); process.exit(0); });`;
  const pipe = join(directory, "pipe");
  Bun.spawnSync(["mkfifo", pipe]);
  const unread = openSync(pipe, "r+");
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: unread });
  expect(await new Response(child.stdout).text()).toBe("alive\n");
  expect(await child.exited).toBe(0);
  closeSync(unread);
});
