import test from "node:test";
import assert from "node:assert/strict";
import * as f from "../../static/js/format.js";

const table = (name, fn, rows) =>
  test(name, () => {
    for (const [input, wanted] of rows)
      assert.equal(fn(...(Array.isArray(input) ? input : [input])), wanted, `${name}(${JSON.stringify(input)})`);
  });

table("bytes", f.bytes, [
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1 KB"],
  [1536, "1.5 KB"],
  [1048575, "1 MB"],
  [5 * 1024 ** 3, "5 GB"],
  [150 * 1024, "150 KB"],
  [null, "–"],
  [-2048, "-2 KB"],
]);
table("duration", f.duration, [
  [0, "0 s"],
  [0.85, "850 ms"],
  [59.4, "59 s"],
  [59.6, "1 min 00 s"],
  [123, "2 min 03 s"],
  [3900, "1 h 05 min"],
  [90000, "1 d 1 h"],
  [null, "–"],
  [-1, "–"],
  [NaN, "–"],
]);
table("eta", f.eta, [
  [null, ""],
  [3, "a few seconds left"],
  [12, "about 15 s left"],
  [61, "about 1 min left"],
  [150, "about 3 min left"],
  [3600, "about 1 h 00 min left"],
  [5400, "about 1 h 30 min left"],
]);
table("percent", f.percent, [
  [0, "0 %"],
  [0.424, "42 %"],
  [0.999, "99 %"],
  [1, "100 %"],
  [null, "–"],
]);
table("words", f.words, [
  ["generate_and_post", "Generate and post"],
  ["promptSettings", "Prompt settings"],
  ["generation.run", "Generation run"],
  [null, ""],
]);
table("initials", f.initials, [
  ["Luna Reyes", "LR"],
  ["kai", "K"],
  ["", "?"],
  ["  a  b  c ", "AB"],
  ["😀 x", "😀X"],
]);
table("plural", f.plural, [
  [[1, "picture"], "1 picture"],
  [[0, "picture"], "0 pictures"],
  [[3, "entry", "entries"], "3 entries"],
]);
table("middle", f.middle, [
  [["short", 10], "short"],
  [["abcdefghij", 5], "ab…ij"],
]);

test("ago in both directions", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  const cases = [
    ["2026-11-21T11:59:30Z", "just now"],
    ["2026-11-21T11:57:00Z", "3 minutes ago"],
    ["2026-11-21T14:00:00Z", "in 2 hours"],
    ["2026-11-20T12:00:00Z", "yesterday"],
    ["2026-10-21T12:00:00Z", "last month"],
    ["nonsense", "–"],
    [null, "–"],
  ];
  for (const [when, wanted] of cases) assert.equal(f.ago(when, now), wanted, String(when));
});
test("a plain date is not moved by the zone", () => assert.equal(f.date("2026-06-01"), "1 Jun 2026"));
test("a time in a named zone", () => assert.equal(f.dateTime("2026-11-21T23:30:00Z", "Europe/Berlin"), "22 Nov 2026, 00:30"));
test("how far a task is: things by number, bytes by size", () => {
  assert.equal(f.ofTotal(12, 40), "12 / 40");
  assert.equal(f.ofTotal(0, 99_999), "0 / 99,999");
  assert.equal(f.ofTotal(1_572_864, 3_145_728), "1.5 MB of 3 MB");
});
