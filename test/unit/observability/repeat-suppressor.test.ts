/** What repeats is left out of the log, and nothing else is. */
import { expect, test } from "bun:test";
import { createLogger } from "../../../src/observability/log.ts";
import type { Timing } from "../../../src/timing.ts";

const PERIOD_MS = 10_000;

/** A logger into a list, and its time. */
function create(level: "debug" | "info" = "info") {
  const lines: string[] = [];
  let nowMs = 0;
  let tasks: { atMs: number; task: () => void }[] = [];
  const timing: Timing = {
    nowMs: () => nowMs,
    after(delayMs, task) {
      const entry = { atMs: nowMs + delayMs, task };
      tasks.push(entry);
      return () => (tasks = tasks.filter((other) => other !== entry));
    },
    soon: () => () => {},
  };
  const config = { level, format: "text", file_path: "", max_file_mb: 0, keep_files: 0 } as const;
  const write = (line: string) => lines.push(line.slice("2026-01-02T12:00:00.007Z ".length).trim());
  const log = createLogger(config, { write, timing, wallMs: () => 0 });
  const pass = (ms: number): void => {
    nowMs += ms;
    const due = tasks.filter(({ atMs }) => atMs <= nowMs);
    tasks = tasks.filter(({ atMs }) => atMs > nowMs);
    for (const { task } of due) task();
  };
  return { lines, log, pass };
}

test("of a flood the first lines are written, and how many more there were", () => {
  const { lines, log, pass } = create();
  for (let i = 0; i < 129_024; i++) {
    log.warn("A peer sent nonsense", { from: `10.0.0.7:${40_000 + (i % 20_000)}`, bytes: i });
  }
  expect(lines).toHaveLength(5);
  pass(PERIOD_MS);
  expect(lines).toHaveLength(6);
  expect(lines[5]).toStartWith(
    "WARN  … 129019 more like this in the last 10 s: A peer sent nonsense from=10.0.0.7:",
  );
  log.warn("A peer sent nonsense", { from: "10.0.0.7:1", bytes: 1 });
  expect(lines).toHaveLength(7);
});

test("a flood that goes on for a day is a few lines each period", () => {
  const { lines, log, pass } = create();
  for (let second = 0; second < 86_400; second++) {
    for (let i = 0; i < 3; i++) log.warn("A sync failed", { reason: "refused" });
    pass(1_000);
  }
  expect(lines.length).toBeLessThan(8_640 * 7);
  expect(lines.length).toBeGreaterThan(8_640);
});

test("what tells something else is written: another message, level, part, host or reason", () => {
  const { lines, log } = create();
  const flood = (write: () => void) => {
    const before = lines.length;
    for (let i = 0; i < 100; i++) write();
    return lines.length - before;
  };
  flood(() => log.warn("m", { host: "10.0.0.1:1" }));
  expect(flood(() => log.warn("n", { host: "10.0.0.1:1" }))).toBe(5);
  expect(flood(() => log.error("m", { host: "10.0.0.1:1" }))).toBe(5);
  expect(flood(() => log.child("x").warn("m", { host: "10.0.0.1:1" }))).toBe(5);
  expect(flood(() => log.warn("m", { host: "10.0.0.2:1" }))).toBe(5);
  expect(flood(() => log.warn("m", { host: "10.0.0.1:1", reason: "full" }))).toBe(5);
  expect(flood(() => log.warn("m", { error: new Error("what") }))).toBe(5);
  expect(flood(() => log.warn("m", { host: "10.0.0.1:2" }))).toBe(0);
});

test("whatever a stranger makes different in each line, they are bounded", () => {
  const { lines, log } = create();
  for (let i = 0; i < 10_000; i++) log.warn("Refused", { name: `n${i.toString(36)}` });
  expect(lines.length).toBe(50);
  for (let i = 0; i < 10_000; i++) log.warn(`Refused n${i}`);
  // Messages are the program's own; even so they are forgotten, not gathered.
  expect(lines.length).toBeGreaterThan(50);
});

test("what is slow enough is never left out, and closing tells what was", async () => {
  const { lines, log, pass } = create();
  for (let i = 0; i < 20; i++) {
    log.info("tick");
    pass(PERIOD_MS / 5);
  }
  expect(lines).toHaveLength(20);
  for (let i = 0; i < 8; i++) log.info("tock");
  await log.close();
  expect(lines.at(-1)).toBe("INFO  … 3 more like this in the last 10 s: tock");
});

test("who asks for debug gets every line of it", () => {
  const { lines, log } = create("debug");
  for (let i = 0; i < 100; i++) log.debug("step");
  expect(lines).toHaveLength(100);
});
