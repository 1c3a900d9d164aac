/** What a program says when there is something other than a node at the other end. */
import { expect, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import { RespConnection } from "../../../src/cli/resp-connection.ts";

async function withServer(
  onClient: (socket: Socket) => void,
  work: (port: number) => Promise<void>,
): Promise<void> {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    onClient(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  await work((server.address() as { port: number }).port);
  for (const socket of sockets) socket.destroy();
  server.close();
}

test.each<[string, (socket: Socket) => void, string]>([
  ["silence", () => {}, "it did not answer within 0.05 s"],
  ["half a reply", (socket) => void socket.write("+PO"), "it did not answer within 0.05 s"],
  ["a closed connection", (socket) => void socket.end(), "the node closed the connection"],
  ["another protocol", (socket) => void socket.write("HTTP/1.1 400\r\n"), "the node answers: "],
])("%s", async (_what, onClient, message) => {
  await withServer(onClient, async (port) => {
    const opening = RespConnection.open({ host: "127.0.0.1", port, security: null }, 50);
    await expect(opening).rejects.toThrow(`127.0.0.1:${port} is no node: ${message}`);
  });
});

test("a node that wants a login: the error says how", async () => {
  const answers = (socket: Socket): void => {
    socket.on("data", () => socket.write("-NOAUTH Authentication required.\r\n"));
  };
  await withServer(answers, async (port) => {
    const connection = await RespConnection.open({ host: "127.0.0.1", port, security: null });
    const login = "Authentication required. Log in: --user NAME, and --askpass or --pass-file FILE";
    await expect(connection.ask(["INFO"])).rejects.toThrow(login);
    connection.close();
  });
});
