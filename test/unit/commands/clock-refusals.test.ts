/** What clients are told while nobody knows what time it is. */
import { describe, expect, test } from "bun:test";
import type { TimeControl } from "../../../src/ports.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

const KNOWN: TimeControl = {
  state: "trusted",
  writeRefusal: null,
  knowsExpiries: true,
  hasPeers: () => true,
};

function serverWith(time: Partial<TimeControl>): InProcessServer {
  return new InProcessServer({ services: { time: { ...KNOWN, ...time } } });
}

describe("while the time is not known", () => {
  const time = { state: "implausible", writeRefusal: "the clock is not set" };

  test.each([
    "SET k v",
    "DEL k",
    "INCR n",
    "MSET a 1 b 2",
    "APPEND k v",
    "FLUSHALL",
    "SETEX k 9 v",
  ])("%s is refused", (line) => {
    const client = serverWith(time).connect();
    expect(client.send(`${line}\r\n`).read()).toBe("ERROR: Read only - the clock is not set\n");
  });

  test("reads are served", () => {
    const client = serverWith(time).connect();
    expect(client.send("GET k\r\nEXISTS k\r\nPING\r\n").read()).toBe("(null)\n0\nPONG\n");
  });

  test("a Redis client gets no code that has it look for another node", () => {
    const client = serverWith(time).connect();
    const reply = client.send(respRequest("SET", "k", "v")).read();
    expect(reply).toBe("-ERR the clock is not set\r\n");
  });
});

describe("while this node may be behind", () => {
  const time = { state: "doubtful", knowsExpiries: false };
  const ERROR = /^-ERR no expiry counts from now/;

  test.each([
    "SET k v EX 60",
    "SET k v PX 60000",
    "SETEX k 60 v",
    "PSETEX k 60000 v",
    "EXPIRE k 60",
    "PEXPIRE k 60000",
    "GETEX k EX 60",
  ])("%s is refused", (command) => {
    const words = command.split(" ");
    const client = serverWith(time).connect();
    client.send(respRequest("SET", "k", "before")).read();
    expect(client.send(respRequest(...words)).read()).toMatch(ERROR);
    expect(client.send(respRequest("GET", "k")).read()).toBe("$6\r\nbefore\r\n");
    expect(client.send(respRequest("TTL", "k")).read()).toBe(":-1\r\n");
  });

  test("what names a time is taken, and what has no expiry", () => {
    const server = serverWith(time);
    const client = server.connect();
    const at = String(server.nowMs + 60_000);
    expect(client.send(respRequest("SET", "k", "v", "PXAT", at)).read()).toBe("+OK\r\n");
    expect(client.send(respRequest("PERSIST", "k")).read()).toBe(":1\r\n");
    expect(client.send(respRequest("PEXPIREAT", "k", at)).read()).toBe(":1\r\n");
    expect(client.send(respRequest("GETEX", "k", "PERSIST")).read()).toBe("$1\r\nv\r\n");
  });
});

describe("a key that was written while the clock was ahead", () => {
  /** A server whose clock was an hour ahead when `early` was written. */
  function afterAnHour(time: Partial<TimeControl> = {}) {
    const server = serverWith(time);
    const client = server.connect();
    server.nowMs += 3_600_000;
    client.send("SET early 1\r\nSET counter 1\r\nINCR counter\r\n").read();
    server.nowMs -= 3_600_000;
    return { server, client };
  }

  test.each(["SET early 2", "DEL early", "MSET other 1 early 2", "RENAME early other", "FLUSHALL"])(
    "%s is refused, and says until when",
    (line) => {
      const { client } = afterAnHour();
      const reply = client.send(`${line}\r\n`).read();
      expect(reply).toMatch(/ahead; no peer takes that before 2023-11-14T23:13:19/);
    },
  );

  test("other keys are written, and reads are served", () => {
    const { client } = afterAnHour();
    expect(client.send("SET late 2\r\nGET early\r\nGET counter\r\n").read()).toBe("OK\n1\n2\n");
  });

  test("is taken when its time has come", () => {
    const { server, client } = afterAnHour();
    server.nowMs += 3_600_000;
    expect(client.send("SET early 2\r\n").read()).toBe("OK\n");
  });

  test("is taken where there is nobody who would not take it", () => {
    const { client } = afterAnHour({ hasPeers: () => false });
    expect(client.send("SET early 2\r\nGET early\r\nINCR counter\r\n").read()).toBe("OK\n2\n3\n");
  });
});
