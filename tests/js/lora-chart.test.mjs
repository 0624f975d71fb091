/** The mathematics of the loss chart. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, pathOf, place, quantile, range, smooth, tableRows, ticks } from "../../static/js/components/loss-chart.js";

test("smoothing is unbiased, leaves gaps, and does nothing at 0", () => {
  assert.deepEqual(smooth([1, 3, 2], 0), [1, 3, 2]);
  assert.deepEqual(smooth([2, 2, 2], 0.9).map((v) => Number(v.toFixed(9))), [2, 2, 2]);
  const [a, gap, b] = smooth([1, Number.NaN, 3], 0.5);
  assert.equal(a, 1);
  assert.equal(gap, null);
  assert.ok(b > 1 && b < 3);
});

test("quantiles between values", () => {
  assert.equal(quantile([1, 2, 3, 4, 5], 0.5), 3);
  assert.equal(quantile([0, 10], 0.25), 2.5);
  assert.equal(quantile([], 0.5), null);
});

test("ticks are round and lie inside, on both scales", () => {
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(0.02, 0.3, 5, true), [0.02, 0.05, 0.1, 0.2]);
  assert.deepEqual(ticks(0.001, 10, 5, true), [0.001, 0.01, 0.1, 1, 10]);
  for (const t of ticks(0.083, 0.211, 5)) assert.ok(t >= 0.083 && t <= 0.2111);
  assert.deepEqual(ticks(3, 3), [3]);
});

test("a single peak does not squeeze the curve, unless it is wanted", () => {
  const values = Array.from({ length: 100 }, (_, i) => 0.1 + (i % 10) / 1000);
  values[50] = 9;
  assert.ok(range([values]).high < 0.2);
  assert.ok(range([values], { clip: false }).high > 9);
  assert.ok(range([values, [0.5]]).high > 0.5); // the other lines are always inside
  assert.equal(range([[], []]), null);
  const flat = range([[0.2, 0.2]]);
  assert.ok(flat.low < 0.2 && flat.high > 0.2);
  assert.ok(range([[0.1, 0, 1]], { log: true }).low > 0);
});

test("a value's place on the axis", () => {
  assert.equal(place(0.5, { low: 0, high: 1 }), 0.5);
  assert.equal(place(5, { low: 0, high: 1 }), 1);
  assert.ok(Math.abs(place(0.1, { low: 0.01, high: 1 }, true) - 0.5) < 1e-9);
});

test("a path is broken at gaps", () => {
  assert.equal(pathOf([{ x: 0, y: 1 }, { x: 1, y: null }, { x: 2, y: 3 }, { x: 3, y: 4 }]), "M0.0 1.0M2.0 3.0L3.0 4.0");
});

test("the table holds means over stretches and every held-out value once", () => {
  const points = Array.from({ length: 100 }, (_, i) => ({ step: i + 1, loss: i < 50 ? 2 : 1, lr: 0.1 }));
  const rows = tableRows({ points, validation: [{ step: 0, loss: 0.3 }, { step: 50, loss: 0.2 }, { step: 100, loss: 0.1 }] }, 4);
  assert.deepEqual(rows.map((r) => [r.from, r.to, r.loss]), [[1, 25, 2], [26, 50, 2], [51, 75, 1], [76, 100, 1]]);
  assert.deepEqual(rows.map((r) => r.held), [0.3, 0.2, null, 0.1]);
  assert.deepEqual(tableRows({ points: [] }), []);
});

test("the chart in a sentence", () => {
  const text = describe({ points: [{ step: 1, loss: 0.2 }, { step: 2, loss: 0.1 }], validation: [{ step: 0, loss: 0.2 }, { step: 2, loss: 0.14 }], base: 0.2 });
  assert.match(text, /up to step 2/);
  assert.match(text, /best 0\.1400 at step 2; without the LoRA 0\.2000/);
  assert.equal(describe({ points: [] }), "No step has been measured yet.");
});
