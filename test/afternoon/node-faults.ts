/** What breaks in one node, or on its machine. */
import { writeFileSync } from "node:fs";
import { LineClient } from "../support/line-client.ts";
import { eventually } from "../support/eventually.ts";
import { order, type Afternoon } from "./afternoon.ts";
import { failLogins, untilWrites, type Fault } from "./fault.ts";
import { CERTIFICATE, CERTIFICATE_KEY, edit, type Machine } from "./machine.ts";
import { tell, unreadyOf } from "./sight.ts";

const MINUTE_MS = 60_000;
const NEARLY_FULL_BYTES = 400_000_000;
const FAT_KEYS = 150;
/** Further than `storage.max_clock_skew_ms`, and what nodes cannot tell each other of. */
const FAR_MS = 70_000;
/** A certificate of so many days has expired in a few seconds. */
const SOON_DAYS = 8 / 86_400;
/** Less than is taken for a clock that was set. */
const FASTER_MS = 200;

function putCertificate(it: Afternoon, machine: Machine, days: number): void {
  const { cert, key } = it.certificate(days);
  writeFileSync(machine.path(CERTIFICATE), cert);
  writeFileSync(machine.path(CERTIFICATE_KEY), key);
}

async function renewCertificate(it: Afternoon, machine: Machine): Promise<void> {
  putCertificate(it, machine, 90);
  await machine.service("reload");
}

const nothing = (): Promise<void> => Promise.resolve();

export const diskFull: Fault = {
  title: "the disk takes no more",
  at: 1,
  alerts: ["MerkleKVDiskFailing"],
  mayAlert: [
    ...["MerkleKVDiskNearlyFull", "MerkleKVAuditLost"],
    ...["MerkleKVNotEqual", "MerkleKVSyncFailing"],
  ],
  metric: 'merklekv_storage_state{state="ok"} 0',
  event: "writes_refused",
  unready: /^journal: /,
  status: /the disk takes no writes/,
  async cause(it, machine) {
    await machine.fillDisk(0);
    await untilWrites(it, machine, false);
  },
  async cure(it, machine) {
    await machine.freeDisk();
    await untilWrites(it, machine, true);
  },
};

/** On a disk of its own, of which can be told how much is free. */
export const diskFilling: Fault = {
  ...diskFull,
  title: "the disk is nearly full, and then full to the last byte",
  alerts: ["MerkleKVDiskNearlyFull", "MerkleKVDiskFailing", "MerkleKVAuditLost"],
  mayAlert: ["MerkleKVLoginsFailing", "MerkleKVNotEqual", "MerkleKVSyncFailing"],
  metric: 'merklekv_storage_state{state="full"} 1',
  unready: /^journal: .*full/,
  async cause(it, machine) {
    await machine.fillDisk(NEARLY_FULL_BYTES);
    await it.untilAlert("MerkleKVDiskNearlyFull");
    await machine.fillDisk(0);
    await untilWrites(it, machine, false);
    // More lines than what is left of the file's last page.
    await failLogins(machine, 100);
  },
};

export const diskSlow: Fault = {
  title: "the disk is slow",
  at: 1,
  alerts: ["MerkleKVDiskSlow"],
  metric: "merklekv_log_sync_seconds_sum > 4",
  async cause(it, machine) {
    machine.slowDisk(true);
    for (let i = 0; i < 4; i++) {
      await order(it, machine, `SET slow ${i}`);
      await Bun.sleep(1_200);
    }
  },
  async cure(_, machine) {
    await Promise.resolve(machine.slowDisk(false));
  },
};

export const clockJumps: Fault = {
  title: "a clock is set forward by two hours",
  at: 2,
  alerts: ["MerkleKVClockDoubtful"],
  mayAlert: ["MerkleKVClockOff", "MerkleKVEventsDropped", "MerkleKVSetAsideGrowing"],
  metric: "merklekv_clock_steps_total > 0",
  event: "clock_jumped",
  status: /its clock/,
  cause: (_, machine) => Promise.resolve(machine.setClock(120 * MINUTE_MS)),
  cure: (_, machine) => Promise.resolve(machine.setClock(0)),
};

export const clockFast: Fault = {
  title: "a clock runs three times too fast for a while",
  at: 2,
  alerts: ["MerkleKVClockOff", "MerkleKVEventsDropped"],
  mayAlert: ["MerkleKVClockDoubtful", "MerkleKVSetAsideGrowing", "MerkleKVNotEqual"],
  metric: "merklekv_clock_off 1",
  event: "clock_off",
  status: /its clock is .* ahead of most others/,
  async cause(it, machine) {
    for (let aheadMs = 0; aheadMs < FAR_MS; aheadMs += FASTER_MS) {
      machine.setClock(aheadMs);
      await Bun.sleep(FASTER_MS / 2);
    }
    await order(it, machine, "SET tomorrow 1");
  },
  cure: (_, machine) => Promise.resolve(machine.setClock(0)),
};

export const nodeDies: Fault = {
  title: "a node dies, and stays dead",
  at: 2,
  alerts: ["MerkleKVNodeDown"],
  mayAlert: ["MerkleKVRestarting"],
  unready: "away",
  status: / away /,
  async cause(_, machine) {
    await machine.signal("KILL");
    await machine.service("stop");
  },
  cure: (_, machine) => machine.service("start"),
};

