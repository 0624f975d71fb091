/** The rules of the Models page: what fits a filter, the order, what is said about a row, what a file must begin with. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as w from "../../static/js/pages/models/words.js";
import { adviceKey, adviceLines } from "../../static/js/pages/studio/advice.js";

const row = (more) => ({ id: "1", kind: "model", kindLabel: "Model", name: "a.safetensors", label: "a", family: "sd15", familyLabel: "Stable Diffusion 1.5", source: "local", sizeBytes: 10, usedBy: [], pinnedBy: [], default: false, loadable: true, duplicates: [], modifiedAt: "2026-01-01", lastUsedAt: null, ...more });
const rows = [
  row({ name: "big.safetensors", label: "big", sizeBytes: 900, usedBy: [{ type: "character", id: "c", name: "Luna" }], lastUsedAt: "2026-02-01" }),
  row({ name: "small.safetensors", label: "small", sizeBytes: 5, notes: "nice skin", sha256: "ab12" }),
  row({ name: "old.ckpt", label: "old.ckpt", family: null, familyLabel: null, loadable: false, reason: "Not loaded: a pickle" }),
  row({ name: "l", label: "l", kind: "lora", kindLabel: "LoRA", family: "sdxl", familyLabel: "Stable Diffusion XL", duplicates: ["9"], source: "comfyui", sizeBytes: null }),
];
const names = (list) => list.map((r) => r.label).join(" ");

test("filters leave what fits all of them", () => {
  assert.equal(names(w.filterRows(rows, {})), "big small old.ckpt l");
  assert.equal(names(w.filterRows(rows, { kind: "lora" })), "l");
  assert.equal(names(w.filterRows(rows, { family: "none" })), "old.ckpt");
  assert.equal(names(w.filterRows(rows, { source: "comfyui" })), "l");
  assert.equal(names(w.filterRows(rows, { show: "used" })), "big");
  assert.equal(names(w.filterRows(rows, { show: "unused", kind: "model" })), "small old.ckpt");
  assert.equal(names(w.filterRows(rows, { show: "problems" })), "old.ckpt l");
  assert.equal(names(w.filterRows(rows, { q: "SKIN ab1" })), "small");
  assert.equal(names(w.filterRows(rows, { q: "luna" })), "big");
});

test("the order is by size, last use or name, and what has no value comes last", () => {
  assert.equal(names(w.sortRows(rows, "size", "desc")), "big old.ckpt small l");
  assert.equal(names(w.sortRows(rows, "name", "asc")), "big l old.ckpt small");
  assert.equal(names(w.sortRows(rows, "used", "desc"))[0], "b");
  assert.equal(names(rows), "big small old.ckpt l", "the list itself stays");
});

test("families are offered once, those without one last", () => {
  assert.deepEqual(w.familiesOf(rows), [["sd15", "Stable Diffusion 1.5"], ["sdxl", "Stable Diffusion XL"], ["none", "No family"]]);
});

test("what is wrong, who uses it and where it lies is said in words", () => {
  assert.equal(w.problemOf(rows[2]), "Not loaded: a pickle");
  assert.equal(w.problemOf(rows[3]), "The same file is here 2 times.");
  assert.equal(w.problemOf(rows[0]), "");
  assert.equal(w.usedText(row({ usedBy: [{ type: "character", name: "A" }, { type: "character", name: "B" }, { type: "task", name: "x" }], default: true })), "A, B, 1 task and the default");
  assert.equal(w.whereText(row({ name: "vae/ae.safetensors", label: "ae.safetensors" })), "vae/");
  assert.equal(w.whereText(row({})), "");
  assert.equal(w.whereText(row({ name: "starter", label: "Starter (cartoon avatars)" })), "starter");
  assert.equal(w.fitText({ fits: "yes", needBytes: 2 ** 31, haveBytes: 2 ** 33, width: 512, height: 512, basis: "measured" }), "2 GB of 8 GB at 512 × 512, measured");
  assert.match(w.fitText({ fits: "unknown", needBytes: null }), /not known/);
  assert.equal(w.fitLook({ fits: "no" })[2], "Too large");
  assert.equal(w.fitLook(null)[2], "Not known");
});

test("a removal tells whom it touches", () => {
  const item = { name: "l", kind: "lora", usedBy: [{ type: "character", name: "Luna" }, { type: "run", name: "r" }], warnings: ["W."] };
  assert.deepEqual(w.consequences([item]), ["it is taken off Luna.", "W."]);
  assert.deepEqual(w.consequences([item, { name: "m", kind: "model", usedBy: [], warnings: [] }]), ["l: it is taken off Luna.", "l: W."]);
});

test("only what begins like .safetensors is sent", () => {
  const start = (length, first) => {
    const view = new DataView(new ArrayBuffer(9));
    view.setBigUint64(0, length, true);
    view.setUint8(8, first);
    return view.buffer;
  };
  assert.equal(w.headerProblem(start(100n, 0x7b), 1000), "");
  assert.notEqual(w.headerProblem(start(100n, 0x7b), 50), "", "the header would be longer than the file");
  assert.notEqual(w.headerProblem(start(100n, 0x3c), 1000), "");
  assert.notEqual(w.headerProblem(new TextEncoder().encode("<html><b>").buffer, 1000), "");
  assert.notEqual(w.headerProblem(new ArrayBuffer(3), 3), "");
});

test("the studio says only what matters before drawing", () => {
  assert.deepEqual(adviceLines({ fits: "yes" }, []), []);
  assert.deepEqual(adviceLines(null, ["W."]), ["W."]);
  assert.match(adviceLines({ fits: "tight", needBytes: 2 ** 30, haveBytes: 2 ** 31, advice: ["Close other programs."] }, [])[0], /1 GB of 2 GB. Close other/);
  assert.match(adviceLines({ fits: "no", needBytes: 2 ** 31, haveBytes: 2 ** 30, advice: [] }, [])[0], /needs about 2 GB of memory; there are 1 GB\.$/);
  const s = { form: { characterId: "c" }, character: { updatedAt: "1" }, found: { model: { engine: "builtin", name: "m" } }, v: { width: 1, height: 2 } };
  assert.notEqual(adviceKey(s), adviceKey({ ...s, v: { width: 2, height: 2 } }));
  assert.equal(adviceKey(s), adviceKey({ ...s, form: { characterId: "c", prompt: "typed" } }), "typing asks nobody");
});
