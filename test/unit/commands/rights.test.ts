/** What is written down of who administers and who is denied something. */
import { expect, test } from "bun:test";
import type { AuditEvent } from "../../../src/ports.ts";
import { InProcessServer } from "../../support/in-process.ts";
import { testRights, usersOf } from "../../support/users.ts";

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
    ["denied", "dash", "SET", null, "dash.example", denied("set")],
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
