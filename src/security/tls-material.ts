/**
 * What TLS is spoken with: a certificate and those between it and its authority, its key, and the
 * authorities that the other side's certificate has to come from. All is read from PEM files and
 * checked before it is used, for the TLS library says little of what is wrong, and often only when
 * somebody connects.
 */
import { createHash, createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { OperationalError } from "../operational-error.ts";
import { readPrivateFile, readPublicFile } from "./secret-file.ts";

/** The files, by the names of the config file; an empty path stands for none. */
export interface TlsFiles {
  readonly cert_file: string;
  readonly key_file: string;
  readonly ca_file: string;
}

/** What is told of a certificate. */
export interface CertificateSummary {
  /** SHA-256 of the certificate as `openssl x509 -fingerprint -sha256` prints it. */
  readonly fingerprint: string;
  readonly notBeforeMs: number;
  /** When it expires, or one of those between it and its authority, whichever is first. */
  readonly notAfterMs: number;
}

/** See the file header. */
export interface TlsMaterial {
  /** Ready for use by either side of a connection: TLS 1.2 and 1.3 only. */
  readonly context: SecureContext;
  /** The same as text, for whoever makes a context of its own; what is not there is left out. */
  readonly pem: { readonly cert?: string; readonly key?: string; readonly ca?: string };
  /** Null when there is no certificate. */
  readonly certificate: CertificateSummary | null;
  /** Equal for equal files. */
  readonly digest: string;
}

/** What each file is called where something is wrong with it: "tls.cert_file" for one. */
export type TlsFileNames = Readonly<Record<keyof TlsFiles, string>>;

/** The names of the keys of a section of the configuration. */
export function tlsKeys(section: string): TlsFileNames {
  const [cert_file, key_file, ca_file] = ["cert_file", "key_file", "ca_file"].map(
    (key) => `${section}.${key}`,
  ) as [string, string, string];
  return { cert_file, key_file, ca_file };
}

/** What TLS is spoken with whatever the files: 1.3, and of 1.2 what is still held to be safe. */
export const TLS_TERMS = {
  minVersion: "TLSv1.2",
  // Keys that are forgotten afterwards, and ciphers that authenticate. TLS 1.3 has no others.
  ciphers: [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
  ].join(":"),
} as const;

let shared: SecureContext | null = null;

/** Without files: what comes from an authority that everybody trusts is trusted. */
export function strangersContext(): SecureContext {
  shared ??= createSecureContext(TLS_TERMS);
  return shared;
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** What lies in the files; what there is no file for is left out. */
export interface TlsContents {
  readonly pem: TlsMaterial["pem"];
  /** Equal for equal files. */
  readonly digest: string;
}

/** Reads the files. Throws an OperationalError of one line that says what to do. */
export function readTlsContents(names: TlsFileNames, files: TlsFiles): TlsContents {
  const { cert_file, key_file, ca_file } = files;
  const hash = createHash("sha256");
  const read = (path: string, name: string, reader: typeof readPublicFile): string | undefined => {
    if (path === "") return undefined;
    const bytes = reader(path, name);
    hash.update(`${bytes.length}:`).update(bytes);
    return bytes.toString("latin1");
  };
  const cert = read(cert_file, names.cert_file, readPublicFile);
  const key = read(key_file, names.key_file, readPrivateFile);
  const ca = read(ca_file, names.ca_file, readPublicFile);
  const pem = {
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(ca !== undefined && { ca }),
  };
  return { pem, digest: hash.digest("hex") };
}

/**
 * Checks what was read. `wallMs` is the time by which certificates may have expired. Throws an
 * OperationalError of one line that names the file and says what to do.
 */
export function checkTlsContents(
  { pem, digest }: TlsContents,
  names: TlsFileNames,
  files: TlsFiles,
  wallMs: number,
): TlsMaterial {
  const { cert, key, ca } = pem;
  const [certPlace, keyPlace, caPlace] = (["cert_file", "key_file", "ca_file"] as const).map(
    (it) => `${names[it]} "${files[it]}"`,
  ) as [string, string, string];
  const chain = cert === undefined ? [] : parseAll(cert, certPlace);
  if (chain.length > 0) checkPair(chain, parseKey(key!, keyPlace), certPlace, keyPlace);
  const certificate = chain.length === 0 ? null : summaryOf(chain);
  checkValidity(certificate, `the certificate in ${certPlace}`, wallMs);
  if (ca !== undefined) checkAuthorities(ca, caPlace, wallMs);
  try {
    const context = createSecureContext({ ...pem, ...TLS_TERMS });
    return { context, pem, certificate, digest };
  } catch (error) {
    const reason = (error as Error).message;
    throw new OperationalError(
      `${names.cert_file}, ${names.ca_file}: of no use for TLS: ${reason}`,
    );
  }
}

/** Reads the files and checks them. */
export function readTlsMaterial(names: TlsFileNames, files: TlsFiles, wallMs: number): TlsMaterial {
  return checkTlsContents(readTlsContents(names, files), names, files, wallMs);
}

/** What is told of the certificate in a file that may be anything; null when it holds none. */
export function summaryOfFile(path: string): CertificateSummary | null {
  try {
    return summaryOf(parseAll(readPublicFile(path, "").toString("latin1"), ""));
  } catch {
    return null;
  }
}

function parseAll(text: string, place: string): X509Certificate[] {
  const pieces = text.match(PEM_CERTIFICATE) ?? [];
  if (pieces.length === 0) {
    const advice = text.includes("PRIVATE KEY")
      ? "it is a private key"
      : "convert it with: openssl x509 -in FILE -out NEW_FILE";
    throw new OperationalError(`${place} holds no certificate in PEM form; ${advice}`);
  }
  return pieces.map((piece, i) => {
    try {
      return new X509Certificate(piece);
    } catch {
      const which = `certificate ${i + 1} of ${pieces.length}`;
      throw new OperationalError(`${place}: ${which} is damaged; copy the file again`);
    }
  });
}

function parseKey(text: string, place: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch {
    if (text.includes("ENCRYPTED")) {
      const command = "openssl pkey -in FILE -out NEW_FILE";
      throw new OperationalError(`${place} is locked with a passphrase; unlock it: ${command}`);
    }
    throw new OperationalError(`${place} holds no private key in PEM form`);
  }
}

/** The key has to be that of the first certificate, which is the one that is shown. */
function checkPair(
  chain: readonly X509Certificate[],
  key: KeyObject,
  certPlace: string,
  keyPlace: string,
): void {
  const owner = chain.findIndex((certificate) => certificate.checkPrivateKey(key));
  if (owner === 0) return;
  if (owner > 0) {
    throw new OperationalError(
      `${certPlace}: the certificate of the key is number ${owner + 1}; put it first`,
    );
  }
  throw new OperationalError(
    `${keyPlace} does not belong to the certificate in ${certPlace}; ` +
      "give the key that the certificate was made with",
  );
}

function checkAuthorities(text: string, place: string, wallMs: number): void {
  const all = parseAll(text, place).map((it) => summaryOf([it]));
  // Of several some may be there for the past; one has to be good.
  if (all.some(({ notAfterMs }) => notAfterMs > wallMs)) return;
  checkValidity(all[0], `the authority in ${place}`, wallMs);
}

/** One that is not valid yet passes: then it may be this machine's clock that is wrong. */
function checkValidity(summary: CertificateSummary | null, what: string, wallMs: number): void {
  if (summary === null || summary.notAfterMs > wallMs) return;
  const day = new Date(summary.notAfterMs).toISOString();
  throw new OperationalError(`${what} expired at ${day}; put a new one in its place`);
}

function summaryOf(chain: readonly X509Certificate[]): CertificateSummary {
  const [shown] = chain;
  return {
    fingerprint: shown.fingerprint256,
    notBeforeMs: Date.parse(shown.validFrom),
    notAfterMs: Math.min(...chain.map(({ validTo }) => Date.parse(validTo))),
  };
}
