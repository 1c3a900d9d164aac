/**
 * Addresses that are no place for a peer unless somebody chose them on purpose: those of this link
 * alone, where cloud providers tell a machine its passwords, and those that stand for no host.
 * Whoever can name a peer must not make this node call there.
 */
import { isIP, isIPv4 } from "node:net";

/** First bits of an IPv4 address as a number, and how many count. */
type Range = readonly [number, number];

const LINK_LOCAL_V4: Range = [0xa9fe_0000, 16];
const NO_HOST_V4: readonly Range[] = [
  [0x0000_0000, 8],
  [0xe000_0000, 3],
];
/** What clouds use beside 169.254.169.254: Alibaba, Azure, Oracle; Amazon and Google over IPv6. */
const METADATA_V4: readonly Range[] = [
  [0x6464_64c8, 32],
  [0xa83f_8110, 32],
  [0xc000_00c0, 32],
];
const METADATA_V6 = new Set(["fd00:ec2:0:0:0:0:0:254", "fd20:ce:0:0:0:0:0:254"]);

/**
 * What is special about an IP address, in words that follow "it is": `a link-local address`; null
 * when nothing is, or when it is no IP address. However it is written: IPv4 within IPv6 counts as
 * what it is.
 */
export function specialAddress(address: string): string | null {
  const text = address.replace(/^\[(.*)\]$/, "$1").replace(/%.*$/, "");
  if (isIPv4(text)) return specialV4(numberOf(text));
  return isIP(text) === 6 ? specialV6(wordsOf(text)) : null;
}

function specialV4(address: number): string | null {
  const isIn = ([bits, length]: Range): boolean => (address ^ bits) >>> (32 - length) === 0;
  if (isIn(LINK_LOCAL_V4)) return "a link-local address";
  if (METADATA_V4.some(isIn)) return "where a cloud tells a machine its secrets";
  return NO_HOST_V4.some(isIn) ? "the address of no single host" : null;
}

function specialV6(words: readonly number[]): string | null {
  const [first] = words;
  if ((first & 0xffc0) === 0xfe80) return "a link-local address";
  if ((first & 0xff00) === 0xff00) return "the address of no single host";
  if (METADATA_V6.has(words.map((word) => word.toString(16)).join(":"))) {
    return "where a cloud tells a machine its secrets";
  }
  // The loopback address looks like an IPv4 address within IPv6.
  if (words.slice(0, 7).every((word) => word === 0) && words[7] === 1) return null;
  const within = embeddedV4(words);
  return within === null ? null : specialV4(within);
}

/** The IPv4 address that an IPv6 address leads to; null when it leads to none. */
function embeddedV4(words: readonly number[]): number | null {
  const at = (i: number): number => ((words[i] << 16) | words[i + 1]) >>> 0;
  const start = words.slice(0, 6).map((word) => word.toString(16));
  // Compatible and mapped addresses, those of translation (RFC 7915, 6052, 8215), and 6to4.
  const isWithin = [
    /^0:0:0:0:0:(0|ffff)$/,
    /^0:0:0:0:ffff:0$/,
    /^64:ff9b:0:0:0:0$/,
    /^64:ff9b:1:/,
  ].some((pattern) => pattern.test(start.join(":")));
  if (isWithin) return at(6);
  return words[0] === 0x2002 ? at(1) : null;
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** The eight words of an IPv6 address. */
function wordsOf(address: string): number[] {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  if (dotted !== null) {
    const number = numberOf(dotted[2]);
    const words = [number >>> 16, number & 0xffff].map((word) => word.toString(16));
    return wordsOf(dotted[1] + words.join(":"));
  }
  const [left, right] = address.split("::").map((half) => half.split(":").filter(Boolean));
  const zeros = new Array<string>(8 - left.length - (right?.length ?? 0)).fill("0");
  const words = right === undefined ? left : [...left, ...zeros, ...right];
  return words.map((word) => parseInt(word, 16));
}
