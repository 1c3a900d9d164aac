/**
 * The certificates of one section of the configuration while the node runs. They are read again
 * when their files change, and on SIGHUP. What is found is checked first: what is bad is not used,
 * and the log says why; what was used before stays in use.
 *
 * Whoever begins a connection takes what is `current` then; connections that are there go on with
 * what they began with.
 */
import { counter, gauge, text, type Fact } from "./fact.ts";
import type { Logger } from "./observability/log.ts";
import { FileWatch } from "./security/file-watch.ts";
import {
  checkTlsContents,
  readTlsContents,
  readTlsMaterial,
  summaryOfFile,
  tlsKeys,
  type CertificateSummary,
  type TlsFileNames,
  type TlsFiles,
  type TlsMaterial,
} from "./security/tls-material.ts";
import { every, isoTimeOf, type Cancel, type Timing } from "./timing.ts";

/** What the certificates of a section depend on. */
export interface CertificatesOptions {
  /** Its name: "tls". */
  readonly section: string;
  /** What its files are called; by their keys in the section unless given. */
  readonly names?: TlsFileNames;
  readonly files: TlsFiles;
  wallMs(): number;
  readonly timing: Timing;
  readonly logger: Logger;
}

/** Files are looked at this long after the first sign of a change, for several may be replaced. */
const SETTLE_MS = 500;
/** What is bad then is looked at again: the key may come later than its certificate. */
const PATIENCE_MS = 1_000;
/** Files are looked at this often, even if nothing is heard of them. */
const LOOK_EVERY_MS = 60_000;
const DAY_MS = 86_400_000;
/** An end that is so near is warned of, once a day. */
const WARN_BEFORE_MS = 30 * DAY_MS;

/** See the file header. */
export class Certificates {
  /** What is in use. */
  current: TlsMaterial;
  /** Told when something else has come into use. */
  onChange: () => void = () => {};
  /** How often that was. */
  private changes = 0;
  /** What lies in the file, good or bad. */
  private onDisk: CertificateSummary | null;
  /** Why what lies there is not used; empty when it is. */
  private problem = "";
  /** What the log was told last of the time of the certificate in use, and when. */
  private toldState = "";
  private toldMs = -Infinity;
  private readonly names: TlsFileNames;
  private readonly watch: FileWatch;
  private cancelCheck: Cancel | null = null;
  private readonly cancelLooks: Cancel;

  /** Reads the files. Throws an OperationalError when they cannot be used. */
  constructor(private readonly options: CertificatesOptions) {
    const { section, files, wallMs, timing } = options;
    this.names = options.names ?? tlsKeys(section);
    this.current = readTlsMaterial(this.names, files, wallMs());
    this.onDisk = this.current.certificate;
    const paths = Object.values(files).filter((path) => path !== "");
    this.watch = new FileWatch(paths, () => this.checkSoon(SETTLE_MS, true));
    this.watch.start();
    this.cancelLooks = every(timing, LOOK_EVERY_MS, () => this.look());
    this.warnOfTime();
  }

  /** Reads the files now, and says what is wrong with them. */
  reopen(): void {
    this.check(false);
  }

  /** Looks at the files no more. */
  stop(): void {
    this.watch.stop();
    this.cancelLooks();
    this.cancelCheck?.();
  }

  /** The facts of the certificates that `of` gives; their names begin with `prefix`. */
  static facts(prefix: string): readonly Fact<Certificates>[] {
    const time = (of: CertificateSummary | null): string | null =>
      of === null ? null : String(isoTimeOf(of.notAfterMs));
    return [
      text(
        `${prefix}_certificate_fingerprint`,
        "SHA-256 of the certificate in use, as `openssl x509 -fingerprint -sha256` shows it.",
        (it) => it.current.certificate?.fingerprint ?? null,
      ),
      text(`${prefix}_certificate_expires`, "When the certificate in use expires.", (it) =>
        time(it.current.certificate),
      ),
      gauge(
        `${prefix}_certificate_days_left`,
        "days",
        "Until the certificate in use expires; below 0 when it has.",
        (it) => it.daysLeft,
      ),
      gauge(
        `${prefix}_certificate_expires_unix`,
        "Unix seconds",
        "The same as a time.",
        (it) => (it.current.certificate?.notAfterMs ?? 0) / 1000 || null,
      ),
      gauge(
        `${prefix}_certificate_files_refused`,
        "0 or 1",
        "Whether what lies in the files is not used.",
        (it) => Number(it.problem !== ""),
      ),
      text(
        `${prefix}_disk_certificate_fingerprint`,
        "The same of the certificate that lies in the file now.",
        (it) => it.onDisk?.fingerprint ?? null,
      ),
      text(
        `${prefix}_disk_certificate_expires`,
        "When the certificate that lies in the file now expires.",
        (it) => time(it.onDisk),
      ),
      text(
        `${prefix}_certificate_problem`,
        "Why what lies in the files is not used; left out when it is.",
        (it) => it.problem || null,
      ),
      counter(
        `${prefix}_certificate_changes`,
        "changes",
        "How often other certificates were read and came into use.",
        (it) => it.changes,
      ),
    ];
  }

