/** What is written down of who administers and who is denied something. */
import { expect, test } from "bun:test";
import type { AuditEvent } from "../../../src/ports.ts";
import { InProcessServer } from "../../support/in-process.ts";
import { eventually } from "../../support/eventually.ts";
import { testRights, testUsers, usersOf } from "../../support/users.ts";

test("administration, changes of users and denials are told of, with names and without passwords", () => {
  const events: AuditEvent[] = [];
  const users = usersOf(["user default on nopass ~* +@all", "user dash on nopass ~a* +get +mget"]);
  const audit = { record: (event: AuditEvent) => void events.push(event) };
  const server = new InProcessServer({ services: { ...testRights(users), audit } });
  const client = server.connect();
  client.send("SET b 1\nGET b\nFLUSH\nCONFIG GET save\nCLIENT ID\nACL SETUSER new on >hunter2\n");
  client.send("PEER\n");
  const dash = server.connect();
  dash.session.user = users.find("dash")!;
  dash.session.certificateName = "dash.example";
  dash.send(`GET b\nSET a 1\nFLUSHALL\nMGET ${"a ".repeat(200)}b\nACL WHOAMI\n`);
  expect(dash.read().match(/Permission denied/g)).toHaveLength(5);
  const told = events.map(({ event, user, command, key, detail, certificate }) => {
    return [event, user, command, key && Buffer.from(key).toString(), certificate, detail];
  });
  const denied = (name: string) => `this user has no permissions to run the '${name}' command`;
  const oneKey = "this user has no permissions to access one of the keys used as arguments";
  expect(told).toEqual([
    ["administration", "default", "FLUSH", null, null, undefined],
    ["administration", "default", "CONFIG GET", null, null, undefined],
    ["acl", "default", "ACL SETUSER", null, null, "new"],
    ["denied", "dash", "GET", "b", "dash.example", oneKey],
    ["denied", "dash", "SET", "a", "dash.example", denied("set")],
    ["denied", "dash", "FLUSHALL", null, "dash.example", denied("flushall")],
    ["denied", "dash", "MGET", "b", "dash.example", oneKey],
    ["denied", "dash", "ACL WHOAMI", null, "dash.example", denied("acl|whoami")],
  ]);
  expect(JSON.stringify(events)).not.toContain("hunter2");
  expect(server.shared.context.services.denials.newest(1)[0]).toMatchObject({
    reason: "command",
    object: "acl|whoami",
  });
});

test("thousands of users are read and written while others are served", async () => {
  const lines = Array.from({ length: 3_000 }, (_, i) => `user u${i} on nopass ~u${i}:* +@read`);
  let written: Uint8Array = new Uint8Array(0);
  const file = {
    path: "users.acl",
    read: () => Buffer.from(["user default on nopass ~* +@all", ...lines].join("\n")),
    write: async (content: Uint8Array) => void (written = content),
  };
  const server = new InProcessServer({ services: testRights(testUsers({ file })) });
  const [admin, other] = [server.connect(), server.connect()];
  for (const line of ["ACL LOAD", "ACL SAVE", "ACL USERS"]) {
    admin.send(`${line}\n`);
    expect([line, admin.read()]).toEqual([line, ""]);
    expect(other.send("PING\n").read()).toBe("PONG\n");
    let answer = "";
    await eventually(line, () => (answer += admin.read()).endsWith("\n"));
    if (line !== "ACL USERS") expect(answer).toBe("OK\n");
  }
  const text = Buffer.from(written).toString();
  expect(text.split("\n")).toHaveLength(3_002);
  expect(text).toContain("user u2999 on nopass ~u2999:* -@all +@read\n");
});

test("a subcommand has its own letters only, so that no other spelling of it has other rights", () => {
  const users = usersOf(["user default on nopass ~* +acl -acl|setuser -acl|list"]);
  const server = new InProcessServer({ services: testRights(users) });
  const client = server.connect();
  // What Unicode takes for capital S and I, and a mark that decoders leave out.
  for (const name of ["\u017fETUSER", "\ufeffSETUSER", "setu\u017fer"]) {
    client.send(Buffer.from(`ACL ${name} evil on nopass ~* +@all\n`).toString("latin1"));
    expect(client.read()).toContain("unknown subcommand");
  }
  client.send(Buffer.from("ACL L\u0131ST\n").toString("latin1"));
  expect(client.read()).toContain("unknown subcommand");
  expect(users.find("evil")).toBeUndefined();
  client.send("acl whoami\n");
  expect(client.read()).toContain("default");
});
