/** A part of the spike `more-cores.ts`: a worker that has sockets, parses, and writes replies. */
import { parentPort } from "node:worker_threads";
import type { Socket } from "bun";
import { Reply, RESP2 } from "../../../../src/protocol/reply.ts";
import { Request } from "../../../../src/protocol/request.ts";
import { COMPLETE, RespParser } from "../../../../src/protocol/resp-parser.ts";
import { SendQueue } from "../../../../src/send-queue.ts";
import { GET, MISSING, OK, OTHER, Ring, SET, VALUE, type Wake } from "./ring.ts";

/** What a worker is told first. */
export interface ReaderOptions {
  readonly port: number;
  readonly wake: Wake;
  readonly requests: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
}

/** A client: its number in records, what it has sent of a request, what it has not taken. */
export class Client {
  rest: Uint8Array | null = null;
  readonly output: SendQueue;

  constructor(
    readonly id: number,
    socket: Socket<Client>,
  ) {
    this.output = new SendQueue(socket);
  }
}

const parser = new RespParser(8_388_608, 8_388_608);
const request = new Request();

/** Parses what a client sent, and tells `take` the kind of each request, which `request` holds. */
export function parseChunk(
  client: Client,
  chunk: Uint8Array,
  take: (client: Client, kind: number, request: Request) => void,
): void {
  const bytes = client.rest === null ? chunk : Buffer.concat([client.rest, chunk]);
  client.rest = null;
  for (let at = 0; at < bytes.length; at += request.readBytes) {
    request.reset();
    request.base = at;
    if (parser.parse(request, bytes, bytes.length) !== COMPLETE) {
      client.rest = bytes.slice(at);
      return;
    }
    const isThree = request.length(-1) === 3;
    const first = isThree ? bytes[request.start(-1)] : 0;
    const kind = first === 0x53 ? SET : first === 0x47 ? GET : OTHER;
    take(client, kind, request);
  }
}

/** Serves a share of the connections to a port. */
function serve({ port, wake, ...memory }: ReaderOptions): void {
  const requests = new Ring(memory.requests);
  const replies = new Ring(memory.replies);
  const clients: (Client | undefined)[] = [];
  const reply = new Reply();
  reply.dialect = RESP2;
  let isTurnDue = false;

  const endTurn = (): void => {
    isTurnDue = false;
    if (!requests.publish()) return;
    if (wake === "notify") requests.notify();
    else parentPort!.postMessage(0);
  };
  const take = (client: Client, kind: number, asked: Request): void => {
    const keyLength = kind === OTHER ? 0 : asked.length(0);
    const hasValue = kind === SET;
    const keyAt = kind === OTHER ? 0 : asked.start(0);
    const valueAt = hasValue ? asked.start(1) : 0;
    const valueLength = hasValue ? asked.length(1) : 0;
    requests.put(client.id, kind, asked.bytes, keyAt, keyLength, valueAt, valueLength);
  };
  const send = (to: number): void => {
    clients[to]?.output.send(reply.bytes, reply.length);
    reply.length = 0;
  };
  const drain = (): void => {
    let to = -1;
    do {
      while (replies.next()) {
        if (to !== replies.connection && to >= 0) send(to);
        to = replies.connection;
        if (replies.kind === OK) reply.ok();
        else if (replies.kind === VALUE) {
          reply.value(replies.bytes, replies.valueAt, replies.valueLength);
        } else if (replies.kind === MISSING) reply.missing();
        else reply.respError("ERR only SET and GET");
      }
      if (to >= 0) send(to);
      to = -1;
      replies.free();
    } while (!replies.sleep());
  };
  if (wake === "notify") replies.onNotify(drain);
  else parentPort!.on("message", drain);
  replies.sleep();

  // The types do not know of the option yet.
  const options: Bun.TCPSocketListenOptions<Client> & { reusePort: boolean } = {
    hostname: "127.0.0.1",
    port,
    reusePort: true,
    socket: {
      open(socket) {
        socket.data = new Client(clients.length, socket);
        clients.push(socket.data);
      },
      data({ data }, chunk) {
        parseChunk(data, chunk, take);
        if (isTurnDue) return;
        isTurnDue = true;
        setImmediate(endTurn);
      },
      drain: ({ data }) => data.output.flush(),
      close: ({ data }) => void (clients[data.id] = undefined),
    },
  };
  Bun.listen(options);
}

parentPort?.once("message", serve);
