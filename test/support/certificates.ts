/** Certificates for tests, made by openssl in a directory of their own. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const DAY_MS = 86_400_000;
const CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/** The files of a certificate. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** What a certificate is made with. */
export interface CertificateWishes {
  /** The common name; "" for none. */
  readonly name?: string;
  /** `DNS:localhost,IP:127.0.0.1` unless given; "" for none. */
  readonly alternatives?: string;
  /** Below 0 it has expired. Parts of a day are exact to the second. */
  readonly days?: number;
}

/** Runs openssl. Throws with what it says when it fails. */
export function openssl(...args: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["openssl", ...args]);
  if (exitCode !== 0) throw new Error(`openssl ${args[0]}: ${stderr.toString()}`);
  return stdout.toString();
}

/** A certificate authority. */
export class Authority {
  readonly directory: string;
  /** Its own certificate. */
  readonly caFile: string;
  private readonly caKey: string;
  private count = 0;

  constructor(name = "Test Authority") {
    this.directory = mkdtempSync(join(tmpdir(), "merklekv-certificates-"));
    this.caFile = join(this.directory, "ca.crt");
    this.caKey = join(this.directory, "ca.key");
    const files = ["-keyout", this.caKey, "-out", this.caFile];
    openssl("req", "-x509", ...CURVE, "-nodes", "-days", "3650", "-subj", `/CN=${name}`, ...files);
  }

  /** Makes a certificate for a server or a client. */
  issue({ name = "node", alternatives, days = 90 }: CertificateWishes = {}): CertificateFiles {
    const base = join(this.directory, `${++this.count}`);
    const [cert, key, request, extensions] = ["crt", "key", "csr", "ext"].map(
      (it) => `${base}.${it}`,
    );
    const subject = name === "" ? "/" : `/CN=${name}`;
    openssl("req", ...CURVE, "-nodes", "-keyout", key, "-out", request, "-subj", subject);
    const names = alternatives ?? "DNS:localhost,IP:127.0.0.1";
    writeFileSync(extensions, names === "" ? "" : `subjectAltName=${names}\n`);
    const files = ["-in", request, "-out", cert, "-extfile", extensions];
    if (!Number.isInteger(days)) this.signUntil(Date.now() + days * DAY_MS, files);
    else {
      const by = ["-CA", this.caFile, "-CAkey", this.caKey, "-CAcreateserial"];
      openssl("x509", "-req", ...files, ...by, "-days", `${days}`);
    }
    return { cert, key };
  }

  /** `openssl x509` knows days only. */
  private signUntil(unixMs: number, files: readonly string[]): void {
    const [config, database] = ["ca.cnf", "ca.txt"].map((it) => join(this.directory, it));
    writeFileSync(database, "");
    const settings = [
      ...["[ca]", "default_ca=own", "[own]", `database=${database}`],
      ...[`new_certs_dir=${this.directory}`, "rand_serial=yes", "default_md=sha256"],
      ...["policy=any", "[any]", "commonName=optional", ""],
    ];
    writeFileSync(config, settings.join("\n"));
    const end = `${new Date(unixMs).toISOString().replace(/\..*$|[-:T]/g, "")}Z`;
    const by = ["-cert", this.caFile, "-keyfile", this.caKey];
    openssl("ca", "-config", config, "-batch", "-notext", ...files, ...by, "-enddate", end);
  }

  /** Removes all its files. */
  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
