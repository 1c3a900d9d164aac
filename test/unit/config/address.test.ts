import { expect, test } from "bun:test";
import {
  formatHostPort,
  isLoopbackHost,
  isHost,
  parseBrokerAddress,
  parseHostPort,
} from "../../../src/config/address.ts";

test("hosts are IP addresses and host names", () => {
  for (const host of [
    "127.0.0.1",
    "::",
    "::1",
    "fe80::1%eth0",
    "a",
    "node-1.example.com",
    "my_node",
    "x.",
  ]) {
    expect([host, isHost(host)]).toEqual([host, true]);
  }
  for (const host of [
    "",
    "999.1.1.1",
    "1.2.3",
    "a..b",
    "-a",
    "a-",
    "a b",
    "[::1]",
    "a/b",
    "x".repeat(64),
    "ü",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "169.254.0xa9fe",
    "0251.0376.0251.0376",
    "0x",
  ]) {
    expect([host, isHost(host)]).toEqual([host, false]);
  }
});

test("host:port and [ipv6]:port are read, and written back the same", () => {
  for (const [text, host, port] of [
    ["10.0.0.1:7379", "10.0.0.1", 7379],
    ["node2:1", "node2", 1],
    ["[::1]:65535", "::1", 65_535],
  ] as const) {
    expect(parseHostPort(text)).toEqual({ host, port });
    expect(formatHostPort(host, port)).toBe(text);
  }
  for (const text of [
    "",
    "node2",
    ":7379",
    "node2:",
    "node2:0",
    "node2:65536",
    "node2:7379x",
    "::1:7379",
    "[1.2.3.4]:1",
    "[::1]",
    "[node]:1",
    "a:1:2",
  ]) {
    expect([text, parseHostPort(text)]).toEqual([text, undefined]);
  }
});

test("broker addresses name protocol, host, port and, over WebSocket, a path", () => {
  const read = (text: string) => {
    const address = parseBrokerAddress(text);
    return address && [address.protocol, address.host, address.port, address.path];
  };
  expect(read("tcp://localhost")).toEqual(["mqtt", "localhost", 1883, ""]);
  expect(read("mqtt://10.0.0.1:2883/")).toEqual(["mqtt", "10.0.0.1", 2883, ""]);
  expect(read("mqtts://broker.example.com")).toEqual(["mqtts", "broker.example.com", 8883, ""]);
  expect(read("tcp://[::1]")).toEqual(["mqtt", "::1", 1883, ""]);
  expect(read("ws://broker:9001/mqtt?a=b")).toEqual(["ws", "broker", 9001, "/mqtt?a=b"]);
  expect(read("ws://broker")).toEqual(["ws", "broker", 80, "/"]);
  expect(read("wss://[fe80::1]:443")).toEqual(["wss", "fe80::1", 443, "/"]);
  for (const text of [
    "",
    "embedded",
    "localhost",
    "localhost:1883",
    "http://a",
    "toString://a",
    "TCP://a",
    "tcp://",
    "tcp://a:0",
    "tcp://a:99999",
    "tcp://a:",
    "tcp://a/topic",
    "tcp://::1",
    "mqtt://user:pw@a",
    "ws://a/#x",
    "ws://a/ b",
    "tcp://a\n",
  ]) {
    expect([text, read(text)]).toEqual([text, undefined]);
  }
});

test("this machine is what never leaves it; a name that only looks so may lead anywhere", () => {
  const own = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST."];
  for (const host of own) expect([host, isLoopbackHost(host)]).toEqual([host, true]);
  const others = ["127.example.org", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0"];
  for (const host of [...others, "128.0.0.1", "::", "x127.0.0.1", ""]) {
    expect([host, isLoopbackHost(host)]).toEqual([host, false]);
  }
});
