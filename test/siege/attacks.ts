/** Every attack of the siege, a file for each theme. */
import type { Attack } from "./attack.ts";
import { connections } from "./attacks/connections.ts";
import { counters } from "./attacks/counters.ts";
import { digests } from "./attacks/digests.ts";
import { disk } from "./attacks/disk.ts";
import { handshakes } from "./attacks/handshakes.ts";
import { http } from "./attacks/http.ts";
import { httpBodies } from "./attacks/http-bodies.ts";
import { httpFloods } from "./attacks/http-floods.ts";
import { lengths } from "./attacks/lengths.ts";
import { lies } from "./attacks/lies.ts";
import { neighbours } from "./attacks/neighbours.ts";
import { openings } from "./attacks/openings.ts";
import { relay } from "./attacks/relay.ts";
import { requests } from "./attacks/requests.ts";
import { variations } from "./attacks/variations.ts";
import { watchers } from "./attacks/watchers.ts";

/** See the file header. */
export const attacks: readonly Attack[] = [
  ...requests,
  ...connections,
  ...handshakes,
  ...lengths,
  ...counters,
  ...neighbours,
  ...relay,
  ...openings,
  ...lies,
  ...disk,
  ...digests,
  ...variations,
  ...http,
  ...httpBodies,
  ...httpFloods,
  ...watchers,
];
