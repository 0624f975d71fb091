import test from "node:test";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as t from "../../static/js/text-limits.js";

const table = JSON.parse(readFileSync(new URL("../data/text_lengths.json", import.meta.url), "utf8"));

test("weights: the table the server is held to as well", () => {
  for (const [text, wanted] of table) assert.equal(t.weightedLength(text), wanted, JSON.stringify(text));
});
test("140 emoji fit, 141 do not", () => {
  const rules = { maxLength: 280, count: "weighted" };
  assert.deepEqual(t.measure("👾".repeat(140), rules, "X").problems, []);
  assert.deepEqual(t.measure("👾".repeat(141), rules, "X").problems, [
    {
      level: "error",
      code: "caption_too_long",
      message: "X takes 280 weighted characters; this text has 282.",
      remedy: "Shorten it by 2.",
    },
  ]);
});
test("characters are code points, line ends count once", () => {
  assert.equal(t.textLength("a\r\n👍🏽é", { count: "characters" }), 5);
  assert.equal(t.textLength(null, { count: "characters" }), 0);
});
test("hashtags, mentions and links are counted apart", () => {
  const m = t.measure("#one #zwei＃drei #日本 #2026 a#b &#x @luna @kai.x me@mail.de https://e.com/#no/@x", {
    maxLength: 2200,
    count: "characters",
  });
  assert.deepEqual([m.hashtags, m.mentions, m.links, m.unit], [4, 2, 1, "characters"]);
});
test("what is too much is said", () => {
  const rules = { maxLength: 9, count: "characters", maxHashtags: 3, warnHashtags: 1, maxMentions: 1, captionOptional: false };
  const codes = (text) => t.measure(text, rules, "Instagram").problems.map((p) => `${p.level} ${p.code}`);
  assert.deepEqual(codes("#a #b"), ["warning many_hashtags"]);
  assert.deepEqual(codes("#a#b#c#d"), ["error too_many_hashtags"]);
  assert.deepEqual(codes("@aa @bb"), ["error too_many_mentions"]);
  assert.deepEqual(codes(" "), ["error caption_empty"]);
  assert.deepEqual(codes("0123456789"), ["error caption_too_long"]);
  const x = { maxLength: 280, count: "weighted", warnLinks: "Links cost." };
  assert.deepEqual(t.measure("a.com\ufeff", x, "X").problems.map((p) => p.code), ["links", "forbidden_characters"]);
});
test("positions are those of the string, beyond the basic plane too", () => {
  const text = "👍 example.com #tag👍";
  for (const part of [...t.findLinks(text), ...t.findHashtags(text)]) assert.equal(text.slice(part.start, part.end), part.text);
  assert.deepEqual(t.findLinks(text).map((l) => l.text), ["example.com"]);
});