  private get daysLeft(): number | null {
    const { certificate } = this.current;
    if (certificate === null) return null;
    return Math.floor((certificate.notAfterMs - this.options.wallMs()) / DAY_MS);
  }

  private look(): void {
    if (this.cancelCheck === null) this.check(true);
    this.warnOfTime();
  }

  private checkSoon(delayMs: number, isPatient: boolean): void {
    this.cancelCheck ??= this.options.timing.after(delayMs, () => {
      this.cancelCheck = null;
      this.check(isPatient);
    });
  }

  /** Uses what lies in the files if it is good. `isPatient`: else it is looked at again first. */
  private check(isPatient: boolean): void {
    const { section, files, wallMs, logger } = this.options;
    this.watch.start();
    try {
      const contents = readTlsContents(this.names, files);
      const isNew = contents.digest !== this.current.digest;
      const found = isNew ? checkTlsContents(contents, this.names, files, wallMs()) : this.current;
      this.problem = "";
      this.onDisk = found.certificate;
      if (!isNew) return;
      this.current = found;
      this.changes++;
    } catch (error) {
      if (isPatient && this.problem === "") return this.checkSoon(PATIENCE_MS, false);
      const { message } = error as Error;
      this.onDisk = files.cert_file === "" ? null : summaryOfFile(files.cert_file);
      const isNews = message !== this.problem;
      this.problem = message;
      const fields = { problem: message, in_use: this.current.certificate?.fingerprint };
      if (isNews || !isPatient) {
        logger.warn("Certificates on disk are not used; those in use stay", fields);
      }
      return;
    }
    const { certificate } = this.current;
    const expires = certificate === null ? undefined : isoTimeOf(certificate.notAfterMs);
    const fields = { section, fingerprint: certificate?.fingerprint, expires };
    logger.info("Other certificates are in use for new connections", fields);
    this.toldMs = -Infinity;
    this.warnOfTime();
    this.onChange();
  }

  private warnOfTime(): void {
    const { certificate } = this.current;
    const { section, files, wallMs, logger } = this.options;
    if (certificate === null) return;
    const fields = { file: files.cert_file, expires: isoTimeOf(certificate.notAfterMs) };
    const leftMs = certificate.notAfterMs - wallMs();
    if (certificate.notBeforeMs > wallMs()) {
      if (!this.isToBeTold("early")) return;
      const from = isoTimeOf(certificate.notBeforeMs);
      const message = `The certificate of [${section}] is not valid yet; is this machine's clock right?`;
      logger.warn(message, { file: files.cert_file, from });
    } else if (leftMs <= 0) {
      if (!this.isToBeTold("late")) return;
      logger.error(
        `The certificate of [${section}] has expired; put a new one in its place`,
        fields,
      );
    } else if (leftMs <= WARN_BEFORE_MS) {
      if (!this.isToBeTold("near its end")) return;
      const message = `The certificate of [${section}] expires soon; put a new one in its place`;
      logger.warn(message, { ...fields, days_left: this.daysLeft });
    }
  }

  /** Whether that is news, or was said a day ago. */
  private isToBeTold(state: string): boolean {
    const nowMs = this.options.timing.nowMs();
    if (state === this.toldState && nowMs - this.toldMs < DAY_MS) return false;
    this.toldState = state;
    this.toldMs = nowMs;
    return true;
  }
}
