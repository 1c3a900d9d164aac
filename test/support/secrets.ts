/** Cluster secrets for tests, made of a word. */
import type { ClusterSecrets } from "../../src/security/cluster-secrets.ts";
import { secretOf, type Secret } from "../../src/security/keys.ts";

/** The secret of that word. */
export function secretFor(word: string): Secret {
  const secret = secretOf(Buffer.from(word.padEnd(40, "-")));
  if ("problem" in secret) throw new Error(secret.problem);
  return secret;
}

/** A node's secrets: the current one, and those it understands besides. */
export function clusterSecrets(
  current: string,
  previous: readonly string[] = [],
  name = "test",
): ClusterSecrets {
  return { name, current: secretFor(current), previous: previous.map(secretFor) };
}
