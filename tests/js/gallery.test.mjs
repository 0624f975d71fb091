import test from "node:test";
import assert from "node:assert/strict";
import {
  address,
  change,
  chipsOf,
  differences,
  factsOf,
  filterOf,
  hasFilters,
  readQuery,
  stem,
} from "../../static/js/pages/gallery/query.js";
import { crc32, zipParts } from "../../static/js/pages/gallery/zip.js";

test("the address and the state say the same, both ways", () => {
  const state = { q: 'a "red dress" -hat', model: "x.safetensors", starred: "true", trashed: "true", sort: "oldest" };
  assert.deepEqual(readQuery(address(state).split("?")[1]), state);
});
test("unknown, empty and meaningless parameters are left out", () =>
  assert.deepEqual(readQuery("?media=m1&q=&sort=newest&trashed=0&starred=1&evil=2"), { starred: "true" }));
test("starred=false is a filter of its own", () => assert.deepEqual(readQuery("?starred=false"), { starred: "false" }));
test("a change with an empty value takes the name away and leaves the old state alone", () => {
  const before = { q: "a", model: "m" };
  assert.deepEqual(change(before, { q: "", lora: "l" }), { model: "m", lora: "l" });
  assert.deepEqual(before, { q: "a", model: "m" });
});
test("the order is not a filter, the trash is one for the server but not for 'clear'", () => {
  assert.deepEqual(filterOf({ sort: "oldest", trashed: "true", q: "a" }), { trashed: "true", q: "a" });
  assert.equal(hasFilters({ sort: "oldest", trashed: "true" }), false);
});
test("chips carry names for people and fall back to the id", () => {
  const chips = chipsOf(
    { characterId: "char_1", collectionId: "coll_9", model: "folder/x.safetensors", starred: "false" },
    { character: (id) => (id === "char_1" ? "Luna" : undefined) },
  );
  assert.deepEqual(
    chips.map((c) => c.value),
    ["coll_9", "Luna", "x", "Not starred"],
  );
});
test("a model is called by its file name without ending", () => assert.equal(stem("sub\\dir/my.model.safetensors"), "my.model"));
test("facts leave out what is not known; a seed of 0 is one", () => {
  const facts = factsOf({ prompt: "a", width: 10, height: 20, recipe: { seed: 0, loras: [{ name: "l.safetensors", strength: 0.5 }] } });
  assert.equal(facts.get("Seed"), "0");
  assert.equal(facts.get("LoRAs"), "l × 0.5");
  assert.equal(facts.has("Steps"), false);
});
test("differences lists only what differs", () => {
  const { rows, same } = differences({ prompt: "a", recipe: { seed: 1, steps: 20 } }, { prompt: "a", recipe: { seed: 2 } });
  assert.deepEqual(rows, [
    { label: "Seed", a: "1", b: "2" },
    { label: "Steps", a: "20", b: "–" },
  ]);
  assert.equal(same, 1);
});
test("crc32 gives the published check value", () => assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926));
test("a zip has every name and its directory at the end", async () => {
  const blob = new Blob(
    zipParts([
      { name: "ä.png", data: new Uint8Array([1, 2, 3]) },
      { name: "b.png", data: new Uint8Array(0) },
    ]),
  );
  const bytes = Buffer.from(await blob.arrayBuffer());
  const end = bytes.length - 22;
  assert.equal(bytes.readUInt32LE(end), 0x06054b50);
  assert.equal(bytes.readUInt16LE(end + 10), 2);
  assert.equal(bytes.readUInt32LE(bytes.readUInt32LE(end + 16)), 0x02014b50);
  assert.equal(bytes.readUInt32LE(0), 0x04034b50);
  assert.ok(bytes.includes("ä.png") && bytes.includes("b.png"));
});
