// @ts-check
/** Requests as command lines: what a page sends, for a shell. `curl` is pure; `copyCurl` knows this app and copies. */
import { withQuery } from "./api.js";
import { copyText } from "./components/states.js";

/**
 * @typedef {object} Call
 * @property {string} [method] GET
 * @property {string} path
 * @property {Record<string, any>} [query]
 * @property {any} [body] sent as JSON
 * @property {Record<string, string|string[]>} [form] sent as multipart; "@name" is a file
 * @property {string} [file] sent as it is, e.g. "part.bin"
 * @property {Record<string, string>} [headers]
 */

/** One word of the shell, whatever is in it. @param {unknown} text */
export const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

/**
 * A command that a POSIX shell understands, over several lines.
 * @param {Call} call @param {{origin: string, token?: boolean}} where `token`: accounts exist, so a token is needed ($DALLA_TOKEN)
 */
export function curl({ method = "GET", path, query, body, form, file, headers = {} }, { origin, token = false }) {
  const sent = body !== undefined || form !== undefined || file !== undefined;
  const verb = method === "GET" || (method === "POST" && sent) ? "" : `-X ${method} `;
  const parts = [`curl ${verb}${quote(origin + withQuery(path, query))}`];
  if (token) parts.push(`-H "Authorization: Bearer $DALLA_TOKEN"`);
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quote(`${name}: ${value}`)}`);
  if (body !== undefined) parts.push("-H 'Content-Type: application/json'", `-d ${quote(JSON.stringify(body))}`);
  for (const [name, value] of Object.entries(form ?? {}))
    for (const one of Array.isArray(value) ? value : [value]) parts.push(`-F ${quote(`${name}=${one}`)}`);
  if (file !== undefined) parts.push("-H 'Content-Type: application/octet-stream'", `--data-binary ${quote(`@${file}`)}`);
  return parts.join(" \\\n  ");
}

/** Where this app is, and whether it asks for a token. */
export async function here() {
  const { session } = await import("./session.js"); // opens a channel, which pure callers have no use for
  const me = await session.me().catch(() => null);
  return { origin: location.origin, token: me?.mode === "accounts" };
}

/** Copy the command for a request. @param {Call} call */
export async function copyCurl(call) {
  await copyText(curl(call, await here()), "Command copied");
}
