/** What several keys allow, and what a change of them means. */
import { isHost } from "../address.ts";

/** An address or a name of a machine. */
export const HOST = { allowed: "an IP address or a host name", accepts: isHost };
/** Whether a text can be the path of a file; empty stands for none. */
export function isFilePath(path: string): boolean {
  return !path.includes("\0") && !path.endsWith("/");
}
/** The path of a file, or none. */
export const FILE = { allowed: "the path of a file, or empty", accepts: isFilePath, isPath: true };
/** Empty stands for a part that the node does without: from or to that only with the next start. */
export const SWITCH = { notFromOrTo: [""] };
/** The name that a certificate is to be made for, or none. */
export const SERVER_NAME = {
  allowed: "a host name, or empty",
  accepts: (name: string) => name === "" || isHost(name),
};
/** Seconds of a day. */
export const DAY_SECONDS = 86_400;
