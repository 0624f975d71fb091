import test from "node:test";
import assert from "node:assert/strict";
import { address, asFilter, change, chipsOf, hasFilters, languageName, rangeWords, readQuery, same } from "../../static/js/pages/datasets/query.js";
import { addressesIn, healthLook, nameFrom, patternProblem, pieces, share, tagsOf, versionLine } from "../../static/js/pages/datasets/words.js";
import { EDITS, isReady, optionsOf } from "../../static/js/pages/datasets/edits.js";
import { CHUNK, filesOf, fingerprint, send, uploadList } from "../../static/js/pages/datasets/uploads.js";

// ---------------------------------------------------------------- the address

test("the address and the state say the same, both ways", () => {
  const at = { dataset: "dataset_1", tab: "captions", sort: "largest", filter: { q: 'a "red dress"', faces: "2+", "range.sharpness": "10..<60" }, own: { op: "replace" } };
  const read = readQuery(address(at).split("?")[1]);
  assert.equal(read.dataset, "dataset_1");
  assert.equal(read.tab, "captions");
  assert.equal(read.sort, "largest");
  assert.deepEqual(read.filter, at.filter);
  assert.equal(read.own.op, "replace");
});
test("languages, masks and likeness read as words", () => {
  assert.equal(languageName("de"), "German");
  assert.equal(languageName("unclear"), "cannot be told");
  const chips = chipsOf({ language: "ja", has: "mask", "range.faceMatch": "..<0.363" });
  assert.deepEqual(chips.map((c) => `${c.label} ${c.value}`.trim()), ["Language Japanese", "Has a mask", "Likeness of the face up to 0.36"]);
});
test("addresses stand in lines or with spaces between, each once", () =>
  assert.deepEqual(addressesIn(" https://a/1.png\nhttps://a/2.png  https://a/1.png\n\n"), ["https://a/1.png", "https://a/2.png"]));
test("what is not known in the address is left out", () =>
  assert.deepEqual(readQuery("?dataset=d&evil=1&tab=nope&sort=nope&range.9x=1..2&q="), { dataset: "d", tab: "images", sort: "name", filter: {}, own: { dataset: "d", tab: "nope", sort: "nope" } }));
test("a filter of the statistics becomes text, null and unknown names do not", () => {
  assert.deepEqual(asFilter({ excluded: false, bucket: "512x768", resolution: 512, step: 64, tag: null, what: 1 }), { excluded: "false", bucket: "512x768", resolution: "512", step: "64" });
  assert.deepEqual(asFilter("?captioned=false&utm=1"), { captioned: "false" });
  assert.deepEqual(asFilter(null), {});
});
test("taking the bucket away takes away what it was counted with", () =>
  assert.deepEqual(change({ bucket: "512x512", resolution: "512", step: "64", q: "a" }, { bucket: "" }), { q: "a" }));
test("a place and the numbers of a bucket are no filters of their own", () => {
  assert.equal(hasFilters({ trashed: "true" }), false);
  assert.equal(hasFilters({ trashed: "true", tag: "dress" }), true);
});
test("chips say in words what is narrowed", () => {
  const said = chipsOf({ captioned: "false", faces: "2+", "range.sharpness": "..<60", folder: ".", missing: "faces", has: "duplicateGroup", trashed: "true", resolution: "512" }).map((c) => `${c.label}: ${c.value}`);
  assert.deepEqual(said, [": Without caption", "Folder: top", ": Several faces", ": Has a double", ": Not analyzed", "Sharpness: up to 60"]);
});
test("ranges read well with either end open", () => {
  assert.equal(rangeWords("3..5"), "3 to 5");
  assert.equal(rangeWords("..<60"), "up to 60");
  assert.equal(rangeWords("2.."), "from 2");
  assert.equal(rangeWords("0.333333..0.333333"), "0.33");
});
test("two filters are the same whatever their order", () => {
  assert.ok(same({ q: "a", tag: "b" }, { tag: "b", q: "a" }));
  assert.ok(!same({ q: "a" }, { q: "a", tag: "b" }));
});

// ---------------------------------------------------------------- words

test("a new set is named after the archive or the one folder", () => {
  assert.equal(nameFrom(["luna_shoot-2.zip"]), "luna shoot 2");
  assert.equal(nameFrom(["10_luna woman/a.png", "10_luna woman/a.txt"]), "luna woman");
  assert.equal(nameFrom(["a.png", "b.png"]), "");
});
test("what changed in a caption is shown by whole words, and puts both texts together again", () => {
  const parts = pieces("luna, red dress, smiling", "luna, blue dress, smiling");
  assert.deepEqual(parts, [{ text: "luna, ", kind: "same" }, { text: "red", kind: "gone" }, { text: "blue", kind: "new" }, { text: " dress, smiling", kind: "same" }]);
  for (const [a, b] of [["", "x"], ["x", ""], ["aa", "aaa"], ["a cat", "a car"], ["same", "same"], ["a, a, b", "a, b"]]) {
    const p = pieces(a, b);
    assert.equal(p.filter((x) => x.kind !== "new").map((x) => x.text).join(""), a);
    assert.equal(p.filter((x) => x.kind !== "gone").map((x) => x.text).join(""), b);
  }
});
test("a pattern that is none is told before anything is asked", () => {
  assert.equal(patternProblem("(a", false), "");
  assert.equal(patternProblem("\\bred\\b", true), "");
  assert.notEqual(patternProblem("(a", true), "");
});
test("health has a word for every score, none included", () => {
  assert.deepEqual([null, 30, 60, 90].map((s) => healthLook(s).word), ["Not rated", "Poor", "Needs work", "Good"]);
});
test("small things: tags, shares, versions", () => {
  assert.deepEqual(tagsOf(" a, b ,,c"), ["a", "b", "c"]);
  assert.equal(share(0, 10), 0);
  assert.equal(share(1, 10000), 1.5);
  assert.equal(versionLine({ added: 2, recaptioned: 1, number: 3 }), "2 added, 1 caption changed");
  assert.equal(versionLine({ number: 1 }), "The first version");
});

