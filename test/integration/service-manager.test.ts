/** What a node tells the service manager that has started it, heard on a real socket. */
import { describe, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { runToEnd, startNodeProcess } from "../support/process.ts";
import { listenAsServiceManager } from "../support/service-manager.ts";

const WATCHDOG_USEC = "300000";

describe("sd_notify", () => {
  test.each(["path", "abstract"] as const)("from start to stop, %s", async (kind) => {
    using manager = listenAsServiceManager(kind);
    const node = await startNodeProcess({ env: { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC } });
    await eventually("it is ready", () => manager.heard().includes("READY=1"));
    const heard = manager.heard();
    // It is reading its data before that, which may take longer than a start may take.
    expect(heard).toContain("STATUS=not ready: recovered: the data is being read from disk");
    expect(heard.indexOf("EXTEND_TIMEOUT_USEC=30000000")).toBeLessThan(heard.indexOf("READY=1"));
    expect(heard).toContain(`STATUS=node solo on 127.0.0.1:${node.port}`);
    const signs = (): number => manager.heard().filter((it) => it === "WATCHDOG=1").length;
    const before = signs();
    await eventually("its event loop turns", () => signs() > before + 2);
    expect(await node.stop()).toBe(0);
    expect(manager.heard()).toContain("STOPPING=1");
    expect(manager.heard().filter((it) => it === "READY=1")).toEqual(["READY=1"]);
  });

  test("is quiet while nothing changes and no watchdog asks", async () => {
    using manager = listenAsServiceManager("path");
    const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC, WATCHDOG_PID: "1" };
    const node = await startNodeProcess({ env });
    await eventually("it is ready", () => manager.heard().includes("READY=1"));
    expect(manager.heard()).not.toContain("WATCHDOG=1");
    await node.stop();
  });

  test("a reload begins and ends", async () => {
    using manager = listenAsServiceManager("path");
    const node = await startNodeProcess({ env: { NOTIFY_SOCKET: manager.path } });
    await eventually("it is ready", () => manager.heard().includes("READY=1"));
    node.signal("SIGHUP");
    const begins = await eventually("it reloads", () => {
      const at = manager.heard().indexOf("RELOADING=1");
      return at < 0 ? null : at;
    });
    await eventually("it is ready again", () => manager.heard().includes("READY=1", begins));
    expect(manager.heard()[begins + 1]).toMatch(/^MONOTONIC_USEC=[1-9]\d+$/);
    await node.stop();
  });

  test.each([
    ["relative", "only a path or @name is understood"],
    [`/${"x".repeat(120)}`, "it is longer than 108 bytes"],
  ])("a socket that cannot be is one clear line: %s", async (path, problem) => {
    const env = { NOTIFY_SOCKET: path, MERKLE_KV_NETWORK_BIND_PORT: "0" };
    const { code, output } = await runToEnd(["serve"], { env });
    expect(code).toBe(1);
    expect(output).toEndWith(`merklekv: NOTIFY_SOCKET=${path}: ${problem}\n`);
  });

  test("a manager that is gone is said, and the node serves", async () => {
    const env = { NOTIFY_SOCKET: "/nonexistent/notify" };
    const node = await startNodeProcess({ env });
    await node.waitFor(/The service manager that NOTIFY_SOCKET names cannot be told/);
    expect(await node.stop()).toBe(0);
  });
});
