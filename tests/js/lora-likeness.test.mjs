/** The line of likeness under the samples of a run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { faceWords, likenessLine, likenessRow, lineOf } from "../../static/js/pages/lora/likeness.js";

const rows = [
  { step: 20, pictures: 0.5, faces: null },
  { step: 0, pictures: -0.25, faces: null },
  { step: 40, pictures: null, faces: null },
];
const name = (step) => `Step ${step}`;

test("faces go before whole pictures, steps stand in order, gaps are left out", () => {
  assert.deepEqual(lineOf(rows), { kind: "pictures", points: [{ step: 0, value: -0.25 }, { step: 20, value: 0.5 }], among: null });
  const seen = [{ step: 60, pictures: 0.6, faces: 0.4 }, { step: 80, pictures: 0.6, faces: 0.5, training: { pictures: 0.5, faces: 0.7 } }];
  assert.equal(lineOf([...rows, seen[0]]).kind, "pictures"); // one point is no line
  assert.deepEqual(lineOf([...rows, ...seen]), { kind: "faces", points: [{ step: 60, value: 0.4 }, { step: 80, value: 0.5 }], among: 0.7 });
  assert.deepEqual(lineOf([]).points, []);
});

test("a face's number in words", () => {
  assert.deepEqual([0.7, 0.6, 0.5, 0.4, 0.1, -0.2].map(faceWords), ["clearly the person", "clearly the person", "likely the person", "a little like the person", "not the person", "not the person"]);
});

test("the line stays in its box, names the step that is looked at, and needs two steps", () => {
  const text = String(likenessLine(rows, 20, name));
  const points = text.match(/points="([^"]+)"/)[1].split(" ").map((p) => p.split(",").map(Number));
  assert.equal(points.length, 2);
  for (const [x, y] of points) assert.ok(x >= 0 && x <= 200 && y >= 0 && y <= 44);
  assert.ok(points[0][1] > points[1][1]); // higher is more alike
  assert.match(text, /0\.50/);
  assert.match(text, /−0\.25 step 0/);
  assert.match(String(likenessLine(rows, 40, name)), /not measured/);
  assert.equal(likenessLine(rows.slice(0, 1), 20, name), "");
});

test("the table of all steps has a row for it", () => {
  const text = String(likenessRow(rows, [0, 20, 40]));
  assert.deepEqual([...text.matchAll(/<td[^>]*>([^<]+)</g)].map((m) => m[1]), ["−0.25", "0.50", "–"]);
  assert.equal(likenessRow([], [0]), "");
});
