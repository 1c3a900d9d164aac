/** The cluster's secret, for subcommands that talk to nodes as one of them. */
import { environmentName } from "../config/schema.ts";
import { loadClusterSecrets, type ClusterSecrets } from "../security/cluster-secrets.ts";
import type { Arguments, Option } from "./arguments.ts";

const VARIABLE = environmentName("cluster.secret");

/** The option. */
export const secretFile: Option = {
  long: "--secret-file",
  value: "FILE",
  about: `The cluster's secret, if it has one; or set ${VARIABLE}.`,
};

/**
 * The secret that the option names, or else the environment; null if neither does. Throws an
 * OperationalError of one line when there is none to be had there.
 */
export function secretsFor(given: Arguments): ClusterSecrets | null {
  const path = given.get(secretFile.long) ?? "";
  const secret = path === "" ? (process.env[VARIABLE] ?? "") : "";
  return loadClusterSecrets({ name: "", secret, secret_file: path, previous_secret_files: [] });
}