export const nodeRestarts: Fault = {
  title: "a node starts again and again",
  at: 2,
  alerts: ["MerkleKVRestarting"],
  mayAlert: ["MerkleKVBrokerAway"],
  metric: "merklekv_uptime_seconds < 5",
  event: "serving",
  async cause(it, machine) {
    for (let i = 0; i < 4; i++) {
      await machine.signal("KILL");
      await machine.service("start");
      const isReady = async (): Promise<boolean> => (await unreadyOf(machine, it.logins)) === "";
      await eventually("it is ready", isReady);
      // A start that is over before the next scrape is seen by nobody.
      await it.prometheus?.untilScrapedAnew(machine);
    }
  },
  cure: nothing,
};

export const nodeHangs: Fault = {
  title: "a node hangs for a moment, again and again",
  at: 0,
  alerts: ["MerkleKVEventLoopHeld"],
  metric: "merklekv_event_loop_delay_seconds_sum > 1",
  async cause(_, machine) {
    for (let i = 0; i < 8; i++) {
      await machine.signal("STOP");
      await Bun.sleep(300);
      await machine.signal("CONT");
      await Bun.sleep(100);
    }
  },
  cure: nothing,
};

export const memoryFull: Fault = {
  title: "memory runs out",
  at: 0,
  alerts: ["MerkleKVMemoryNearLimit", "MerkleKVMemoryFull"],
  metric: "merklekv_memory_full 1",
  event: "memory_full",
  unready: /^memory: /,
  status: /% of storage.memory_limit_mb are used/,
  async cause(it, machine) {
    await order(it, machine, "CONFIG SET storage.memory_limit_mb 1");
    const lines = Array.from({ length: FAT_KEYS }, (_, i) => `SET fat:${i} ${"x".repeat(10_000)}`);
    await tell(machine, it.logins, lines);
  },
  async cure(it, machine) {
    await order(it, machine, "CONFIG UNSET storage.memory_limit_mb");
    const keys = Array.from({ length: FAT_KEYS }, (_, i) => `DEL fat:${i}`);
    await tell(machine, it.logins, keys);
  },
};

export const certificateExpires: Fault = {
  title: "a certificate is about to expire",
  at: 0,
  alerts: ["MerkleKVCertificateExpiring"],
  metric: "merklekv_tls_certificate_left_seconds < 1209600",
  event: "certificate_expiring",
  status: /certificate of \[tls\] expires in/,
  async cause(it, machine) {
    putCertificate(it, machine, 5);
    await machine.service("reload");
  },
  cure: renewCertificate,
};

export const certificateExpired: Fault = {
  title: "a certificate has expired",
  at: 0,
  alerts: ["MerkleKVCertificateExpiring"],
  mayAlert: ["MerkleKVNotEqual", "MerkleKVSyncFailing"],
  metric: "merklekv_tls_certificate_left_seconds < 0",
  event: "certificate_expired",
  // Certificates are looked at once a minute.
  toldWithinMs: 90_000,
  status: /certificate of \[tls\] has expired/,
  async cause(it, machine) {
    // With one that has expired it would neither start nor read it: this one does so meanwhile.
    putCertificate(it, machine, SOON_DAYS);
    await machine.service("reload");
  },
  cure: renewCertificate,
};

export const certificateWrong: Fault = {
  title: "a certificate is no certificate",
  at: 0,
  alerts: ["MerkleKVCertificateRefused"],
  metric: "merklekv_tls_certificate_files_refused 1",
  event: "certificates_refused",
  status: /new certificates of \[tls\] are not used/,
  async cause(_, machine) {
    writeFileSync(machine.path(CERTIFICATE), "-----BEGIN CERTIFICATE-----\n");
    await machine.service("reload");
  },
  cure: renewCertificate,
};

export const settingsWrong: Fault = {
  title: "a file of settings is wrong",
  at: 0,
  alerts: ["MerkleKVSettingsRefused"],
  metric: "merklekv_config_refused 1",
  event: "settings_refused",
  status: /file of settings is not in effect/,
  cause: (_, machine) => Promise.resolve(edit(machine, { "network.idle_timeout": "soon" })),
  cure: (_, machine) => Promise.resolve(edit(machine, { "network.idle_timeout": 0 })),
};

export const clientsMany: Fault = {
  title: "there are as many clients as may be",
  at: 0,
  alerts: ["MerkleKVConnectionsRefused"],
  metric: "merklekv_refused_connections_total > 0",
  event: "connection_refused",
  async cause(it, machine) {
    await order(it, machine, "CONFIG SET network.max_connections 5");
    const connecting = Array.from({ length: 30 }, () =>
      LineClient.connect(machine.port, machine.address).catch(() => null),
    );
    const clients = (await Promise.all(connecting)).filter((client) => client !== null);
    await Promise.all(clients.map((client) => client.close()));
  },
  cure: (it, machine) => order(it, machine, "CONFIG UNSET network.max_connections"),
};

export const passwordsGuessed: Fault = {
  title: "somebody guesses passwords",
  at: 0,
  alerts: ["MerkleKVLoginsFailing"],
  metric: "merklekv_acl_access_denied_auth_total > 20",
  event: "login_failed",
  cause: (_, machine) => failLogins(machine, 30),
  cure: nothing,
};
