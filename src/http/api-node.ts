/** The node itself by the HTTP API: its facts, who else is there, its tree, and any command. */
import { releaseLargeOf } from "../core/bytes.ts";
import type { FactSection } from "../fact.ts";
import type { InnerClient, MemberView } from "../ports.ts";
import { RespError, readRespReply, respItems, type RespReply } from "../protocol/resp-value.ts";
import type { AnswerTurns } from "./answer-turns.ts";
import { ApiError, busy, invalid, valueOf } from "./api-answers.ts";
import { answerJson } from "./api-json.ts";
import { bytesField, LazyList } from "./json-writer.ts";
import { bytesOfField } from "./api-keys.ts";
import type { Place } from "./places.ts";

/** What the API tells of the node. */
export interface NodeView {
  facts(): readonly FactSection<void>[];
  /** This node first. */
  members(): readonly MemberView[];
  /** The first 4 bytes of the digests of the tree's lowest inner level. */
  treeCells(): Uint8Array;
  /**
   * A byte for each of those cells: 1 if a session has found that it differs from a peer's, 2 if
   * one has healed it in the last seconds. Whoever asks is taken to watch for some seconds.
   */
  differences(): Uint8Array;
}

/** Names and values of all facts, by their sections. For who may say INFO. */
export async function tellFacts(client: InnerClient, node: NodeView): Promise<Response> {
  await checkInfo(client);
  const sections = node.facts().map(({ title, facts }) => ({
    title,
    facts: facts.flatMap(({ name, kind, unit, help, read }) => {
      const value = read();
      return value === null ? [] : [{ name, kind, unit, help, value }];
    }),
  }));
  return Response.json({ sections });
}

/** Who is there. For who may say INFO. */
export async function tellCluster(client: InnerClient, node: NodeView): Promise<Response> {
  await checkInfo(client);
  return Response.json({ members: node.members() });
}

/** The tree as a map, and where sessions have found that it differs from a peer's. */
export async function tellTree(client: InnerClient, node: NodeView): Promise<Response> {
  await checkInfo(client);
  return Response.json({
    cells_base64: Buffer.from(node.treeCells()).toString("base64"),
    differences_base64: Buffer.from(node.differences()).toString("base64"),
  });
}

/** Runs the words of a request's body as a command, and tells its reply. */
export async function runCommand(
  { words }: Readonly<Record<string, unknown>>,
  client: InnerClient,
  { place, turns }: { readonly place: Place; readonly turns: AnswerTurns },
  signal: AbortSignal,
): Promise<Response> {
  if (!Array.isArray(words) || words.length === 0 || words.length > MAX_WORDS) {
    throw invalid(`words is a list of 1 to ${MAX_WORDS}`);
  }
  const parts = words.map((word: unknown) => {
    if (typeof word === "string") return Buffer.from(word);
    const fields = typeof word === "object" && word !== null ? { ...word } : { word };
    const part = bytesOfField(fields, "word");
    if (part === undefined) throw invalid("A word is a text, or an object with word_base64");
    return part;
  });
  const bytes = await client.askForBytes(parts);
  await turns.enter(signal);
  if (!place.grow(bytes.length)) throw busy();
  const items = respItems(bytes);
  const reply = items === null ? readRespReply(bytes) : null;
  if (reply instanceof RespError && reply.code === "NOAUTH") valueOf(reply);
  const field =
    items === null
      ? replyField(reply)
      : { items: new LazyList(Iterator.from(items).map(replyField)) };
  const { response, cut } = answerJson({ reply: field }, turns, () => {
    releaseLargeOf(bytes);
    place.leave();
  });
  place.waitsForClient(cut);
  return response;
}

/** Most words of a command. */
const MAX_WORDS = 1_000;

function replyField(reply: RespReply): unknown {
  if (reply === null) return null;
  if (typeof reply === "string") return { status: reply };
  if (typeof reply === "bigint") return { integer: String(reply) };
  if (reply instanceof Uint8Array) return bytesField("value", reply);
  if (reply instanceof RespError) {
    return { error: { code: reply.code, message: reply.message } };
  }
  return { items: reply.map(replyField) };
}

async function checkInfo(client: InnerClient): Promise<void> {
  const reply = await client.ask(["INFO", "server"]);
  if (!(reply instanceof RespError)) return;
  if (reply.code !== "NOPERM") valueOf(reply);
  throw new ApiError(403, "not_permitted", "This is for users who may say INFO");
}
