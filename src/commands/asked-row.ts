/** What is known of a request before it is run, whatever the command does. */
import type { Permission } from "../access/permission.ts";
import type { Request } from "../protocol/request.ts";

/** The row of the command that is asked for, as far as it tells what is asked. */
export interface AskedRow {
  readonly command: { readonly names: readonly string[] };
  readonly permission: Permission;
  /** Number of the command's family in FAMILY_NAMES. */
  readonly family: number;
}

/** What is asked for, as far as rights go: the command, or one of its subcommands. */
export function permissionOf({ permission }: AskedRow, request: Request): Permission {
  if (request.count === 0) return permission;
  for (const [name, part] of permission.parts) if (request.is(0, name)) return part;
  return permission;
}
