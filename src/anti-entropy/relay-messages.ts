/**
 * How two nodes agree on a connection through the broker. Each side receives on a topic of its own,
 * whose last level is a random name, its *box*: only who was told that name can send there.
 *
 *   <prefix>/sync/<callee>/open   { "v": 1, "caller": node id, "box": its box, "round": boolean }
 *   <prefix>/sync/<caller>/<box>  { "v": 1, "box": callee's box }, or { "v": 1, "refused": why }
 *
 * From then on datagrams (`core/link/datagram.ts`) go both ways, which begin with no `{`. Calls
 * and answers may come twice, or late.
 */
import { isNodeId } from "../core/data/name.ts";
import { REFUSAL_REASONS } from "./refusal-reasons.ts";

const FORMAT_VERSION = 1;
const MAX_BYTES = 1_024;
/** Digits in the name of a box: 64 bits of chance. */
export const BOX_DIGITS = 16;
/** The box at which a node is called. */
export const OPEN_BOX = "open";
const BRACE = 0x7b;

/** What a caller says. */
export interface Call {
  readonly from: string;
  readonly box: string;
  /** As in `PEER ROUND`. */
  readonly isRound: boolean;
}

/** What is answered. */
export type Answer = { readonly box: string } | { readonly refused: string };

/** Whether a message is an answer, or a datagram. */
export function isAnswer(message: Uint8Array): boolean {
  return message[0] === BRACE;
}

/** The message that calls. */
export function encodeCall({ from, box, isRound }: Call): Uint8Array {
  return encode({ caller: from, box, round: isRound });
}

/** Reads a call; null when it is none. */
export function decodeCall(message: Uint8Array): Call | null {
  const { caller: from, box, round } = decode(message);
  if (typeof from !== "string" || !isNodeId(from)) return null;
  return isBox(box) && typeof round === "boolean" ? { from, box, isRound: round } : null;
}

/** The message that answers. */
export function encodeAnswer(answer: Answer): Uint8Array {
  return encode({ ...answer });
}

/** Reads an answer; null when it is none. What is refused in unknown words is told in none. */
export function decodeAnswer(message: Uint8Array): Answer | null {
  const { box, refused } = decode(message);
  if (isBox(box)) return { box };
  if (typeof refused !== "string") return null;
  const known = Object.values(REFUSAL_REASONS).find((reason) => reason === refused);
  return { refused: known ?? "it gives no reason" };
}

function isBox(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{16}$/.test(value);
}

function encode(fields: Record<string, unknown>): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ v: FORMAT_VERSION, ...fields }));
}

function decode(message: Uint8Array): Record<string, unknown> {
  if (message.length > MAX_BYTES) return {};
  try {
    const found = JSON.parse(new TextDecoder().decode(message)) as Record<string, unknown> | null;
    return found?.["v"] === FORMAT_VERSION ? found : {};
  } catch {
    return {};
  }
}
