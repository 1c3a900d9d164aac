/** Every command, by family. */
import { accessCommands } from "./acl.ts";
import { authenticationCommands } from "./authentication.ts";
import { backupCommands } from "./backup.ts";
import { bulkCommands } from "./bulk.ts";
import { CommandTable } from "./command-table.ts";
import { configCommands } from "./config.ts";
import { connectionCommands } from "./connection.ts";
import { expiryCommands } from "./expiry.ts";
import { hashCommands } from "./hash.ts";
import { introspectionCommands } from "./introspection.ts";
import { keyspaceCommands } from "./keyspace.ts";
import { numberCommands } from "./numbers.ts";
import { replicationCommands } from "./replication.ts";
import { scanCommands } from "./scan.ts";
import { serverCommands } from "./server.ts";
import { stringCommands } from "./strings.ts";
import { synchronizationCommands } from "./synchronization.ts";
import { watchingCommands } from "./watching.ts";

/** Every command there is. */
export const commandTable = new CommandTable([
  ...stringCommands,
  ...numberCommands,
  ...bulkCommands,
  ...keyspaceCommands,
  ...scanCommands,
  ...hashCommands,
  ...expiryCommands,
  ...connectionCommands,
  ...authenticationCommands,
  ...accessCommands,
  ...serverCommands,
  ...configCommands,
  ...backupCommands,
  ...replicationCommands,
  ...synchronizationCommands,
  ...introspectionCommands,
  ...watchingCommands,
]);