// ---------------------------------------------------------------- edits

test("an edit sends what was filled in; an empty replacement is sent, too", () => {
  assert.deepEqual(optionsOf("replace", { find: "a", replacement: null, mode: "tag", caseSensitive: false, word: "x" }), { find: "a", replacement: "", mode: "tag" });
  assert.deepEqual(optionsOf("add_tag", { tags: ["a"], position: "start" }), { tags: ["a"], position: "start" });
});
test("nothing is asked of the server before there is something to look for", () => {
  assert.equal(isReady("replace", { replacement: "" }), false);
  assert.equal(isReady("replace", { find: "a" }), true);
  assert.equal(isReady("add_tag", { tags: [] }), false);
  assert.equal(isReady("tidy", {}), true);
  for (const [name, edit] of Object.entries(EDITS)) assert.ok(!edit.needs || edit.fields.some((f) => f.name === edit.needs), name);
});

// ---------------------------------------------------------------- uploads

/** A server for uploads as the app has it; `breaks` says which PUT loses its connection after half of its bytes. */
function server({ breaks = [] } = {}) {
  const held = new Map();
  let puts = 0;
  const answer = (status, body) => new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
  globalThis.fetch = async (url, { method, body }) => {
    const at = new URL(url, "http://app");
    const id = at.pathname.split("/")[3];
    if (method === "POST") {
      const wish = JSON.parse(body), made = { id: `upload_${held.size + 1}`, ...wish, bytes: 0 };
      held.set(made.id, made);
      return answer(201, { ...made, offset: 0 });
    }
    const one = held.get(id);
    if (!one) return answer(404, { detail: "There is no such upload.", code: "not_found" });
    if (method === "PUT") {
      puts += 1;
      if (Number(at.searchParams.get("offset")) !== one.bytes) return answer(409, { detail: "Go on from there.", offset: one.bytes });
      if (breaks.includes(puts)) {
        one.bytes += Math.floor(body.size / 2);
        throw new TypeError("network");
      }
      one.bytes += body.size;
    }
    if (method === "DELETE") held.delete(id);
    return answer(200, { id, size: one.size, offset: one.bytes });
  };
  return { held, puts: () => puts };
}
const memory = new Map();
globalThis.localStorage = { getItem: (k) => memory.get(k) ?? null, setItem: (k, v) => memory.set(k, v), removeItem: (k) => memory.delete(k) };
const file = (name, size) => new File([new Uint8Array(size)], name, { lastModified: 5 });

test("a file goes up in pieces", async () => {
  const s = server();
  const big = file("set.zip", CHUNK * 2 + 10), seen = [];
  const id = await send(big, "set.zip", { onProgress: (f) => seen.push(f) });
  assert.equal(s.held.get(id).bytes, big.size);
  assert.equal(s.puts(), 3);
  assert.equal(seen.at(-1), 1);
});
test("a lost connection goes on with the byte that arrived last", async () => {
  const s = server({ breaks: [2] });
  const big = file("broken.zip", CHUNK * 2);
  const id = await send(big, "broken.zip");
  assert.equal(s.held.get(id).bytes, big.size);
});
test("the same file after a reload goes on where it was; one that is gone there begins anew", async () => {
  const s = server();
  const big = file("later.zip", CHUNK + 5);
  s.held.set("upload_9", { id: "upload_9", name: "later.zip", size: big.size, bytes: CHUNK });
  memory.set("dalla.draft.dataset-uploads", JSON.stringify({ [fingerprint(big, "later.zip")]: "upload_9" }));
  const resumed = [];
  assert.equal(await send(big, "later.zip", { onProgress: (_f, was) => resumed.push(was) }), "upload_9");
  assert.equal(s.puts(), 1);
  assert.ok(resumed[0]);
  s.held.clear();
  assert.notEqual(await send(big, "later.zip"), "upload_9");
});
test("a refused file does not hold up the others, and names are taken once", async () => {
  server();
  const real = globalThis.fetch;
  globalThis.fetch = (url, options) => (options.method === "POST" && options.body.includes("bad") ? Promise.resolve(new Response('{"detail":"No room."}', { status: 507, headers: { "Content-Type": "application/json" } })) : real(url, options));
  let changed = 0;
  const list = uploadList({ changed: () => { changed += 1; } });
  list.add([{ file: file("a.png", 3), name: "a.png" }, { file: file("bad.png", 3), name: "bad.png" }, { file: file("a.png", 3), name: "a.png" }]);
  while (list.busy) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(list.rows.map((r) => [r.name, r.state]), [["a.png", "sent"], ["bad.png", "failed"]]);
  assert.equal(list.done, false);
  list.drop(list.rows[1].key);
  assert.equal(list.done, true);
  assert.ok(changed > 2);
});
test("dropped folders are walked through; what systems leave behind is not sent", async () => {
  const entry = (name, children) => ({ name, isFile: !children, file: (ok) => ok(file(name, 1)), createReader: () => { let told = false; return { readEntries: (ok) => { ok(told ? [] : children); told = true; } }; } });
  const tree = entry("luna", [entry("a.png"), entry(".DS_Store"), entry("__MACOSX", [entry("a.png")]), entry("10_x", [entry("b.png"), entry("Thumbs.db")])]);
  const found = await filesOf({ items: [{ webkitGetAsEntry: () => tree }], files: [] });
  assert.deepEqual(found.map((f) => f.name), ["luna/a.png", "luna/10_x/b.png"]);
});
