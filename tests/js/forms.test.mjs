import test from "node:test";
import assert from "node:assert/strict";
import { changed, getPath, parseValue, same, setPath } from "../../static/js/forms.js";

test("dotted names go deeper", () => {
  const out = {};
  setPath(out, "promptSettings.mood", "calm");
  setPath(out, "promptSettings.style", "film");
  setPath(out, "name", "Luna");
  assert.deepEqual(out, { promptSettings: { mood: "calm", style: "film" }, name: "Luna" });
  assert.equal(getPath(out, "promptSettings.mood"), "calm");
  assert.equal(getPath(out, "a.b.c"), undefined);
});
test("a name cannot reach a prototype", () => {
  assert.throws(() => setPath({}, "__proto__.polluted", 1), TypeError);
  assert.throws(() => setPath({}, "constructor.prototype.x", 1), TypeError);
  assert.equal({}.polluted, undefined);
});
test("what a control's text means", () => {
  assert.equal(parseValue({ type: "text", value: "  " }), null);
  assert.equal(parseValue({ type: "textarea", value: "a\r\nb" }), "a\nb");
  assert.equal(parseValue({ type: "number", value: "1.5" }), 1.5);
  assert.equal(parseValue({ type: "number", value: "" }), null);
  assert.equal(parseValue({ type: "text", value: "abc", dataType: "number" }), "abc", "left for the server to refuse");
  assert.equal(parseValue({ type: "checkbox", value: "on", checked: false }), false);
  assert.equal(parseValue({ type: "select-one", value: "true", dataType: "boolean" }), true);
  assert.deepEqual(parseValue({ type: "text", value: "a, b,,", dataType: "list" }), ["a", "b"]);
});
test("nothing is nothing, whatever it looks like", () => {
  assert.ok(same(null, ""));
  assert.ok(same({ a: null, b: [] }, undefined));
  assert.ok(!same(0, null));
  assert.ok(!same(false, null));
  assert.ok(same([{ name: "x", strength: 1 }], [{ name: "x", strength: 1, extra: null }]));
  assert.ok(!same(["a", "b"], ["b", "a"]));
});
test("changed() says only what differs", () => {
  const before = { name: "Luna", mood: null, promptSettings: { style: "film", mood: "calm" }, loras: [{ name: "a", strength: 1 }] };
  assert.deepEqual(
    changed(before, { name: "Luna", mood: "", promptSettings: { style: "film", mood: "wild" }, loras: [{ name: "a", strength: 0.8 }] }),
    { promptSettings: { mood: "wild" }, loras: [{ name: "a", strength: 0.8 }] },
  );
  assert.deepEqual(changed(before, { ...before, name: null }), { name: null });
});
