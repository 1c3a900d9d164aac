/** Traces through whole nodes, as a collector gets them. */
import { afterEach, describe, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { OtlpReceiver, type ReceivedSpan } from "../support/otlp-receiver.ts";
import { Started, type ReloadingNode, type Values } from "../support/reloading-node.ts";

const started = new Started();
afterEach(() => started.end());

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`;

function collector(): OtlpReceiver {
  const receiver = new OtlpReceiver();
  started.also(() => receiver.stop());
  return receiver;
}

/** A node that traces what clients ask for. */
function tracing(receiver: OtlpReceiver, values: Values = {}): Promise<ReloadingNode> {
  const settings = { "tracing.endpoint": receiver.url, "tracing.sample_ratio": 0 };
  return started.node({ ...settings, ...values });
}

async function pair(receiver: OtlpReceiver, values: Values = {}): Promise<ReloadingNode[]> {
  const broker_address = await started.broker();
  const common = {
    "mqtt.enabled": true,
    "mqtt.broker_address": broker_address,
    "storage.engine": "log",
    "storage.fsync": "always",
    "anti_entropy.enabled": false,
    ...values,
  };
  const a = await tracing(receiver, { ...common, node_id: "a" });
  const b = await tracing(receiver, { ...common, node_id: "b" });
  // What one of them writes before the other is there does not reach it by the broker.
  await eventually("they replicate", async () => {
    await a.ask("SET first 1");
    return (await b.ask("GET first")) === "1";
  });
  return [a, b];
}

/** Name, node and the name of what each belongs to. */
function shapeOf(spans: readonly ReceivedSpan[]): string[] {
  const parentOf = ({ parentSpanId }: ReceivedSpan): string =>
    spans.find(({ spanId }) => spanId === parentSpanId)?.name ?? parentSpanId;
  return spans.map((span) => `${span.node}: ${span.name} < ${parentOf(span)}`).sort();
}

const WHOLE = [
  `a: SET < ${PARENT}`,
  "a: broker < publish",
  "a: journal < SET",
  "a: publish < SET",
  "b: apply < publish",
];

describe("one trace", () => {
  test("shows a command, the journal, the broker, and what a peer makes of it", async () => {
    const receiver = collector();
    const [a, b] = await pair(receiver);
    expect(await a.ask(`TRACE ${TRACEPARENT} SET key value`)).toBe("OK");
    const spans = await receiver.trace(TRACE, WHOLE.length);
    expect(shapeOf(spans)).toEqual(WHOLE);
    const kinds = Object.fromEntries(spans.map(({ name, kind }) => [name, kind]));
    expect(kinds).toEqual({ SET: 2, journal: 1, publish: 4, broker: 3, apply: 5 });
    expect(spans.every((span) => span.to >= span.from && !span.hasFailed)).toBe(true);
    const apply = spans.find(({ name }) => name === "apply")!;
    expect(apply.facts).toMatchObject({ "merklekv.batch.source": "a" });
    // Neither keys nor values leave the node this way.
    expect(JSON.stringify(spans.map((it) => it.facts))).not.toMatch(/key|value/);
    expect(await b!.ask("GET key")).toBe("value");
  });
});
