// Command lines for what a page sends, read back by a real shell.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { curl, quote } from "../../static/js/curl.js";

const words = (command) =>
  execFileSync("sh", ["-c", `curl() { for word in "$@"; do printf '%s\\0' "$word"; done; }; ${command}`], { env: { DALLA_TOKEN: "dd_x" } })
    .toString()
    .split("\0")
    .slice(0, -1);
const where = { origin: "http://127.0.0.1:5050" };

const noShell = { skip: process.platform === "win32" && "no POSIX shell" };

test("a shell reads what was meant, whatever is in it", noShell, () => {
  const nasty = `it's "so" $HOME \`id\` \\ é\n; rm -rf /`;
  assert.deepEqual(words(`curl ${quote(nasty)}`), [nasty]);
  const body = { prompt: nasty, n: [1, null, true] };
  const sent = words(curl({ method: "POST", path: "/api/generate-image", query: { async: 1 }, body }, where));
  assert.deepEqual(sent.slice(0, 3), ["http://127.0.0.1:5050/api/generate-image?async=1", "-H", "Content-Type: application/json"]);
  assert.deepEqual(JSON.parse(sent.at(-1)), body);
});

test("methods, tokens, forms and files", noShell, () => {
  assert.deepEqual(words(curl({ path: "/api/media", query: { q: "a b&c" } }, where)), ["http://127.0.0.1:5050/api/media?q=a+b%26c"]);
  assert.deepEqual(words(curl({ method: "DELETE", path: "/api/x" }, { ...where, token: true })), ["-X", "DELETE", "http://127.0.0.1:5050/api/x", "-H", "Authorization: Bearer dd_x"]);
  assert.deepEqual(words(curl({ method: "POST", path: "/api/media", form: { file: ["@a.png", "@b.png"], characterId: "char_1" } }, where)).slice(1), ["-F", "file=@a.png", "-F", "file=@b.png", "-F", "characterId=char_1"]);
  assert.deepEqual(words(curl({ method: "PUT", path: "/api/uploads/1", file: "part.bin" }, where)).slice(-2), ["--data-binary", "@part.bin"]);
  assert.deepEqual(words(curl({ method: "POST", path: "/api/posts/1/approve" }, where)).slice(0, 2), ["-X", "POST"]);
});
