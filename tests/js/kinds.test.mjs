import assert from "node:assert/strict";
import test from "node:test";
import { overrides } from "../../static/js/pages/studio/kinds.js";

test("overrides keep what is not listed, set what is chosen and drop what is given back", () => {
  const before = { "a.safetensors": "sdxl", "gone.safetensors": "flux" };
  const after = overrides(before, { "a.safetensors": "", "b.safetensors": "sd15" });
  assert.deepEqual(after, { "gone.safetensors": "flux", "b.safetensors": "sd15" });
});
