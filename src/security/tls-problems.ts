/** What the TLS library says when a connection does not come about, in words that help. */

/** Keys or options that set what TLS goes by: what they are called where the problem is shown. */
export interface TlsSettingNames {
  /** The file with authorities: "tls.ca_file". */
  readonly authorities: string;
  /** The file with the own certificate. */
  readonly certificate: string;
  /** The name that the other side's certificate has to be made for. */
  readonly serverName: string;
}

/** What a problem is in words, and the setting to look at; empty where none is to blame. */
export interface TlsProblem {
  readonly reason: string;
  readonly see: string;
}

/** What a problem means; null for one that is not about TLS. */
export function explainTlsProblem(
  error: { readonly code?: unknown; readonly message: string },
  names: TlsSettingNames,
): TlsProblem | null {
  const text = `${String(error.code ?? "")} ${error.message}`;
  if (/ALTNAME_INVALID|altnames|cert's list/.test(text)) {
    const found = /.*(?:altnames|list|cert's CN): (.*)$/.exec(error.message)?.[1] ?? "";
    const what = found === "" ? "" : `, but for ${found}`;
    return { reason: `its certificate is not made for that name${what}`, see: names.serverName };
  }
  const known = PROBLEMS.find(([pattern]) => pattern.test(text));
  if (known === undefined) return null;
  const [, reason, setting] = known;
  return { reason, see: setting === null ? "" : names[setting] };
}

/** A problem in one line. */
export function formatTlsProblem({ reason, see }: TlsProblem): string {
  return see === "" ? reason : `${reason}; see ${see}`;
}

const PROBLEMS: readonly [RegExp, string, keyof TlsSettingNames | null][] = [
  [/CERT_HAS_EXPIRED|certificate has expired/, "its certificate has expired", null],
  [
    /CERT_NOT_YET_VALID|certificate is not yet valid/,
    "its certificate is not valid yet; is this machine's clock right?",
    null,
  ],
  [
    /self.signed|unable.to.(get|verify)|CERT_UNTRUSTED|CERT_SIGNATURE_FAILURE|INVALID_CA/i,
    "its certificate comes from no authority that is trusted",
    "authorities",
  ],
  [
    /ALERT_CERTIFICATE_REQUIRED|SSLV3_ALERT_HANDSHAKE_FAILURE/,
    "it wants to see a certificate, or another cipher",
    "certificate",
  ],
  [
    /ALERT_(UNKNOWN_CA|(BAD|UNSUPPORTED)_CERTIFICATE|CERTIFICATE_(UNKNOWN|EXPIRED|REVOKED))/,
    "it refuses the certificate it is shown",
    "certificate",
  ],
  [
    /WRONG_VERSION_NUMBER|HTTP_REQUEST|UNEXPECTED_MESSAGE|INVALID_RECORD|PACKET_LENGTH/i,
    "what answers there speaks no TLS",
    null,
  ],
  [/UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION/, "it speaks no TLS from 1.2 on", null],
];
