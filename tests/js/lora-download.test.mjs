/** Downloads of LoRAs: the menu, and the name a converted file is saved under. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { downloadMenu, FORMS, nameIn } from "../../static/js/pages/lora/download.js";

test("the menu offers the file as it is and both other forms", () => {
  const text = String(downloadMenu({ name: 'a"<b>', fileUrl: "/api/loras/a/file" }, 3));
  assert.match(text, /popovertarget="lo-get-3"/);
  assert.match(text, /href="\/api\/loras\/a\/file" download/);
  for (const { form, label } of FORMS) assert.ok(text.includes(`data-form="${form}"`) && text.includes(label), form);
  assert.ok(!text.includes("<b>"));
});

test("the server's name for a file is taken, whichever way it is written", () => {
  assert.equal(nameIn("attachment; filename=luna-peft.safetensors", "x"), "luna-peft.safetensors");
  assert.equal(nameIn('attachment; filename="a b.safetensors"', "x"), "a b.safetensors");
  assert.equal(nameIn("attachment; filename=e.safetensors; filename*=UTF-8''%C3%A9.safetensors", "x"), "é.safetensors");
  assert.equal(nameIn(null, "x"), "x");
});
