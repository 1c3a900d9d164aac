/** Everything that an alert tells of, in the order in which it is broken. */
import * as between from "./cluster-faults.ts";
import type { Fault } from "./fault.ts";
import * as within from "./node-faults.ts";

/** For machines that are processes: those that take seconds. */
export const SHORT: readonly Fault[] = [
  between.brokerStops,
  within.diskFull,
  within.clockJumps,
  within.nodeDies,
  within.certificateExpires,
];

/** For all. */
export const ALL: readonly Fault[] = [
  between.brokerStops,
  between.outboxFull,
  between.writesLate,
  between.brokerDeaf,
  within.diskFull,
  within.diskSlow,
  within.clockJumps,
  within.clockFast,
  within.memoryFull,
  within.certificateExpires,
  within.certificateExpired,
  within.certificateWrong,
  within.settingsWrong,
  within.clientsMany,
  within.passwordsGuessed,
  within.nodeHangs,
  within.nodeRestarts,
  within.nodeDies,
  between.otherSecret,
  between.twin,
  between.notCompared,
  between.awayTooLong,
];

/** The same for machines with disks of their own, which can be filled to the last byte. */
export const ALL_ON_DISKS: readonly Fault[] = ALL.map((fault) =>
  fault === within.diskFull ? within.diskFilling : fault,
);
