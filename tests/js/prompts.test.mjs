import test from "node:test";
import assert from "node:assert/strict";
import { expand, goodName, hasChoices, optionsOf, used } from "../../static/js/pages/prompts/expand.js";
import { summary, toBody } from "../../static/js/pages/prompts/wish.js";
import { studioHref, usesOf } from "../../static/js/pages/prompts/facts.js";
import { piece } from "../../static/js/pages/prompts/piece.js";

const first = () => 0;
const last = () => 0.999999;

test("braces choose, nest and may be empty", () => {
  assert.equal(expand("a {red|green} dress", {}, first).text, "a red dress");
  assert.equal(expand("a {red|green} dress", {}, last).text, "a green dress");
  assert.equal(expand("{a|b {c|d}}", {}, last).text, "b d");
  assert.equal(expand("lake, {|misty}, dawn", {}, first).text, "lake, dawn");
  assert.equal(expand("{only}", {}, first).text, "{only}");
  assert.equal(expand("\\{a|b\\} {c|d}", {}, first).text, "{a|b} c");
  assert.equal(expand("open { brace", {}, first).text, "open { brace");
});

test("weights move the odds", () => {
  const at = (value) => expand("{3::often|rarely}", {}, () => value).text;
  assert.deepEqual([at(0), at(0.74), at(0.76), at(0.99)], ["often", "often", "rarely", "rarely"]);
  assert.equal(expand("{0::a|0::b}", {}, first).text, "a");
});

test("wildcards are lines of lists, which may hold more of them", () => {
  const lists = { outfit: ["red dress", "__coat__"], coat: ["{long|short} coat"] };
  assert.deepEqual(expand("in a __outfit__", lists, last), { text: "in a short coat", missing: [] });
  assert.deepEqual(expand("__place__, __place__", lists, first), { text: "__place__, __place__", missing: ["place"] });
  assert.deepEqual(used("__a__ and __b-c__ and __a__"), ["a", "b-c"]);
  assert.equal(expand("__loop__", { loop: ["__loop__"] }, first).text, "__loop__"); // ends all the same
});

test("files of options", () => {
  assert.deepEqual(optionsOf("# comment\n red \r\n\nblue\n"), ["red", "blue"]);
  assert.ok(goodName("outfit_2") && goodName("a"));
  for (const name of ["", "a b", "_a", "a__b", "../x", "a".repeat(65)]) assert.ok(!goodName(name), name);
  assert.ok(hasChoices("{a|b}") && hasChoices("__x__"));
  assert.ok(!hasChoices("{a} b|c"));
});

test("how a caption is wished for", () => {
  assert.deepEqual(toBody({ language: " Deutsch ", tone: "playful", length: "short", platform: "", engine: "" }), {
    language: "Deutsch",
    tone: "playful; short, a single sentence",
  });
  assert.deepEqual(toBody({}), {});
  assert.equal(
    summary({ language: "Deutsch", tone: "playful", length: "short", platform: "twitter" }),
    "Deutsch, playful, one sentence, for X",
  );
  assert.equal(summary({}), "");
});

test("where a prompt was used, newest first", () => {
  const uses = usesOf({
    usedIn: [
      { type: "media", id: "m 1", at: "2026-01-01" },
      { type: "run", id: "r", at: "2026-01-03" },
      { type: "post", id: "p", at: "2026-01-02", href: "/x" },
    ],
  });
  assert.deepEqual(
    uses.map((u) => u.label),
    ["Run", "Post", "Picture"],
  );
  assert.equal(uses[1].href, "/x");
  assert.equal(uses[2].href, "/gallery.html?media=m%201");
  assert.deepEqual(usesOf({}), []);
  assert.equal(studioHref({ characterId: "c", prompt: "a & b" }), "/studio.html?character=c&prompt=a+%26+b");
});

test("newest first means reading a list from its end", () => {
  assert.deepEqual(piece("newest", 120, 0), { offset: 70, limit: 50 });
  assert.deepEqual(piece("newest", 120, 50), { offset: 20, limit: 50 });
  assert.deepEqual(piece("newest", 120, 100), { offset: 0, limit: 20 });
  assert.deepEqual(piece("newest", 120, 120), { offset: 0, limit: 0 });
  assert.deepEqual(piece("oldest", 120, 100), { offset: 100, limit: 20 });
  assert.deepEqual(piece("newest", 3, 0, 80), { offset: 0, limit: 3 });
});
