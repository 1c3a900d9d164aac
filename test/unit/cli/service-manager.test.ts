/** What a service manager is told, by a node whose checks the test makes up. */
import { beforeEach, expect, test } from "bun:test";
import { ServiceManager } from "../../../src/cli/service-manager.ts";
import type { Check } from "../../../src/http/http-port.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import type { Timing } from "../../../src/timing.ts";

let periods: { delayMs: number; task: () => void }[];
let told: string[];
let checks: Check[];

const timing: Timing = {
  nowMs: () => 0,
  after(delayMs, task) {
    const period = { delayMs, task };
    periods.push(period);
    return () => void (periods = periods.filter((it) => it !== period));
  },
  soon: (task) => timing.after(0, task),
};
const socket = {
  send: (text: string) => told.push(text) > 0,
  monotonicUs: () => 12_345n,
};

beforeEach(() => {
  [periods, told, checks] = [[], [], []];
});

function open(watchdogMs: number | null = null): ServiceManager {
  return new ServiceManager(socket, watchdogMs, timing, silentLogger);
}

/** What is said in the next period. */
function next(): string[] {
  told = [];
  periods.shift()!.task();
  return told;
}

const memory = (ok: boolean): Check => ({ name: "memory", ok, reason: "it\nis full" });

test("ready is said once, when every check is well", () => {
  const manager = open();
  expect(told).toEqual([
    "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=not ready: recovered: the data is being read from disk",
  ]);
  checks = [memory(false)];
  manager.watch(() => checks, "serving");
  expect(told.at(-1)).toBe("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=not ready: memory: it is full");
  expect(next()).toEqual(["EXTEND_TIMEOUT_USEC=30000000"]);
  checks = [memory(true)];
  expect(next()).toEqual(["READY=1\nSTATUS=serving"]);
  expect(next()).toEqual([]);
  checks = [memory(false)];
  expect(next()).toEqual(["STATUS=not ready: memory: it is full"]);
  checks = [memory(true)];
  expect(next()).toEqual(["STATUS=serving"]);
});

test("the watchdog hears three times in its time", () => {
  open(900).watch(() => [], "serving");
  expect(periods[0].delayMs).toBe(300);
  expect([next(), next()]).toEqual([["WATCHDOG=1"], ["WATCHDOG=1"]]);
  open(60_000);
  expect(periods.at(-1)!.delayMs).toBe(1_000);
});

test("a reload begins and ends, once the node is ready", () => {
  const manager = open();
  told = [];
  manager.reloading();
  manager.reloaded();
  expect(told).toEqual([]);
  manager.watch(() => [], "serving");
  told = [];
  manager.reloading();
  manager.reloaded();
  expect(told).toEqual(["RELOADING=1\nMONOTONIC_USEC=12345", "READY=1"]);
});

test("after the stop only the watchdog hears, and then nobody", () => {
  const manager = open(900);
  told = [];
  manager.stopping();
  expect(told).toEqual(["STOPPING=1\nSTATUS=stopping"]);
  expect(next()).toEqual(["WATCHDOG=1"]);
  manager.close();
  expect(periods).toEqual([]);
});
