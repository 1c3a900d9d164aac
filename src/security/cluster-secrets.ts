/**
 * The secrets of a cluster as a node has them: the current one, with which it seals, and those it
 * understands besides, so that the secret can be changed while the cluster runs.
 *
 * To change it without a moment in which two nodes do not understand each other, each step is done
 * on all nodes, one after the other, before the next begins:
 *
 *   1. the new secret becomes a previous one:  everybody seals with the old, and knows both
 *   2. the two change places:                  some seal with the old, some with the new
 *   3. the old one is left out:                everybody seals with the new
 */
import { OperationalError } from "../operational-error.ts";
import { secretOf, type Secret } from "./keys.ts";
import { readSecretFile } from "./secret-file.ts";

/** Where the secrets come from; by the names of the configuration. */
export interface ClusterSettings {
  /** Name of the cluster. */
  readonly name: string;
  /** The secret itself, from the environment; empty for none. */
  readonly secret: string;
  /** Path of the file with it; empty for none. */
  readonly secret_file: string;
  readonly previous_secret_files: readonly string[];
}

/** See the file header. */
export interface ClusterSecrets {
  /** Name of the cluster, which sets its keys apart from those of others with the same secret. */
  readonly name: string;
  /** What this node seals with. */
  readonly current: Secret;
  /** What it understands besides; none of them is the current one, and none is there twice. */
  readonly previous: readonly Secret[];
}

/**
 * Reads the secrets; null when the cluster has none. Throws an OperationalError of one line when
 * one cannot be read, is too short, or may be read by others.
 */
export function loadClusterSecrets(settings: ClusterSettings): ClusterSecrets | null {
  const { name, secret, secret_file, previous_secret_files } = settings;
  if (secret === "" && secret_file === "") return null;
  const current =
    secret_file === "" ? directSecret(secret) : readSecretFile(secret_file, "the cluster secret");
  const previous = new Map<string, Secret>();
  for (const path of previous_secret_files) {
    const each = readSecretFile(path, "a previous cluster secret");
    if (each.id !== current.id) previous.set(each.id, each);
  }
  return { name, current, previous: [...previous.values()] };
}

function directSecret(text: string): Secret {
  const found = secretOf(new TextEncoder().encode(text));
  if (!("problem" in found)) return found;
  throw new OperationalError(
    `the cluster secret in MERKLE_KV_CLUSTER_SECRET ${found.problem}; make one with: merklekv keygen`,
  );
}
