/**
 * The console, a page for people: it is made of the API, with what any program may do by that. Its
 * files are part of the executable, and nothing is fetched from elsewhere.
 */
import preact from "htm/preact/standalone.module.js" with { type: "text" };
import page from "./console/index.html" with { type: "text" };
import style from "./console/console.css" with { type: "text" };
import main from "./console/console.js" with { type: "text" };
import keys from "./console/keys.js" with { type: "text" };
import overview from "./console/overview.js" with { type: "text" };
import server from "./console/server.js" with { type: "text" };
import terminal from "./console/terminal.js" with { type: "text" };
import tree from "./console/tree.js" with { type: "text" };
import use from "./console/use.js" with { type: "text" };

const SCRIPT = "text/javascript; charset=utf-8";

const FILES = new Map<string, readonly [type: string, content: unknown]>([
  ["/", ["text/html; charset=utf-8", page]],
  ["/console/console.css", ["text/css; charset=utf-8", style]],
  ["/console/console.js", [SCRIPT, main]],
  ["/console/keys.js", [SCRIPT, keys]],
  ["/console/overview.js", [SCRIPT, overview]],
  ["/console/preact.js", [SCRIPT, preact]],
  ["/console/server.js", [SCRIPT, server]],
  ["/console/terminal.js", [SCRIPT, terminal]],
  ["/console/tree.js", [SCRIPT, tree]],
  ["/console/use.js", [SCRIPT, use]],
]);

/** The page runs its own scripts and no others, and no other page may hold it in a frame. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** A file of the console; null when there is none of that path. */
export function consoleFile(pathname: string): Response | null {
  const file = FILES.get(pathname);
  if (file === undefined) return null;
  const [type, content] = file;
  return new Response(content as string, {
    headers: { "content-type": type, "content-security-policy": POLICY },
  });
}
