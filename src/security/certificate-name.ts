/** By which name the holder of a certificate is known. */
import type { PeerCertificate } from "node:tls";

/** Longest name, in UTF-16 units. */
const MAX_LENGTH = 256;
const KINDS = /^(?:DNS|email|URI):(.*)$/;

/**
 * The common name of a certificate's subject; without one, the first DNS, email or URI name it was
 * made for. Null when there is none, or it cannot be told for certain: several common names, one
 * that is too long, or with characters that are not seen.
 */
export function nameInCertificate(certificate: PeerCertificate): string | null {
  const commonName: unknown = certificate.subject?.CN;
  if (commonName !== undefined) return typeof commonName === "string" ? usable(commonName) : null;
  const { subjectaltname } = certificate;
  // Quotes tell of a name that holds what separates names.
  if (subjectaltname === undefined || subjectaltname.includes('"')) return null;
  for (const name of subjectaltname.split(", ")) {
    const found = KINDS.exec(name);
    if (found !== null) return usable(found[1]);
  }
  return null;
}

function usable(name: string): string | null {
  const isUsable =
    name.length > 0 && name.length <= MAX_LENGTH && !/[\p{C}\p{Zl}\p{Zp}]/u.test(name);
  return isUsable ? name : null;
}
