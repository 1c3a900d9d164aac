/** Which addresses only somebody who runs the node may name, however they are written. */
import { expect, test } from "bun:test";
import { specialAddress } from "../../../src/config/special-address.ts";

test.each([
  ["169.254.169.254", "a link-local address"],
  ["169.254.0.0", "a link-local address"],
  ["169.254.255.255", "a link-local address"],
  ["fe80::1", "a link-local address"],
  ["FE80::1%eth0", "a link-local address"],
  ["[febf:ffff::1]", "a link-local address"],
  ["::ffff:169.254.169.254", "a link-local address"],
  ["::ffff:a9fe:a9fe", "a link-local address"],
  ["0:0:0:0:0:ffff:a9fe:a9fe", "a link-local address"],
  ["::169.254.169.254", "a link-local address"],
  ["::ffff:0:169.254.169.254", "a link-local address"],
  ["64:ff9b::169.254.169.254", "a link-local address"],
  ["64:ff9b:1:2:3:4:a9fe:a9fe", "a link-local address"],
  ["2002:a9fe:a9fe::1", "a link-local address"],
  ["100.100.100.200", "where a cloud tells a machine its secrets"],
  ["168.63.129.16", "where a cloud tells a machine its secrets"],
  ["fd00:ec2::254", "where a cloud tells a machine its secrets"],
  ["fd00:0ec2:0::0254", "where a cloud tells a machine its secrets"],
  ["0.0.0.0", "the address of no single host"],
  ["0.1.2.3", "the address of no single host"],
  ["::", "the address of no single host"],
  ["224.0.0.1", "the address of no single host"],
  ["255.255.255.255", "the address of no single host"],
  ["ff02::1", "the address of no single host"],
])("%s is %s", (address, what) => expect(specialAddress(address)).toBe(what));

test.each([
  "127.0.0.1",
  "::1",
  "::ffff:127.0.0.1",
  "10.0.0.1",
  "169.253.255.255",
  "169.255.0.0",
  "100.100.100.201",
  "192.168.1.1",
  "fd00:ec2::253",
  "fec0::1",
  "2001:db8::1",
  "64:ff9b::8.8.8.8",
  "node2",
  "",
])("nothing is special about %p", (address) => expect(specialAddress(address)).toBeNull());
