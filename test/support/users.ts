/** Users for tests that need some node and are not about rights, and for those that are. */
import { Denials } from "../../src/access/denials.ts";
import { UserDirectory, type DirectoryOptions } from "../../src/access/directory.ts";
import { commandTable } from "../../src/commands/table.ts";
import { eventLoop } from "../../src/world.ts";

/** No users: everybody may do everything, unless `options` says otherwise. */
export function testUsers(options: Partial<DirectoryOptions> = {}): UserDirectory {
  return new UserDirectory({
    permissions: commandTable.permissions,
    timing: eventLoop,
    key: new Uint8Array(32),
    file: { path: "", read: () => new Uint8Array(0), write: async () => {} },
    password: "",
    byCertificate: false,
    openRules: null,
    ...options,
  });
}

/** Users of an access file with these lines. */
export function usersOf(lines: readonly string[], options: Partial<DirectoryOptions> = {}) {
  const file = {
    path: "users.acl",
    read: () => Buffer.from(lines.join("\n"), "latin1"),
    write: async () => {},
  };
  return testUsers({ file, ...options });
}

/** What services need to know of rights. */
export function testRights(users = testUsers()) {
  return { users, denials: new Denials(), peersProveThemselves: () => false };
}
