/**
 * Changes of keys as server-sent events
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 *
 * `change` names a key with its new version, or says that it is deleted. `lost` says that not all
 * changes were told: look at the keys again. A comment comes first, and when nothing else does, so
 * that both sides notice when the other has gone. Who does not read is cut off.
 */
import type { InnerClient, KeyChange } from "../ports.ts";
import { every, type Timing } from "../timing.ts";
import { ApiError, factsField, valueOf } from "./api-answers.ts";
import { markStream } from "./api-json.ts";
import { bytesField, jsonText } from "./json-writer.ts";

/** Bytes that may wait to be read. */
const MAX_UNREAD_BYTES = 1024 * 1024;
/** How often something is sent, in ms. */
const BEAT_MS = 10_000;

/** Answers with a stream of what changes below a prefix. */
export async function watchKeys(
  client: InnerClient,
  prefix: Uint8Array,
  timing: Timing,
): Promise<Response> {
  // Who may not list keys is told so now; rights on single keys are looked at when they change.
  valueOf(await client.ask(["SCAN", "ORDERED", prefix, "COUNT", "0"]));
  let stop: (() => void) | null = null;
  let cancelBeat = (): void => {};
  const end = (): void => {
    cancelBeat();
    stop?.();
    client.end();
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const close = (): void => {
          end();
          controller.close();
        };
        const send = (text: string): void => {
          const bytes = encoder.encode(text);
          // Who has that much unread gets no more.
          if ((controller.desiredSize ?? 0) < bytes.length) close();
          else controller.enqueue(bytes);
        };
        stop = client.watch({
          prefix,
          onChanges: (changes) => send(changes.map(eventOf).join("")),
          onLost: () => send("event: lost\ndata: {}\n\n"),
          onEnd: close,
        });
        if (stop === null) return;
        send(": watching\n\n");
        cancelBeat = every(timing, BEAT_MS, () => send(": still here\n\n"));
      },
      cancel: end,
    },
    { highWaterMark: MAX_UNREAD_BYTES, size: (bytes) => bytes?.length ?? 0 },
  );
  if (stop === null) {
    throw new ApiError(503, "too_many", "Too many watch already", { "retry-after": "10" });
  }
  markStream(stream);
  return new Response(stream, { headers: { "content-type": "text/event-stream" } });
}

function eventOf({ key, facts }: KeyChange): string {
  const rest = facts === null ? { deleted: true } : factsField(facts);
  return `event: change\ndata: ${jsonText({ ...bytesField("key", key), ...rest })}\n\n`;
}

const encoder = new TextEncoder();
