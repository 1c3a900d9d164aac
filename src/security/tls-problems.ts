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

/** What a problem means, and what to look at; null for one that is not about TLS. */
export function explainTlsProblem(
  error: { readonly code?: unknown; readonly message: string },
  names: TlsSettingNames,
): string | null {
  const text = `${String(error.code ?? "")} ${error.message}`;
  if (/ALTNAME_INVALID/.test(text)) {
    const madeFor = /.*(?:altnames|list|cert's CN): (.*)$/.exec(error.message);
    const found = madeFor?.[1] ?? "";
    const what = found === "" ? "" : `, but for ${found}`;
    return `its certificate is not made for that name${what}; see ${names.serverName}`;
  }
  return PROBLEMS.find(([pattern]) => pattern.test(text))?.[1](names) ?? null;
}

const PROBLEMS: readonly [RegExp, (names: TlsSettingNames) => string][] = [
  [/CERT_HAS_EXPIRED|certificate has expired/, () => "its certificate has expired"],
  [
    /CERT_NOT_YET_VALID|certificate is not yet valid/,
    () => "its certificate is not valid yet; is this machine's clock right?",
  ],
  [
    /self.signed|unable.to.(get|verify)|CERT_UNTRUSTED|CERT_SIGNATURE_FAILURE|INVALID_CA/i,
    ({ authorities: see }) => `its certificate comes from no authority that is trusted; see ${see}`,
  ],
  [
    /ALERT_CERTIFICATE_REQUIRED|SSLV3_ALERT_HANDSHAKE_FAILURE/,
    ({ certificate }) => `it wants to see a certificate, or another cipher; see ${certificate}`,
  ],
  [
    /ALERT_(UNKNOWN_CA|(BAD|UNSUPPORTED)_CERTIFICATE|CERTIFICATE_(UNKNOWN|EXPIRED|REVOKED))/,
    ({ certificate }) => `it refuses the certificate it is shown; see ${certificate}`,
  ],
  [
    /WRONG_VERSION_NUMBER|HTTP_REQUEST|UNEXPECTED_MESSAGE|INVALID_RECORD|PACKET_LENGTH/i,
    () => "what answers there speaks no TLS",
  ],
  [/UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION/, () => "it speaks no TLS from 1.2 on"],
];
