/** A client for tests that talks lines over TLS. */
import { readFileSync } from "node:fs";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import type { CertificateFiles } from "./certificates.ts";
import { DEADLINE_MS, within } from "./eventually.ts";

/** How it connects. */
export interface TlsClientOptions {
  readonly port: number;
  readonly caFile: string;
  readonly certificate?: CertificateFiles;
  readonly more?: ConnectionOptions;
}

/** Connects. Rejects when the handshake fails. */
export async function connectTls(options: TlsClientOptions): Promise<TLSSocket> {
  const { port, caFile, certificate, more } = options;
  const pair = certificate && {
    cert: readFileSync(certificate.cert),
    key: readFileSync(certificate.key),
  };
  const socket = connect({
    host: "127.0.0.1",
    port,
    ca: readFileSync(caFile),
    ...pair,
    ...more,
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("secureConnect", resolve).once("error", reject);
  socket.once("close", () => reject(new Error("closed")));
  await within(DEADLINE_MS, promise, `no end of the handshake with port ${port}`);
  socket.on("error", () => {}); // "close" follows
  return socket;
}

/** Sends one line and awaits the first line of the reply; null when the connection ends instead. */
export function ask(socket: TLSSocket, line: string): Promise<string | null> {
  const { promise, resolve, reject } = Promise.withResolvers<string | null>();
  const timer = setTimeout(() => reject(new Error(`no reply to ${line}`)), DEADLINE_MS);
  let text = "";
  const onData = (chunk: Buffer): void => {
    text += chunk.toString();
    if (text.includes("\n")) finish(text.slice(0, text.indexOf("\n")));
  };
  const onClose = (): void => finish(null);
  const finish = (reply: string | null): void => {
    clearTimeout(timer);
    socket.off("data", onData).off("close", onClose);
    resolve(reply);
  };
  socket.on("data", onData).on("close", onClose);
  socket.write(`${line}\n`);
  return promise;
}
