/**
 * What the log tells of, by names that stay when the words of a message change: programs that read
 * JSON lines look for these. `bun run docs` lists them, and a test finds messages without a name.
 */

/** Name, and the message; one that ends with … begins so. */
type Row = readonly [event: string, message: string];

/** Every event, by what it is about. */
export const EVENTS: Readonly<Record<string, readonly Row[]>> = {
  "Start and stop": [
    ["serving", "Serving clients"],
    ["stopping", "Stopping"],
    ["stopped", "Stopped"],
    ["service_manager_unreachable", "The service manager that NOTIFY_SOCKET names cannot be told…"],
    ["cluster_secrets_changed", "Other cluster secrets are in use"],
    ["cluster_secrets_refused", "The cluster secrets on disk are not used; those in use stay"],
    ["no_cluster_secret", "This cluster has no secret: whoever is at these places,…"],
    ["plain_text_beside_tls", "Other machines may speak plain text to this node beside TLS"],
    ["loose_files", "Other users of this machine may read or change files of this node"],
    [
      "passwords_readable",
      "Other users of this machine may read the passwords in the configuration",
    ],
    ["connection_limit_lowered", "Taking…connections instead of network.max_connections…"],
    ["http_ended", "HTTP is served no more until a restart"],
    ["bug", "A bug in MerkleKV"],
  ],
  Settings: [
    ["settings_changed", "Settings have changed"],
    ["settings_refused", "The settings stay as they are; something is wrong with the new ones"],
    [
      "settings_need_restart",
      "Settings in the file take a restart, and are as they were until then",
    ],
  ],
  "Users and clients": [
    ["no_users", "There are no users: …"],
    ["users_in_use", "Clients have the rights of their users"],
    ["users_reread", "The users are those of the file again"],
    ["users_reread", "The users were read from their file again"],
    ["users_file_refused", "The file of users is not used; the users stay as they are"],
    ["nobody_can_log_in", "Nobody can log in: no user of the file is on"],
    ["user_changed", "A user was changed"],
    ["user_removed", "A user was removed"],
    ["login_failed", "A login failed"],
    ["connection_refused", "Refused a connection, there are as many as may be"],
    ["connection_cut_memory", "Cut a connection: clients hold more than may be"],
    ["connection_cut_unread", "Cut a connection that does not read its replies"],
    ["connection_cut_late", "Cut a connection that…"],
    ["http_on_client_port", "Closed a connection that speaks HTTP; this port does not"],
    ["tls_on_plain_port", "Closed a connection that speaks TLS; this port does not"],
    ["audit_not_reopened", "The audit file cannot be reopened; the old one stays in use"],
  ],
  TLS: [
    ["tls_plain_text", "Something that is no TLS came to network.tls_port, and was not read"],
    ["tls_late", "A TLS handshake took too long"],
    ["tls_crowded", "A TLS handshake was ended for others"],
    ["tls_no_certificate", "A TLS client without a certificate was sent away"],
    ["tls_certificate", "A TLS client was sent away for its certificate"],
    ["tls_failed", "A TLS handshake failed"],
    ["certificates_changed", "Other certificates are in use for new connections"],
    ["certificates_refused", "Certificates on disk are not used; those in use stay"],
    ["certificate_not_yet_valid", "The certificate of […is not valid yet;…"],
    ["certificate_expired", "The certificate of […has expired;…"],
    ["certificate_expiring", "The certificate of […expires soon;…"],
  ],
  Memory: [
    ["memory_full", "Memory is used up to storage.memory_limit_mb: writes are refused"],
    ["memory_free", "There is memory for writes again"],
  ],
  Disk: [
    ["recovering", "Recovering"],
    ["recovered", "Recovered from disk"],
    ["recovery_cut_tail", "Cut off the end of the log, which a crash had left unfinished"],
    ["recovery_refused_entries", "Set aside entries that no node takes; their bytes are kept"],
    ["writes_refused", "Taking no writes: …"],
    ["writes_taken", "Taking writes again"],
    ["snapshot_failed", "Could not write a snapshot"],
    ["backup_made", "Made a backup"],
    ["backup_failed", "Could not…"],
    ["set_aside", "Entries are being set aside in a file"],
    ["set_aside_before", "Earlier runs set entries aside; look at them, then move the file away"],
    ["set_aside_failed", "Entries cannot be set aside"],
  ],
  Healing: [
    ["sync", "Synced with a peer"],
    ["sync_equal", "Compared with a peer: nothing differs"],
    ["sync_failed", "A sync failed"],
    ["sync_served_failed", "A sync that a peer began failed"],
    ["sync_recovered", "Syncs with a peer succeed again"],
    ["sync_peer_busy", "A peer is busy with other syncs"],
    ["sync_turned_away", "A peer is to come again"],
    ["sync_own_address", "An address of a peer is this node's own"],
    ["passing_on_failed", "A connection was not passed on to another node"],
    ["peer_by_broker", "A peer is reached through the broker"],
    ["peer_by_address", "A peer is reached at its address again"],
    [
      "relay_malformed",
      "What came through the broker for a connection cannot be of its other side",
    ],
    ["relay_calls_dropped", "Calls through the broker were dropped: malformed, or too many"],
    ["member_forgotten", "A member is forgotten"],
    ["values_missing", "Values were let go of by a clock that was wrong; peers are asked for them"],
    [
      "duplicate_node_id",
      "Another live node uses this node's id; give each node a node_id of its own",
    ],
  ],
  Clock: [
    ["clock_jumped", "The wall clock has jumped"],
    ["clock_trusted", "The wall clock is trusted again"],
    ["clock_wrong", "Peers say that the wall clock is wrong"],
    ["clock_doubtful", "The wall clock may be wrong"],
    ["clock_unknown", "The time is not known"],
    ["clock_off", "This node's clock differs from its peers'"],
  ],
  Broker: [
    ["broker_connected", "Connected to the broker"],
    ["broker_back", "The broker is back"],
    ["broker_away", "The broker is away; writes wait here until it is back"],
    ["broker_away", "The broker cannot be reached"],
    ["broker_refuses", "The broker refuses the connection; writes wait here until it does not"],
    ["broker_limited", "The broker works, but not with all that is used"],
    ["broker_refused_subscription", "The broker refused a subscription"],
    ["broker_refused_message", "The broker refused a message"],
    [
      "broker_message_too_long",
      "The broker does not take a message of that length; shorter ones are sent",
    ],
    [
      "broker_too_many_messages",
      "The broker does not take so many messages a second; fewer are sent",
    ],
    ["broker_deaf", "What this node publishes does not come back to it; nodes compare instead"],
    [
      "broker_deaf",
      "What this node announces of itself does not come back to it; peers may not see…",
    ],
    [
      "client_id_shared",
      "Two clients of the broker share a client id, and end each other's connections",
    ],
    [
      "client_id_shared",
      "The broker ends one connection after the other: another client may use this…",
    ],
    ["other_cluster", "None of the nodes under this topic prefix was ever met: it may be another…"],
    [
      "address_unreachable",
      "Peers on other machines cannot reach this node: the address it advertises…",
    ],
    ["replication_enabled", "Replication is enabled"],
    ["replication_disabled", "Replication is disabled until REPLICATE enable or a restart"],
    ["events_lost", "Events were lost on the way"],
    ["events_dropped", "Received events were dropped"],
    ["versions_apart", "A node cannot be talked to"],
    [
      "sealed_without_secret",
      "Another node seals what it says, and this one has no cluster secret to read it…",
    ],
    ["message_unsealed", "A message that is not sealed was refused, for this cluster has a secret"],
    [
      "message_other_secret",
      "A message was refused that is sealed with another secret than this node's",
    ],
    [
      "message_forged",
      "A sealed message was refused that was changed, moved to another topic, or…",
    ],
    [
      "message_damaged",
      "A sealed message was refused that is damaged, or of another version of sealing",
    ],
  ],
  "Embedded broker": [
    ["embedded_listening", "Embedded broker listening"],
    ["embedded_reaches_further", "Other machines reach this node's broker and not the node itself"],
    ["embedded_full", "The embedded broker has no room"],
    ["embedded_crowded", "The embedded broker has too many clients"],
    ["embedded_cut_unread", "The embedded broker cut off a client that does not read"],
    ["embedded_cut", "The embedded broker cut off a client"],
    ["embedded_login_failed", "The embedded broker refused a user name or password"],
    ["embedded_tls_refused", "The embedded broker sent away a TLS client"],
  ],
  Traces: [
    ["traces_dropped", "Traces do not reach the collector, and are dropped"],
    ["traces_arrive", "Traces reach the collector again"],
  ],
  Log: [
    ["lines_lost", "Lines were lost because they could not be written"],
    ["log_not_reopened", "The log file cannot be reopened; the old one stays in use"],
  ],
};

/** What has no name of its own. */
export const OTHER_EVENT = "other";

const rows = Object.values(EVENTS).flat();
const whole = new Map(rows.map(([event, message]) => [message, event]));
const patterns = rows.flatMap(([event, message]) =>
  message.includes("…") ? [{ event, pieces: message.split("…") }] : [],
);

/** The name of what a message tells of. Of several that fit, the longest that is written down. */
export function eventOf(message: string): string {
  const known = whole.get(message);
  if (known !== undefined) return known;
  let best = { event: OTHER_EVENT, length: 0 };
  for (const { event, pieces } of patterns) {
    const { length } = pieces.join("");
    if (length > best.length && fits(message, pieces)) best = { event, length };
  }
  return best.event;
}

function fits(message: string, pieces: readonly string[]): boolean {
  if (!message.startsWith(pieces[0])) return false;
  let at = 0;
  for (const piece of pieces) {
    at = message.indexOf(piece, at);
    if (at < 0) return false;
    at += piece.length;
  }
  return true;
}
