/** How a node speaks to its peers: over TLS where it is spoken, and in plain text where it may. */
import { isLoopbackHost, type NodeAddress, type Plaintext } from "../config/address.ts";
import { strangersContext, type TlsMaterial } from "../security/tls-material.ts";
import {
  explainTlsProblem,
  formatTlsProblem,
  type TlsSettingNames,
} from "../security/tls-problems.ts";

/** See the file header. */
export interface PeerSecurity {
  /**
   * What TLS is spoken with just now; null when there is nothing of this node's own: then a peer's
   * certificate has to come from an authority that everybody trusts.
   */
  material(): TlsMaterial | null;
  /** The name that a peer's certificate has to be made for; empty for the host it is reached at. */
  readonly serverName: string;
  /** Who may be spoken to in plain text. */
  readonly plaintext: Plaintext;
  /** Whether any certificate will do. */
  readonly isInsecure: boolean;
}

/** Plain text, and TLS as with strangers. */
export const OPEN_PEERS: PeerSecurity = {
  material: () => null,
  serverName: "",
  plaintext: "on",
  isInsecure: false,
};

/** What the settings are called, for the log. */
const NAMES: TlsSettingNames = {
  authorities: "tls.ca_file",
  certificate: "tls.cert_file",
  serverName: "tls.server_name",
};

/** Why nobody is called at that address; null when it may be done. */
export function refusalToCall(address: NodeAddress, { plaintext }: PeerSecurity): string | null {
  if (address.isSecure || plaintext === "on") return null;
  if (plaintext === "loopback" && isLoopbackHost(address.host)) return null;
  return `plain text is not to be spoken there (network.plaintext = "${plaintext}")`;
}

/** What the runtime is told of the TLS to speak there. */
export function tlsOptions({ material, serverName }: PeerSecurity): object {
  const { context } = (material()?.context ?? strangersContext()) as { readonly context: unknown };
  return {
    secureContext: context,
    ...(serverName !== "" && { serverName }),
    // With true, the runtime would end the connection without saying what is wrong. What it found
    // out about the certificate is looked at instead.
    rejectUnauthorized: false,
  };
}

/** Whether peers whose presence tells of a port for TLS are called there. */
export function prefersTls({ material, plaintext }: PeerSecurity): boolean {
  return material() !== null || plaintext !== "on";
}

/** Why TLS did not come about. */
export function reasonOfTls(error: Error | null): string {
  if (error === null) return "its certificate is not valid";
  const problem = explainTlsProblem(error, NAMES);
  return problem === null ? `TLS failed: ${error.message}` : formatTlsProblem(problem);
}
