/** In which words rights are refused that peers and tools of ours look for. */

/** To a line, before a login. */
export const LOGIN_NEEDED = "log in with AUTH user password, or AUTH password";

const HOW =
  "from another machine; log in (auth.acl_file, auth.password), or set network.open_administration = true";

/** What clients elsewhere are told of administration while there are no users. */
export function restricted(command: string): string {
  return `'${command}' is administration and not open to clients ${HOW}`;
}

/** What a peer is told in that case. */
export const PEER_RESTRICTED =
  "peers on other machines need a cluster secret (cluster.secret_file, the same on all nodes), or network.open_administration = true";

/** What may follow the words of an error that refuses a peer. */
export const PEER_REFUSALS: readonly string[] = [
  `Not authenticated - ${LOGIN_NEEDED}`,
  `Permission denied - ${PEER_RESTRICTED}`,
  "Permission denied - this user has no permissions to run the 'peer' command",
  "Permission denied - this user has no permissions to access all keys, as the 'peer' command does",
];
